"""Vonage's Messages API: signed webhooks, statuses and inbound messages."""

import hashlib
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import jwt
import pytest
from vonage_jwt import verify_signature

from adapters.gateways.base import (
    Callback,
    CallbackError,
    ErrorClass,
    Inbound,
    Report,
    Status,
)
from tests.adapters.gateways.test_vonage_messages import (
    ERRORS,
    SIGNATURE_SECRET,
    vonage_messages,
)

URL = "http://127.0.0.1:8780/gateways/main/reports"
GATEWAY = vonage_messages("https://api.nexmo.com")
STATUS = {
    "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    "to": "12125550101",
    "from": "Acme",
    "timestamp": "2026-11-24T12:00:00Z",
    "status": "delivered",
    "usage": {"currency": "EUR", "price": "0.0333"},
    "client_ref": "m1",
    "channel": "sms",
    "destination": {"network_code": "310090"},
    "sms": {"count_total": "2"},
}
REPLY = {
    "channel": "sms",
    "message_uuid": "bbbbbbbb-bbbb-cccc-dddd-0123456789ab",
    "to": "15005550006",
    "from": "12125550101",
    "timestamp": "2026-11-24T12:00:00Z",
    "text": "STOP",
    "sms": {"num_messages": "1", "keyword": "STOP"},
}


def callback(
    fields: dict[str, Any] = STATUS, *, secret: str = SIGNATURE_SECRET, **claims: Any
) -> Callback:
    body = json.dumps(fields).encode()
    made = {
        "iss": "Vonage",
        "iat": int(time.time()),
        "jti": "cccccccc",
        "api_key": "abcd1234",
        "payload_hash": hashlib.sha256(body).hexdigest(),
    } | claims
    token = jwt.encode({name: value for name, value in made.items() if value is not None}, secret)
    return Callback("POST", URL, {"authorization": f"Bearer {token}"}, body)


# Signatures


def test_a_signed_webhook_verifies_as_it_does_with_vonages_own_code() -> None:
    made = callback()
    assert verify_signature(made.headers["authorization"].removeprefix("Bearer "), SIGNATURE_SECRET)
    assert GATEWAY.verify(made)


@pytest.mark.parametrize(
    "claims",
    [
        {"payload_hash": None},
        {"payload_hash": "0" * 64},
        {"payload_hash": 7},
        {"iat": None},
        {"iat": "now"},
        {"secret": "another-signature-secret-of-32-by"},
    ],
    ids=str,
)
def test_a_token_that_does_not_prove_it_does_not_verify(claims: dict[str, Any]) -> None:
    assert not GATEWAY.verify(callback(**claims))


@pytest.mark.parametrize(("claim", "off"), [("iat", -400), ("iat", 400), ("exp", -400)])
def test_a_token_of_another_time_does_not_verify(claim: str, off: int) -> None:
    assert not GATEWAY.verify(callback(**{claim: int(time.time()) + off}))


@pytest.mark.parametrize("age", [0, 200, -200])
def test_a_token_counts_for_five_minutes(age: int) -> None:
    assert GATEWAY.verify(callback(iat=int(time.time()) - age))


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x.y.z", "Bearer é", "Basic {token}", "{token}"]
)
def test_a_header_without_a_token_does_not_verify(header: str) -> None:
    made = callback()
    token = made.headers["authorization"].removeprefix("Bearer ")
    headers = {"authorization": header.format(token=token)}
    assert not GATEWAY.verify(Callback("POST", URL, headers, made.body))


def test_a_token_of_another_algorithm_does_not_verify() -> None:
    made = callback()
    claims = {"iat": int(time.time()), "payload_hash": hashlib.sha256(made.body).hexdigest()}
    for token in (
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode(claims, SIGNATURE_SECRET * 2, algorithm="HS512"),
    ):
        headers = {"authorization": f"Bearer {token}"}
        assert not GATEWAY.verify(Callback("POST", URL, headers, made.body))


def test_a_changed_body_does_not_verify() -> None:
    made = callback()
    body = made.body.replace(b"delivered", b"rejected")
    assert not GATEWAY.verify(Callback("POST", URL, made.headers, body))


# Statuses


def test_a_status_is_a_report_with_what_it_cost() -> None:
    [report], inbound = GATEWAY.parse(callback())
    assert inbound == []
    assert report == Report(
        Status.DELIVERED,
        reference="m1",
        gateway_message_id="aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        recipient="+12125550101",
        occurred_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
        price=Decimal("0.0333"),
        currency="EUR",
    )


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("submitted", None, "sent"),
        ("delivered", None, "delivered"),
        ("read", None, "delivered"),
        ("rejected", "1210", "rejected"),
        ("undeliverable", "1260", "undelivered"),
        ("rejected", "1360", "expired"),
        ("undeliverable", "1490", "unknown"),
        ("delivered", "1360", "delivered"),
        ("new-word", None, "unknown"),
    ],
)
def test_a_status_is_read_as_documented(status: str, code: str | None, expected: str) -> None:
    error = {"error": {"type": f"{ERRORS}/messages#{code}", "title": code}} if code else {}
    [report], _ = GATEWAY.parse(callback(STATUS | {"status": status} | error))
    assert (report.status, report.error_code) == (expected, code)


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        ("1240", ErrorClass.OPTOUT),
        ("1190", ErrorClass.RECIPIENT),
        ("1280", ErrorClass.RECIPIENT),
        ("1210", ErrorClass.CONTENT),
        *((code, None) for code in ("1000", "1070", "1100", "1180", "1220", "1330", "1460")),
    ],
)
def test_an_error_code_has_its_class_and_never_asks_to_try_again(
    code: str, error_class: ErrorClass | None
) -> None:
    error = {"type": f"{ERRORS}/messages#{code}", "title": code}
    [report], _ = GATEWAY.parse(callback(STATUS | {"status": "rejected", "error": error}))
    assert report.error_class is error_class


@pytest.mark.parametrize(
    "changes",
    [{"usage": None}, {"usage": [1]}, {"error": "1240"}, {"timestamp": "soon"}, {"client_ref": 1}],
)
def test_an_odd_field_costs_no_report(changes: dict[str, Any]) -> None:
    [report], _ = GATEWAY.parse(callback(STATUS | changes))
    assert report.status is Status.DELIVERED


# Replies


def test_a_reply_is_read_with_numbers_in_e164() -> None:
    assert GATEWAY.parse(callback(REPLY)) == (
        [],
        [Inbound("bbbbbbbb-bbbb-cccc-dddd-0123456789ab", "+12125550101", "+15005550006", "STOP")],
    )


@pytest.mark.parametrize("fields", [STATUS, REPLY])
def test_webhooks_of_other_channels_hold_nothing(fields: dict[str, Any]) -> None:
    assert GATEWAY.parse(callback(fields | {"channel": "whatsapp"})) == ([], [])


def test_a_webhook_of_the_old_version_is_refused_with_the_mend() -> None:
    old = {"message_uuid": "b", "from": {"type": "sms", "number": "12125550101"}, "to": {}}
    with pytest.raises(CallbackError, match="v1"):
        GATEWAY.parse(callback(old))
