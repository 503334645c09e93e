"""Vonage's look-ups by the Reports API, of both of its gateways."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from adapters.gateways.base import ErrorClass, Finding, Report, Status, Suspect
from adapters.gateways.vonage_account import account_url
from tests.adapters.gateways.test_vonage import KEY, vonage
from tests.adapters.gateways.test_vonage_messages import vonage_messages
from tests.adapters.gateways.wire import Respond, Wire

pytestmark = pytest.mark.anyio

THEN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RECORD = {"message_id": "0A1", "client_ref": "m1", "to": "12125550101", "status": "delivered"}


def suspect(**changes: Any) -> Suspect:
    values = {
        "id": "m1",
        "to": "+12125550101",
        "text": "Hello",
        "sender": "Acme",
        "submitted_after": THEN,
        "lease_until": THEN + timedelta(minutes=1),
    }
    return Suspect(**(values | changes))


async def recovered(wire: Wire, *records: Any, **changes: Any) -> list[Finding]:
    wire.script = [Respond(200, {"request_status": "SUCCESS", "records": list(records)})]
    async with vonage(wire.url) as gateway:
        return await gateway.recover([suspect(**changes)])


async def test_a_suspect_is_looked_up_by_number_and_time(wire: Wire) -> None:
    await recovered(wire)
    [request] = wire.requests
    assert (request.method, request.path) == ("GET", "/v2/reports/records")
    assert request.query == {
        "account_id": KEY,
        "product": "SMS",
        "direction": "outbound",
        "to": "12125550101",
        "date_start": "2026-11-24T11:58:00Z",
        "date_end": "2026-11-24T12:03:05Z",
    }
    assert request.headers["authorization"].startswith("Basic ")


async def test_no_look_up_reaches_over_more_than_24_hours(wire: Wire) -> None:
    await recovered(wire, lease_until=THEN + timedelta(days=3))
    assert wire.requests[0].query["date_end"] == "2026-11-25T11:58:00Z"


async def test_a_record_with_our_reference_proves_acceptance(wire: Wire) -> None:
    other = RECORD | {"message_id": "0A0", "client_ref": "m0"}
    assert await recovered(wire, other, RECORD) == [Finding("m1", "accepted", "0A1")]


@pytest.mark.parametrize(
    "record",
    [
        {**RECORD, "client_ref": "m2"},
        {**RECORD, "client_ref": None},
        {**RECORD, "message_id": ""},
        {"to": "12125550101"},
        "m1",
    ],
)
async def test_any_other_record_proves_nothing(wire: Wire, record: object) -> None:
    assert await recovered(wire, record) == []


async def test_polled_records_are_reports_of_parts(wire: Wire) -> None:
    record = RECORD | {
        "status": "failed",
        "error_code": "9",
        "date_finalized": "2026-11-24T12:00:05+0000",
        "total_price": "0.0333",
        "currency": "EUR",
    }
    wire.script = [Respond(200, {"records": [record, {"message_id": None}]})]
    async with vonage(wire.url) as gateway:
        reports = await gateway.poll([f"0A{i}" for i in range(21)])
    assert reports[0] == Report(
        Status.UNDELIVERED,
        reference="m1",
        gateway_message_id="0A1",
        recipient="+12125550101",
        part="0A1",
        error_code="9",
        error_class=ErrorClass.OPTOUT,
        occurred_at=THEN + timedelta(seconds=5),
    )
    assert sorted(len(request.query["id"].split(",")) for request in wire.requests) == [1, 20]
    assert "date_start" not in wire.requests[0].query


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://rest.nexmo.com", "https://api.nexmo.com"),
        ("https://api-eu.nexmo.com", "https://api.nexmo.com"),
        ("http://127.0.0.1:8790", "http://127.0.0.1:8790"),
        ("https://evil.example/.nexmo.com", "https://evil.example/.nexmo.com"),
        ("https://nexmo.com.example", "https://nexmo.com.example"),
    ],
)
def test_vonages_look_ups_have_a_host_of_their_own(base_url: str, expected: str) -> None:
    assert account_url(base_url) == expected


# The Messages API


async def test_records_of_the_messages_api_are_asked_for_by_their_product(wire: Wire) -> None:
    wire.script = [Respond(200, {"records": [RECORD]})]
    async with vonage_messages(wire.url) as gateway:
        assert await gateway.recover([suspect()]) == [Finding("m1", "accepted", "0A1")]
    assert wire.requests[0].query["product"] == "MESSAGES"


async def test_polled_records_of_the_messages_api_are_whole_messages(wire: Wire) -> None:
    record = RECORD | {
        "status": "rejected",
        "error_code": "1240",
        "total_price": "0.0333",
        "currency": "EUR",
    }
    wire.script = [Respond(200, {"records": [record]})]
    async with vonage_messages(wire.url) as gateway:
        [report] = await gateway.poll(["0A1"])
    assert report == Report(
        Status.REJECTED,
        reference="m1",
        gateway_message_id="0A1",
        recipient="+12125550101",
        error_code="1240",
        error_class=ErrorClass.OPTOUT,
        price=Decimal("0.0333"),
        currency="EUR",
    )
