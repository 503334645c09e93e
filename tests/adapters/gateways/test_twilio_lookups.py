"""Twilio: messages in doubt found again, and statuses that are asked for."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest

from adapters.gateways.base import (
    ErrorClass,
    Finding,
    Report,
    Status,
    Suspect,
)
from tests.adapters.gateways.twilio_account import ACCOUNT, twilio
from tests.adapters.gateways.wire import Request, Respond, Wire

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


# Recovery


def suspect(name: str = "m1", after: int = 0, lease: int = 60, **changes: Any) -> Suspect:
    values = {"to": "+12125550101", "text": "Hello", "sender": "+15005550006"}
    return Suspect(
        id=name,
        submitted_after=NOW + timedelta(seconds=after),
        lease_until=NOW + timedelta(seconds=lease),
        **(values | changes),
    )


def listed(sid: str, seconds: int = 5, **changes: Any) -> dict[str, Any]:
    return {
        "sid": sid,
        "to": "+12125550101",
        "from": "+15005550006",
        "body": "Hello",
        "direction": "outbound-api",
        "date_created": format_datetime(NOW + timedelta(seconds=seconds)),
    } | changes


async def recovered(wire: Wire, entries: list[Any], *suspects: Suspect) -> list[Finding]:
    wire.script = [Respond(200, {"messages": entries, "next_page_uri": None})]
    async with twilio(wire.url) as gateway:
        return await gateway.recover(suspects)


async def test_a_listed_message_proves_that_it_was_accepted(wire: Wire) -> None:
    assert await recovered(wire, [listed("SM1")], suspect()) == [Finding("m1", "accepted", "SM1")]
    [request] = wire.requests
    assert request.path == f"{ACCOUNT}/Messages.json"
    assert request.query == {
        "To": "+12125550101",
        "From": "+15005550006",
        "PageSize": "1000",
    }


@pytest.mark.parametrize(
    "entry",
    [
        listed("SM1", body="Hello!"),
        listed("SM1", to="+12125550102"),
        listed("SM1", **{"from": "+15005550007"}),
        listed("SM1", seconds=-121),
        listed("SM1", seconds=60 + 5 + 121),
        listed("SM1", direction="inbound"),
        listed("SM1", date_created=None),
        listed("SM1", date_created="yesterday"),
        {},
        None,
    ],
)
async def test_what_does_not_fit_proves_nothing_and_never_absence(wire: Wire, entry: Any) -> None:
    assert await recovered(wire, [entry], suspect()) == []


async def test_one_id_belongs_to_one_message(wire: Wire) -> None:
    twins = [suspect("m1"), suspect("m2"), suspect("m3", sender="")]
    found = await recovered(wire, [listed("SM1"), listed("SM2"), listed("SM1")], *twins)
    assert sorted(finding.gateway_message_id or "" for finding in found) == ["SM1", "SM2"]


async def test_suspects_with_windows_of_their_own_find_the_message_that_fits(wire: Wire) -> None:
    early, late = suspect("early", 0, 60), suspect("late", 1000, 1060)
    found = await recovered(wire, [listed("SM2", 1010), listed("SM1", 10)], late, early)
    assert {(finding.id, finding.gateway_message_id) for finding in found} == {
        ("early", "SM1"),
        ("late", "SM2"),
    }


async def test_all_pages_are_read(wire: Wire) -> None:
    def page(request: Request) -> Respond:
        if "PageToken" in request.query:
            return Respond(200, {"messages": [listed("SM2")], "next_page_uri": None})
        following = f"{ACCOUNT}/Messages.json?Page=1&PageToken=PA1"
        return Respond(200, {"messages": [listed("SM1")], "next_page_uri": following})

    wire.script = page
    async with twilio(wire.url) as gateway:
        assert len(await gateway.recover([suspect("m1"), suspect("m2")])) == 2


@pytest.mark.parametrize("reaction", [Respond(500), Respond(200, b"<"), Respond(429), Respond(401)])
async def test_a_look_up_that_fails_leaves_the_message_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    wire.script = [reaction]
    async with twilio(wire.url) as gateway:
        assert await gateway.recover([suspect()]) == []


async def test_pages_without_end_come_to_an_end(wire: Wire) -> None:
    uri = f"{ACCOUNT}/Messages.json?Page=1"
    wire.script = [Respond(200, {"messages": [], "next_page_uri": uri})]
    async with twilio(wire.url) as gateway:
        assert await gateway.recover([suspect()]) == []
    assert len(wire.requests) < 50


# Poll


async def test_a_poll_reports_status_error_and_absolute_price(wire: Wire) -> None:
    wire.script = [
        Respond(
            200,
            {
                "sid": "SM1",
                "to": "+12125550101",
                "status": "undelivered",
                "error_code": 30005,
                "price": "-0.00750",
                "price_unit": "USD",
                "date_updated": "Tue, 24 Nov 2026 12:00:00 +0000",
            },
        )
    ]
    async with twilio(wire.url) as gateway:
        assert await gateway.poll(["SM1"]) == [
            Report(
                Status.UNDELIVERED,
                gateway_message_id="SM1",
                recipient="+12125550101",
                error_code="30005",
                error_class=ErrorClass.RECIPIENT,
                occurred_at=NOW,
                price=Decimal("0.00750"),
                currency="USD",
            )
        ]
    assert wire.requests[0].path == f"{ACCOUNT}/Messages/SM1.json"


async def test_a_poll_leaves_out_what_has_no_clear_answer(wire: Wire) -> None:
    answers: dict[str, Respond] = {
        "SM1": Respond(404, {"code": 20404}),
        "SM2": Respond(500),
        "SM3": Respond(200, {"sid": "SM3"}),
        "SM4": Respond(200, {"sid": "SM4", "status": "new word"}),
    }
    wire.script = lambda request: answers[request.path.split("/")[-1].removesuffix(".json")]
    async with twilio(wire.url) as gateway:
        reports = await gateway.poll(list(answers))
    assert [(report.gateway_message_id, report.status) for report in reports] == [
        ("SM4", Status.UNKNOWN)
    ]
