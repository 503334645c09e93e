"""Plivo: messages in doubt found again, and statuses that are asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from adapters.gateways.base import ErrorClass, Finding, Report, Status, Suspect
from adapters.gateways.plivo import LISTS
from tests.adapters.gateways.plivo_account import MESSAGES, plivo
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


def listed(uuid: str, seconds: int = 5, **changes: Any) -> dict[str, Any]:
    instant = NOW + timedelta(seconds=seconds, hours=5, minutes=30)
    return {
        "message_uuid": uuid,
        "to_number": "12125550101",
        "from_number": "15005550006",
        "message_direction": "outbound",
        "message_state": "sent",
        "message_time": f"{instant:%Y-%m-%d %H:%M:%S}+05:30",
    } | changes


async def recovered(wire: Wire, entries: list[Any], *suspects: Suspect) -> list[Finding]:
    wire.script = [Respond(200, {"meta": {"next": None}, "objects": entries})]
    async with plivo(wire.url) as gateway:
        return await gateway.recover(suspects)


async def test_a_listed_message_proves_that_it_was_accepted(wire: Wire) -> None:
    assert await recovered(wire, [listed("u1")], suspect()) == [Finding("m1", "accepted", "u1")]
    [request] = wire.requests
    assert request.path == MESSAGES
    assert request.query == {
        "to_number": "12125550101",
        "message_direction": "outbound",
        "message_time__gte": "2026-11-24 11:58:00",
        "limit": "20",
    }


async def test_the_list_is_asked_for_in_utc(wire: Wire) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    await recovered(wire, [], replace(suspect(), submitted_after=elsewhere))
    assert wire.requests[0].query["message_time__gte"] == "2026-11-24 11:58:00"


async def test_a_sender_is_known_by_the_characters_that_plivo_keeps(wire: Wire) -> None:
    entry = listed("u1", from_number="Acme2")
    assert len(await recovered(wire, [entry], suspect(sender="Acme-2"))) == 1


@pytest.mark.parametrize(
    "entry",
    [
        listed("u1", to_number="12125550102"),
        listed("u1", from_number="15005550007"),
        listed("u1", seconds=-121),
        listed("u1", seconds=60 + 5 + 121),
        listed("u1", message_direction="inbound"),
        listed("u1", message_time=None),
        listed("u1", message_time="yesterday"),
        listed("known"),
        {},
        None,
    ],
)
async def test_what_does_not_fit_proves_nothing_and_never_absence(wire: Wire, entry: Any) -> None:
    assert await recovered(wire, [entry], suspect(known=frozenset({"known"}))) == []


async def test_of_two_messages_to_one_number_both_are_found_or_none(wire: Wire) -> None:
    twins = [suspect("m1", text="One"), suspect("m2", text="Two")]
    assert await recovered(wire, [listed("u1")], *twins) == []
    assert len(await recovered(wire, [listed("u1"), listed("u2")], *twins)) == 2


async def test_all_pages_are_read(wire: Wire) -> None:
    def page(request: Request) -> Respond:
        if request.query.get("offset") == "20":
            return Respond(200, {"meta": {"next": None}, "objects": [listed("u1")]})
        following = f"{MESSAGES}?limit=20&offset=20"
        return Respond(200, {"meta": {"next": following}, "objects": []})

    wire.script = page
    async with plivo(wire.url) as gateway:
        assert len(await gateway.recover([suspect()])) == 1


async def test_pages_without_end_come_to_an_end(wire: Wire) -> None:
    wire.script = [Respond(200, {"meta": {"next": f"{MESSAGES}?offset=0"}, "objects": []})]
    async with plivo(wire.url) as gateway:
        assert await gateway.recover([suspect()]) == []
    assert len(wire.requests) < 20


async def test_no_more_lists_are_asked_for_than_plivo_answers_in_a_minute(wire: Wire) -> None:
    suspects = [suspect(f"m{n}", to=f"+1212555{n:04}") for n in range(50)]
    await recovered(wire, [], *suspects)
    assert len(wire.requests) == LISTS


# Poll


async def test_a_poll_reports_status_error_and_price(wire: Wire) -> None:
    body = listed(
        "u1",
        message_state="undelivered",
        error_code="200",
        total_amount="0.00500",
        message_updated_time="2026-11-24 17:30:00.94772+05:30",
    )
    wire.script = [Respond(200, body)]
    async with plivo(wire.url) as gateway:
        [report] = await gateway.poll(["u1"])
    assert wire.requests[0].path == f"{MESSAGES}u1/"
    assert report == Report(
        Status.UNDELIVERED,
        gateway_message_id="u1",
        recipient="+12125550101",
        error_code="200",
        error_class=ErrorClass.OPTOUT,
        occurred_at=NOW.replace(microsecond=947720),
        price=Decimal("0.00500"),
        currency="USD",
    )


async def test_a_poll_leaves_out_what_has_no_clear_answer(wire: Wire) -> None:
    answers = {
        "u1": Respond(404, {"error": "not found"}),
        "u2": Respond(500),
        "u3": Respond(200, {"message_uuid": "u3"}),
        "u4": Respond(200, {"message_uuid": "u4", "message_state": "new word"}),
    }
    wire.script = lambda request: answers[request.path.split("/")[-2]]
    async with plivo(wire.url) as gateway:
        reports = await gateway.poll(list(answers))
    assert [(r.gateway_message_id, r.status) for r in reports] == [("u4", Status.UNKNOWN)]
