"""Sinch: signed callbacks, delivery reports of single recipients, inbound messages."""

import base64
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.gateways.base import (
    Addresses,
    Callback,
    CallbackError,
    ErrorClass,
    Inbound,
    Report,
    Status,
    Timeouts,
)
from adapters.gateways.sinch import Sinch, SinchSettings

SECRET = "the-callback-secret"
URL = "https://sms.example.com/gateways/main/reports?sub=s1"
NONCE = "01FJA8B4A7BM43YGWSG9GBV067"
REPORT = {
    "type": "recipient_delivery_report_sms",
    "batch_id": "01FC66621",
    "recipient": "12125550101",
    "code": 401,
    "status": "Dispatched",
    "at": "2026-11-24T16:00:00.000Z",
    "operator_status_at": "2026-11-24T15:59:00Z",
    "client_reference": "s1",
}
MO = {
    "type": "mo_text",
    "id": "01FC66MO",
    "from": "12125550101",
    "to": "15005550006",
    "body": "STOP ünd",
    "received_at": "2026-11-24T16:00:00.000Z",
}


@pytest.fixture
def sinch() -> Sinch:
    settings = SinchSettings(
        service_plan_id="plan1", api_token=SecretStr("t"), callback_secret=SecretStr(SECRET)
    )
    return Sinch(settings, Addresses("main", "https://sms.example.com"), Timeouts(), 8)


def signed(body: bytes, *, secret: str = SECRET, age: float = 0, **headers: str) -> Callback:
    at = str(int(time.time() - age))
    data = body + f".{NONCE}.{at}".encode()
    mac = hmac.digest(secret.encode(), data, "sha256")
    return Callback(
        "POST",
        URL,
        {
            "x-sinch-webhook-signature": base64.b64encode(mac).decode(),
            "x-sinch-webhook-signature-nonce": NONCE,
            "x-sinch-webhook-signature-timestamp": at,
            "x-sinch-webhook-signature-algorithm": "HmacSHA256",
            **headers,
        },
        body,
    )


# Signatures


@pytest.mark.parametrize("body", [b"{}", b'{"body":"\xc3\xbc"}', b""])
def test_a_signature_over_body_nonce_and_time_verifies(sinch: Sinch, body: bytes) -> None:
    assert sinch.verify(signed(body))


def test_the_algorithm_need_not_be_named(sinch: Sinch) -> None:
    callback = signed(b"{}")
    del callback.headers["x-sinch-webhook-signature-algorithm"]
    assert sinch.verify(callback)


@pytest.mark.parametrize(
    "callback",
    [
        signed(b"{}", secret="another"),
        signed(b"{}", **{"x-sinch-webhook-signature": ""}),
        signed(b"{}", **{"x-sinch-webhook-signature": "ünsigned"}),
        signed(b"{}", **{"x-sinch-webhook-signature-nonce": ""}),
        signed(b"{}", **{"x-sinch-webhook-signature-nonce": "other"}),
        signed(b"{}", **{"x-sinch-webhook-signature-timestamp": ""}),
        signed(b"{}", **{"x-sinch-webhook-signature-timestamp": "yesterday"}),
        signed(b"{}", **{"x-sinch-webhook-signature-algorithm": "HmacSHA1"}),
        signed(b"\xff"),
        Callback("POST", URL, {}, b"{}"),
    ],
)
def test_anything_else_does_not(sinch: Sinch, callback: Callback) -> None:
    assert not sinch.verify(callback)


@pytest.mark.parametrize(("age", "good"), [(290, True), (-290, True), (310, False), (-310, False)])
def test_a_signature_is_good_for_five_minutes(sinch: Sinch, age: float, good: bool) -> None:
    assert sinch.verify(signed(b"{}", age=age)) is good


# Delivery reports


def reported(sinch: Sinch, **changes: Any) -> Report:
    [report], inbound = sinch.parse(signed(json.dumps(REPORT | changes).encode()))
    assert inbound == []
    return report


def test_a_report_is_of_a_window_and_a_number(sinch: Sinch) -> None:
    assert reported(sinch) == Report(
        status=Status.SENT,
        submission="s1",
        recipient="+12125550101",
        batch_id="01FC66621",
        occurred_at=datetime(2026, 11, 24, 16, tzinfo=UTC),
    )


def test_the_window_is_not_read_out_of_the_address_which_is_not_signed(sinch: Sinch) -> None:
    report = reported(sinch, client_reference=None)
    assert (report.submission, report.batch_id) == (None, "01FC66621")


@pytest.mark.parametrize(
    ("status", "code", "expected", "error_class"),
    [
        ("Queued", 400, "queued", None),
        ("DISPATCHED", 401, "sent", None),
        ("Delivered", 0, "delivered", None),
        ("Failed", 150, "undelivered", "recipient"),
        ("Failed", 153, "undelivered", None),
        ("Failed", 62, "undelivered", "content"),
        ("Expired", 34, "expired", None),
        ("Rejected", 402, "rejected", None),
        ("Deleted", 300, "rejected", None),
        ("Aborted", 404, "failed", None),
        ("Aborted", 405, "failed", "content"),
        ("Aborted", 406, "expired", None),
        ("Cancelled", 407, "failed", None),
        ("Aborted", 412, "failed", "recipient"),
        ("Aborted", 413, "failed", "account"),
        ("Unknown", 0, "unknown", None),
        ("Something new", 999, "unknown", None),
    ],
)
def test_statuses_and_codes(
    sinch: Sinch, status: str, code: int, expected: str, error_class: str | None
) -> None:
    report = reported(sinch, status=status, code=code)
    assert report.status == expected
    assert report.error_class == (ErrorClass(error_class) if error_class else None)
    assert report.error_code == (None if code in {0, 400, 401} else str(code))


def test_a_time_that_cannot_be_read_costs_no_report(sinch: Sinch) -> None:
    assert reported(sinch, at="soon").occurred_at is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        json.dumps(REPORT | {"recipient": None}).encode(),
        json.dumps(REPORT | {"batch_id": ""}).encode(),
        json.dumps(REPORT | {"status": []}).encode(),
        json.dumps(REPORT | {"type": "delivery_report_sms"}).encode(),
        json.dumps(MO | {"from": None}).encode(),
        json.dumps(MO | {"type": "mo_binary"}).encode(),
    ],
)
def test_what_is_no_report_is_said_to_be_none(sinch: Sinch, body: bytes) -> None:
    with pytest.raises(CallbackError, match="Sinch"):
        sinch.parse(signed(body))


# Inbound messages


@pytest.mark.parametrize(
    ("number", "expected"), [("15005550006", "+15005550006"), ("12345", "12345"), ("+15", "+15")]
)
def test_an_inbound_message_has_numbers_with_plus_and_short_codes_without(
    sinch: Sinch, number: str, expected: str
) -> None:
    assert sinch.parse(signed(json.dumps(MO | {"to": number}).encode())) == (
        [],
        [Inbound("01FC66MO", "+12125550101", expected, "STOP ünd")],
    )
