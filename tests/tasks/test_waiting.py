"""Of every run that is not over it is said what it waits for, and what it waits for in vain."""

from datetime import timedelta
from typing import Any

import pytest

from adapters.gateways.route import read_rules
from data import pace, runs
from data.database import now
from data.tables import CampaignRun
from tasks.routing import Route
from tasks.waiting import waiting
from tests import plans

HOUR = timedelta(hours=1)
GONE = "another-host/|1|1.00|token"
CLAIMED = {"state": "sending", "owner": GONE, "attempt": 1}


def run_of(run_state: str = runs.SENDING, /, **columns: Any) -> CampaignRun:
    """A run of two messages, in this state."""
    run = plans.open_run(state=runs.SENDING)
    plans.add_messages(run, plans.numbers(2), **columns)
    if run_state != runs.SENDING:
        runs.move(run.id, run_state, note="because")
    return runs.get_run(run.id)


def said(run: CampaignRun) -> list[tuple[str, bool]]:
    return [(wait.says, wait.stuck) for wait in waiting(run)]


@pytest.mark.parametrize(
    ("columns", "says", "stuck"),
    [
        ({"retry_at": now() + HOUR, "error_code": "20429"}, "has put them off (20429)", False),
        (
            {**CLAIMED, "lease_until": now() - HOUR},
            "were being sent when their sender was lost",
            True,
        ),
        ({"state": "in_doubt", "submitted_at": now()}, "2 messages are in doubt until", False),
        ({"state": "accepted", "submitted_at": now()}, "wait for a delivery report", False),
        ({"state": "deferred", "opens_at": now() + HOUR}, "hours, the first until", False),
        ({"state": "deferred", "opens_at": now() - HOUR}, "is release-deferred scheduled", True),
    ],
    ids=["throttled", "sender lost", "in doubt", "accepted", "deferred", "overdue"],
)
def test_messages_say_what_they_wait_for(
    database: str, columns: dict[str, Any], says: str, stuck: bool
) -> None:
    ((found, is_stuck),) = said(run_of(**columns))
    assert says in found
    assert is_stuck is stuck


def test_messages_that_go_out_say_how_long_it_will_take(database: str) -> None:
    pace.set_rate(pace.lane_of("sandbox", "+15005550006"), 0.5)
    assert said(run_of()) == [("2 messages go out at 0.5 a second: about 0:00:04 left", False)]


def test_a_concurrency_limit_of_0_is_named(database: str) -> None:
    pace.set_rate(pace.lane_of("sandbox", "+15005550006"), 0)
    ((found, stuck),) = said(run_of())
    assert found.endswith("its concurrency limit is 0")
    assert stuck


def test_of_a_route_the_lane_that_is_held_is_named(database: str) -> None:
    route = Route(read_rules("*: one, two"), {"one": "+15005550001", "two": "+15005550002"})
    run = plans.open_run(gateway="world", route=route.stored())
    plans.add_messages(run, plans.numbers(2), gateway="two")
    pace.set_rate(pace.lane_of("one", "+15005550001"), 10)
    pace.set_rate(pace.lane_of("two", "+15005550002"), 0)
    ((found, stuck),) = said(run)
    assert "the lane of two and sender +15005550002: its concurrency limit is 0" in found
    assert stuck


def test_a_run_that_nobody_sends_says_how_to_go_on(database: str) -> None:
    run = run_of()
    runs.store(run.id, created_at=now() - HOUR)
    ((found, stuck),) = said(runs.get_run(run.id))
    assert f"`sms resume {run.id}`" in found
    assert stuck


def test_a_gateway_that_asked_to_wait_is_named(database: str) -> None:
    lane = pace.lane_of("sandbox", "+15005550006")
    pace.set_rate(lane, 10)
    pace.hold(lane, 20)
    ((found, _),) = said(run_of())
    assert "it was told to wait" in found


def test_messages_that_a_slow_sender_gave_back_are_not_forgotten(database: str) -> None:
    ((found, _),) = said(run_of(runs.RECONCILING))
    assert "wait for release-deferred" in found


def test_a_paused_run_says_how_to_go_on(database: str) -> None:
    run = run_of(runs.PAUSED)
    assert said(run) == [(f"it is paused; `sms resume {run.id}` goes on", False)]


@pytest.mark.parametrize("state", [runs.CANCELLED])
def test_a_run_that_is_over_waits_for_nothing(database: str, state: str) -> None:
    assert said(run_of(state)) == []
