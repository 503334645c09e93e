"""Sinch under contract."""

import json
import time
from dataclasses import replace

from sinch.domains.authentication.sinch_events.v1 import authentication_validation as signing

from adapters.gateways.base import Callback
from tests.adapters.gateways.example import ADDRESSES, SUBMISSION, Example, numbers
from tests.adapters.gateways.wire import Request, Respond

TOKEN, SECRET = "the-token", "the-callback-secret"
REPORT = {
    "type": "recipient_delivery_report_sms",
    "batch_id": "01FC66621",
    "recipient": "12125550101",
    "code": 0,
    "status": "Delivered",
    "at": "2026-11-24T16:00:00.000Z",
    "client_reference": SUBMISSION,
}


def _accept(request: Request) -> Respond:
    to = numbers(request)
    return Respond(201, {"id": f"01FC{to[0]}", "to": to, "canceled": False})


def _refuse(request: Request, number: str) -> Respond:
    text = f"The format of parameter 'to[0]' is invalid; value '{number}' is not a valid MSISDN"
    return Respond(400, {"code": "syntax_invalid_parameter_format", "text": text})


def _sign(callback: Callback) -> Callback:
    nonce, at = "01FJA8B4A7BM43YGWSG9GBV067", str(int(time.time()))
    signed = signing.compute_signed_data(callback.body.decode(), nonce, at)
    return replace(
        callback,
        headers={
            **callback.headers,
            "x-sinch-webhook-signature": signing.calculate_sinch_event_signature(signed, SECRET),
            "x-sinch-webhook-signature-nonce": nonce,
            "x-sinch-webhook-signature-timestamp": at,
            "x-sinch-webhook-signature-algorithm": "HmacSHA256",
        },
    )


EXAMPLE = Example(
    settings={"service_plan_id": "plan1", "api_token": TOKEN, "callback_secret": SECRET},
    secrets=(TOKEN, SECRET),
    accept=_accept,
    refuse=_refuse,
    own_ids=False,
    report=Callback(
        "POST",
        ADDRESSES.reports_of(SUBMISSION),
        {"content-type": "application/json"},
        json.dumps(REPORT).encode(),
    ),
    sign=_sign,
    ages=True,
)
