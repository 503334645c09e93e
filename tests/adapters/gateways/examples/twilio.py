"""Twilio under contract."""

from dataclasses import replace

from twilio.request_validator import RequestValidator

from adapters.gateways.base import Callback
from tests.adapters.gateways.example import ADDRESSES, Example
from tests.adapters.gateways.wire import Request, Respond

TOKEN = "the-secret"
FORM = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+12125550101"}


def _accept(request: Request) -> Respond:
    return Respond(201, {"sid": "SM" + request.form["To"].removeprefix("+"), "status": "queued"})


def _refuse(request: Request, number: str) -> Respond:
    return Respond(400, {"code": 21211, "message": f"+{number} is not valid"})


def _sign(callback: Callback) -> Callback:
    signature = RequestValidator(TOKEN).compute_signature(callback.url, FORM)
    return replace(callback, headers={**callback.headers, "x-twilio-signature": signature})


EXAMPLE = Example(
    settings={"account_sid": "AC" + "5" * 32, "auth_token": TOKEN},
    secrets=(TOKEN,),
    accept=_accept,
    refuse=_refuse,
    report=Callback(
        "POST",
        ADDRESSES.reports("m1"),
        {"content-type": "application/x-www-form-urlencoded"},
        b"MessageSid=SM1&MessageStatus=delivered&To=%2B12125550101",
    ),
    sign=_sign,
)
