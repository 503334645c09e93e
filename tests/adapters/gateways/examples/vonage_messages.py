"""Vonage's Messages API under contract."""

import hashlib
import json
import time
from dataclasses import replace

import jwt

from adapters.gateways.base import Callback
from tests.adapters.gateways.example import ADDRESSES, Example
from tests.adapters.gateways.wire import Request, Respond

SECRET = "the-signature-secret-of-32-bytes-"


def _accept(request: Request) -> Respond:
    return Respond(202, {"message_uuid": f"aaaaaaaa-{json.loads(request.body)['to']}"})


def _refuse(request: Request, number: str) -> Respond:
    errors = "https://developer.vonage.com/api-errors/messages"
    return Respond(
        422,
        {"type": f"{errors}#1170", "title": "Invalid recipient", "detail": f"{number} is invalid"},
    )


def _sign(callback: Callback) -> Callback:
    digest = hashlib.sha256(callback.body).hexdigest()
    claims = {"iss": "Vonage", "iat": int(time.time()), "jti": "j", "api_key": "abcd1234"}
    token = jwt.encode(claims | {"payload_hash": digest}, SECRET, algorithm="HS256")
    return replace(callback, headers={**callback.headers, "authorization": f"Bearer {token}"})


EXAMPLE = Example(
    settings={
        "api_key": "abcd1234",
        "api_secret": "the-api-secret",
        "signature_secret": SECRET,
    },
    secrets=("the-api-secret", SECRET),
    accept=_accept,
    refuse=_refuse,
    report=Callback(
        "POST",
        ADDRESSES.reports("m1").partition("?")[0],
        {"content-type": "application/json"},
        b'{"message_uuid":"aaaaaaaa-1","to":"12125550101","from":"Acme","channel":"sms",'
        b'"timestamp":"2026-11-24T12:00:00Z","status":"delivered","client_ref":"m1"}',
    ),
    sign=_sign,
    ages=True,
)
