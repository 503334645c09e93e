"""Infobip under contract. It echoes our ids."""

import json
from dataclasses import replace
from typing import Any

from adapters.gateways.base import Callback
from adapters.gateways.callbacks import with_token
from tests.adapters.gateways.example import ADDRESSES, Example
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

REPLY = {"messageId": "77", "from": "12125550101", "to": "15005550006", "text": "STOP"}


def _entries(request: Request) -> list[dict[str, Any]]:
    # A look-up has no body.
    messages = json.loads(request.body)["messages"] if request.body else []
    asked = [to for message in messages for to in message["destinations"]]
    return [
        {"messageId": to["messageId"], "destination": to["to"], "status": PENDING} for to in asked
    ]


def _accept(request: Request) -> Respond:
    return Respond(200, {"bulkId": "BULK-1", "messages": _entries(request)})


def _refuse(request: Request, number: str) -> Respond:
    rejected = {
        "groupId": 5,
        "groupName": "REJECTED",
        "id": 52,
        "name": "REJECTED_DESTINATION",
        "description": f"{number} is no destination",
    }
    entries = [
        entry | ({"status": rejected} if entry["destination"] == number else {})
        for entry in _entries(request)
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
    reply=Callback(
        "POST",
        ADDRESSES.inbound,
        {"content-type": "application/json"},
        json.dumps({"results": [REPLY]}).encode(),
        "reply",
    ),
    sign=_sign,
)
