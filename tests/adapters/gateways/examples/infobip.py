"""Infobip under contract.

It echoes our ids; here it does not, because the contract asks for ids that end with the number.
"""

import json
from dataclasses import replace
from typing import Any

from adapters.gateways.base import Callback
from adapters.gateways.callbacks import with_token
from tests.adapters.gateways.example import ADDRESSES, Example, numbers
from tests.adapters.gateways.wire import Request, Respond

KEY, TOKEN = "the-api-key", "a-token-of-our-own-making"
PENDING = {"groupId": 1, "groupName": "PENDING", "id": 26, "name": "PENDING_ACCEPTED"}
REPORT = {
    "bulkId": "BULK-1",
    "messageId": "m1",
    "to": "12125550101",
    "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"},
    "error": {"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR", "permanent": False},
}


def _entry(number: str) -> dict[str, Any]:
    return {"messageId": f"IB{number}", "destination": number, "status": PENDING}


def _accept(request: Request) -> Respond:
    return Respond(200, {"bulkId": "BULK-1", "messages": [*map(_entry, numbers(request))]})


def _refuse(request: Request, number: str) -> Respond:
    rejected = {
        "groupId": 5,
        "groupName": "REJECTED",
        "id": 52,
        "name": "REJECTED_DESTINATION",
        "description": f"{number} is no destination",
    }
    entries = [
        _entry(each) | ({"status": rejected} if each == number else {}) for each in numbers(request)
    ]
    return Respond(200, {"bulkId": "BULK-1", "messages": entries})


def _sign(callback: Callback) -> Callback:
    return replace(callback, url=with_token(callback.url, TOKEN))


EXAMPLE = Example(
    settings={"api_key": KEY, "callback_token": TOKEN},
    secrets=(KEY, TOKEN),
    accept=_accept,
    refuse=_refuse,
    report=Callback(
        "POST",
        ADDRESSES.reports("m1"),
        {"content-type": "application/json"},
        json.dumps({"results": [REPORT]}).encode(),
    ),
    sign=_sign,
)
