"""Kannel under contract."""

from dataclasses import replace

from adapters.gateways import callbacks
from adapters.gateways.base import Callback
from tests.adapters.gateways.example import ADDRESSES, Example
from tests.adapters.gateways.wire import Request, Respond

TOKEN = "the-callback-token"
REPORT = "&type=1&id=5d27af04&answer="
REPLY = "?from=%2B12125550101&to=%2B15005550006&text=STOP&charset=UTF-8&id=960876fa"


def _accept(request: Request) -> Respond:
    return Respond(202, b"0: Accepted for delivery", {"server": "Kannel/1.4.5"})


def _refuse(request: Request, number: str) -> Respond:
    said = f"Number(s) has/have been denied by white- and/or black-lists. +{number}"
    return Respond(400, said.encode(), {"server": "Kannel/1.4.5"})


def _sign(callback: Callback) -> Callback:
    escapes = REPORT if callback.kind == "report" else REPLY
    url = callbacks.with_token(callback.url.removesuffix(escapes), TOKEN)
    return replace(callback, url=f"{url}&{escapes[1:]}")


EXAMPLE = Example(
    settings={"username": "tester", "password": "the-password", "callback_token": TOKEN},
    secrets=("the-password", TOKEN),
    accept=_accept,
    refuse=_refuse,
    own_ids=False,
    report=Callback("GET", ADDRESSES.reports("m1") + REPORT, {}, b""),
    reply=Callback("GET", ADDRESSES.inbound + REPLY, {}, b"", "reply"),
    sign=_sign,
)
