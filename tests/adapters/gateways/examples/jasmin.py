"""Jasmin under contract."""

from dataclasses import replace

from adapters.gateways import callbacks
from adapters.gateways.base import Callback
from tests.adapters.gateways.example import ADDRESSES, Example
from tests.adapters.gateways.wire import Request, Respond

TOKEN = "the-callback-token"


def _accept(request: Request) -> Respond:
    return Respond(200, f'Success "07033084-{request.form["to"]}"'.encode())


def _refuse(request: Request, number: str) -> Respond:
    return Respond(400, f'Error "Argument [to] has an invalid value: [+{number}]."'.encode())


def _sign(callback: Callback) -> Callback:
    return replace(callback, url=callbacks.with_token(callback.url, TOKEN))


EXAMPLE = Example(
    settings={"username": "tester", "password": "the-password", "callback_token": TOKEN},
    secrets=("the-password", TOKEN),
    accept=_accept,
    refuse=_refuse,
    report=Callback(
        "POST",
        ADDRESSES.reports("m1"),
        {"content-type": "application/x-www-form-urlencoded"},
        b"id=16fd2706&level=2&message_status=DELIVRD&connector=c&id_smsc=2567&err=000",
    ),
    reply=Callback(
        "POST",
        ADDRESSES.inbound,
        {"content-type": "application/x-www-form-urlencoded"},
        b"id=77&from=12125550101&to=15005550006&coding=0&content=STOP&binary=53544f50",
        "reply",
    ),
    sign=_sign,
)
