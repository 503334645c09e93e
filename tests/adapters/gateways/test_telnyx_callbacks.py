"""Telnyx: signatures, delivery reports and inbound messages."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from adapters.gateways.base import (
    Callback,
    CallbackError,
    ErrorClass,
    Inbound,
    Report,
    Status,
)
from adapters.gateways.telnyx import STATUSES
from tests.adapters.gateways.examples.telnyx import EXAMPLE, sign
from tests.adapters.gateways.telnyx_account import telnyx

GATEWAY = telnyx("https://api.telnyx.com")
URL = "https://sms.example.com/gateways/main/reports?ref=m1"
# The address called is not signed: here that of another message.
ADDRESS = URL.replace("m1", "m2")
OURS = {"webhook_url": URL}
REPORT = EXAMPLE.report or Callback("", "", {}, b"")


# Signatures


@pytest.mark.parametrize(
    ("seconds", "fresh"), [(0, True), (-290, True), (290, True), (-310, False), (310, False)]
)
def test_a_signature_counts_for_five_minutes(seconds: int, fresh: bool) -> None:
    assert GATEWAY.verify(sign(REPORT, time.time() + seconds)) is fresh


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"telnyx-timestamp": ""},
        {"telnyx-timestamp": "now"},
        {"telnyx-timestamp": "٣"},
        {"telnyx-timestamp": "9" * 5000},
        {"telnyx-signature-ed25519": ""},
        {"telnyx-signature-ed25519": "é"},
        {"telnyx-signature-ed25519": "AAAA"},
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_a_callback_without_a_good_signature_is_refused(headers: dict[str, str]) -> None:
    signed = sign(REPORT)
    assert GATEWAY.verify(signed)
    given = {**signed.headers, **headers} if headers else {}
    assert not GATEWAY.verify(replace(signed, headers=given))


def test_the_time_is_signed_too() -> None:
    signed = sign(REPORT, time.time() - 60)
    later = {**signed.headers, "telnyx-timestamp": str(int(time.time()))}
    assert not GATEWAY.verify(replace(signed, headers=later))


# Callbacks


def parsed(event: dict[str, Any]) -> tuple[list[Report], list[Inbound]]:
    return GATEWAY.parse(Callback("POST", ADDRESS, {}, json.dumps({"data": event}).encode()))


def finalized(status: str = "delivered", **payload: Any) -> dict[str, Any]:
    to = [{"phone_number": "+12125550101", "status": status, "carrier": "X"}]
    return {
        "event_type": "message.finalized",
        "occurred_at": "2026-11-24T12:00:00.574+00:00",
        "payload": {"id": "u1", "direction": "outbound", "to": to, "errors": [], **OURS, **payload},
    }


@pytest.mark.parametrize("kind", ["message.sent", "message.finalized"])
@pytest.mark.parametrize(("word", "status"), [*STATUSES.items(), ("new word", Status.UNKNOWN)])
def test_an_event_about_a_message_is_a_report_with_our_reference(
    kind: str, word: str, status: Status
) -> None:
    cost = {"amount": "0.0051", "currency": "USD"}
    assert parsed(finalized(word, cost=cost) | {"event_type": kind}) == (
        [
            Report(
                status,
                reference="m1",
                gateway_message_id="u1",
                recipient="+12125550101",
                occurred_at=datetime(2026, 11, 24, 12, 0, 0, 574_000, tzinfo=UTC),
                price=Decimal("0.0051"),
                currency="USD",
            )
        ],
        [],
    )


@pytest.mark.parametrize("signed", [{}, {"webhook_url": None}, {"webhook_url": 1}])
def test_our_reference_is_read_from_what_is_signed_alone(signed: dict[str, Any]) -> None:
    event = finalized()
    event["payload"] = {**event["payload"], "webhook_url": None, **signed}
    [report], _ = parsed(event)
    assert (report.reference, report.gateway_message_id) == (None, "u1")


@pytest.mark.parametrize(
    ("code", "status", "error_class"),
    [
        ("40300", Status.UNDELIVERED, ErrorClass.OPTOUT),
        ("40012", Status.UNDELIVERED, ErrorClass.RECIPIENT),
        ("40003", Status.UNDELIVERED, ErrorClass.CONTENT),
        ("20100", Status.UNDELIVERED, ErrorClass.ACCOUNT),
        ("40005", Status.EXPIRED, None),
        ("40014", Status.EXPIRED, None),
        ("40002", Status.UNDELIVERED, None),
        ("40318", Status.UNDELIVERED, None),
        ("49999", Status.UNDELIVERED, None),
    ],
)
def test_an_error_code_of_a_report_has_its_class_and_never_retry(
    code: str, status: Status, error_class: ErrorClass | None
) -> None:
    [report], _ = parsed(finalized("delivery_failed", errors=[{"code": code, "title": "No"}]))
    assert (report.status, report.error_code) == (status, code)
    assert report.error_class is error_class


@pytest.mark.parametrize("text", ["STOP", "", "Hola ñ 🎉"])
def test_a_received_message_is_inbound(text: str) -> None:
    event = {
        "event_type": "message.received",
        "payload": {
            "id": "u2",
            "direction": "inbound",
            "from": {"phone_number": "+12125550101", "carrier": "X"},
            "to": [{"phone_number": "+15005550006", "status": "webhook_delivered"}],
            "text": text,
        },
    }
    assert parsed(event) == ([], [Inbound("u2", "+12125550101", "+15005550006", text)])


def test_an_event_of_another_kind_says_nothing_and_is_taken() -> None:
    assert parsed({"event_type": "messaging-profile.spend-limit-reached"}) == ([], [])


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event_type": None},
        {"event_type": "message.finalized"},
        finalized(id=None),
        finalized(to=[]),
        finalized(to="+12125550101"),
        {"event_type": "message.received", "payload": {"id": "u2"}},
        {"event_type": "message.received", "payload": {"from": {"phone_number": "+1"}}},
    ],
)
def test_an_event_without_what_it_is_about_is_an_error(event: dict[str, Any]) -> None:
    with pytest.raises(CallbackError):
        parsed(event)
