"""Vonage's SMS API under contract; its own SDK signs the report."""

import time
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

from vonage import Auth

from adapters.gateways.base import Callback
from tests.adapters.gateways.example import ADDRESSES, Example
from tests.adapters.gateways.wire import Request, Respond

SECRET = "the-signature-secret"
SDK = Auth(api_key="abcd1234", signature_secret=SECRET, signature_method="sha256")


def _accept(request: Request) -> Respond:
    to = request.form["to"]
    part = {"to": to, "message-id": f"0A{to}", "status": "0", "message-price": "0.0333"}
    return Respond(200, {"message-count": "1", "messages": [part]})


def _refuse(request: Request, number: str) -> Respond:
    part = {"status": "7", "error-text": f"Number barred: {number}"}
    return Respond(200, {"message-count": "1", "messages": [part]})


def _sign(callback: Callback) -> Callback:
    fields = dict(parse_qsl(callback.body.decode())) | {"timestamp": str(int(time.time()))}
    return replace(callback, body=urlencode(fields | {"sig": SDK.sign_params(fields)}).encode())


EXAMPLE = Example(
    settings={
        "api_key": "abcd1234",
        "api_secret": "the-api-secret",
        "signature_secret": SECRET,
        "signature_method": "sha256",
    },
    secrets=("the-api-secret", SECRET),
    accept=_accept,
    refuse=_refuse,
    report=Callback(
        "POST",
        ADDRESSES.reports("m1").partition("?")[0],
        {"content-type": "application/x-www-form-urlencoded"},
        b"msisdn=12125550101&to=Acme&messageId=0A1&client-ref=m1&status=delivered&err-code=0"
        b"&price=0.0333&nonce=5f",
    ),
    sign=_sign,
    ages=True,
)
