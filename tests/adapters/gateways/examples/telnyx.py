"""Telnyx under contract."""

import base64
import json
import time
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.gateways.base import Callback
from tests.adapters.gateways.example import ADDRESSES, Example
from tests.adapters.gateways.wire import Request, Respond

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"0" * 32)
PUBLIC = base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
API_KEY = "KEY-the-secret"
EVENT = {
    "event_type": "message.finalized",
    "occurred_at": "2026-11-24T12:00:00.000+00:00",
    "payload": {
        "id": "u1",
        "to": [{"phone_number": "+12125550101", "status": "delivered"}],
        "webhook_url": ADDRESSES.reports("m1"),
    },
}


def _accept(request: Request) -> Respond:
    to = json.loads(request.body)["to"]
    return Respond(200, {"data": {"id": f"u{to.removeprefix('+')}", "parts": 1}})


def _refuse(request: Request, number: str) -> Respond:
    error = {"code": "40310", "title": "Invalid 'to' address", "detail": f"+{number} is invalid"}
    return Respond(400, {"errors": [error]})


def sign(callback: Callback, moment: float | None = None) -> Callback:
    stamp = str(int(time.time() if moment is None else moment))
    signature = PRIVATE.sign(f"{stamp}|".encode() + callback.body)
    headers = {
        "telnyx-timestamp": stamp,
        "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
    }
    return replace(callback, headers={**callback.headers, **headers})


EXAMPLE = Example(
    settings={"api_key": API_KEY, "public_key": PUBLIC},
    secrets=(API_KEY,),
    accept=_accept,
    refuse=_refuse,
    report=Callback(
        "POST",
        ADDRESSES.reports("m1"),
        {"content-type": "application/json"},
        json.dumps({"data": EVENT}).encode(),
    ),
    sign=sign,
    ages=True,
)
