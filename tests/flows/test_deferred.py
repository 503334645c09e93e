"""Messages that wait for their recipients' hours, and what becomes of them."""

import json
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from data import runs
from data.database import now
from flows.commands import services
from flows.release_deferred import release_deferred
from flows.resume_campaign import resume_campaign
from tests import plans
from tests.flows.campaigns import Desk

# One of them has early morning, whatever the time.
ZONES = ["Europe/Berlin", "America/Los_Angeles", "Asia/Tokyo", "Pacific/Auckland", "Asia/Dubai"]


def asleep() -> str:
    """A zone where marketing may not go out for hours yet."""
    return next(zone for zone, hour in hours().items() if hour >= 21 or hour < 7)


def awake() -> str:
    """A zone where it may go out for an hour at least."""
    return next(zone for zone, hour in hours().items() if 9 <= hour < 19)


def hours() -> dict[str, int]:
    return {zone: now().astimezone(ZoneInfo(zone)).hour for zone in ZONES}


@pytest.fixture
def people(desk: Desk) -> list[str]:
    return desk.people(3)


@pytest.fixture(autouse=True, scope="module")
def deployed(installation: dict[str, str]) -> None:
    """`resume-campaign` can be started, and no worker is there to do it."""
    services._create_work_pool(services.WORK_POOL)
    resume_campaign.to_deployment("resume-campaign", work_pool_name=services.WORK_POOL).apply()


def marketing(desk: Desk, people: list[str], **fields: object) -> Path:
    audience = desk.audience(people, timezone=asleep(), opt_in="yes")
    text = "Your order is ready. Reply STOP to opt out"
    return desk.campaign(audience, purpose="marketing", message=text, **fields)


def rows(desk: Desk, run_id: str) -> list[tuple[str, str]]:
    found = json.loads(desk.sms("results", run_id, "--format", "json").stdout)
    return [(record["outcome"], record["reason"]) for record in found]


def due(run_id: str, zone: str) -> None:
    """Let the opening of a run's messages have come, and the recipients be in a zone."""
    for message in plans.messages(runs.get_run(run_id)).values():
        hour = timedelta(hours=1)
        plans.change(message.id, opens_at=now() - hour, closes_at=now() + hour, zones=zone)


def test_what_is_outside_its_hours_is_deferred_to_their_opening(
    desk: Desk, people: list[str]
) -> None:
    said = desk.sms("send", marketing(desk, people))
    assert (said.code, said.err) == (0, "")
    assert rows(desk, said.run_id) == [("deferred", "quiet_hours")] * 3
    run = runs.get_run(said.run_id)
    opens = {message.opens_at for message in plans.messages(run).values()}
    (at,) = opens
    assert at is not None
    assert at.astimezone(ZoneInfo(asleep())).hour == 8
    assert timedelta(hours=1) < at - now() < timedelta(hours=13)
    assert run.state == runs.RECONCILING
    assert desk.messages(people) == [0, 0, 0]


def test_what_would_open_after_the_deadline_is_blocked_by_it(desk: Desk, people: list[str]) -> None:
    soon = now() + timedelta(minutes=30)
    said = desk.sms("send", marketing(desk, people, not_after=soon.isoformat()))
    assert said.code == 0
    assert rows(desk, said.run_id) == [("blocked", "deadline")] * 3
    assert runs.get_run(said.run_id).state == runs.FINISHED
    assert desk.messages(people) == [0, 0, 0]


def test_released_when_due_and_not_before_and_not_to_who_opted_out_meanwhile(
    desk: Desk, people: list[str]
) -> None:
    run_id = desk.sms("send", marketing(desk, people)).run_id
    plans.opt_out(people[0], now())
    assert run_id not in release_deferred()
    due(run_id, awake())
    assert run_id in release_deferred()
    assert run_id not in release_deferred(), "one is under way"
    assert desk.messages(people) == [0, 0, 0]
    # As the worker does that it was handed over to.
    resume_campaign(run_id, unpause=False)
    assert desk.messages(people) == [0, 1, 1]
    assert rows(desk, run_id) == [("suppressed", "opted_out"), *[("delivered", "delivered")] * 2]
    assert runs.get_run(run_id).state == runs.FINISHED
    assert desk.messages(people) == [0, 1, 1]


def test_a_cancelled_run_releases_nothing(desk: Desk, people: list[str]) -> None:
    run_id = desk.sms("send", marketing(desk, people)).run_id
    assert desk.sms("cancel", run_id).code == 0
    due(run_id, awake())
    assert run_id not in release_deferred()
    assert rows(desk, run_id) == [("cancelled", "run_cancelled")] * 3
    assert desk.messages(people) == [0, 0, 0]


def test_what_is_due_where_the_hours_have_ended_waits_for_the_next_ones(
    desk: Desk, people: list[str]
) -> None:
    run_id = desk.sms("send", marketing(desk, people)).run_id
    due(run_id, asleep())
    resume_campaign(run_id, unpause=False)
    assert rows(desk, run_id) == [("deferred", "quiet_hours")] * 3
    assert run_id not in release_deferred()
    assert desk.messages(people) == [0, 0, 0]


def test_nothing_is_released_past_the_deadline(desk: Desk, people: list[str]) -> None:
    ends = now() + timedelta(days=3)
    run_id = desk.sms("send", marketing(desk, people, not_after=ends.isoformat())).run_id
    runs.store(run_id, not_after=now())
    due(run_id, awake())
    resume_campaign(run_id, unpause=False)
    assert rows(desk, run_id) == [("blocked", "deadline")] * 3
    assert desk.messages(people) == [0, 0, 0]
