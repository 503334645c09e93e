"""What becomes of messages that cannot go as planned, and of deferred ones whose time has come."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from data import ledger, runs
from data.settings import settings
from data.tables import CampaignRun, Message
from tasks import deferring
from tests import plans
from tests.data.ledger_model import Clock, told_by

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 3, 3, 17, tzinfo=UTC)
"""In New York, on a Tuesday in winter."""
FLORIDA = "+13052000000"


@pytest.fixture(autouse=True)
def clock(database: str, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """It is noon in New York."""
    clock = Clock()
    clock.at = NOON
    told_by(clock, monkeypatch)
    return clock


def campaign(key: str = "sale", number: str = FLORIDA, **columns: Any) -> CampaignRun:
    """A marketing run with one message to somebody in Florida."""
    fields = {
        name: columns.pop(name)
        for name in ("not_after", "parameters", "purpose", "subject")
        if name in columns
    }
    run = plans.open_run(key, **{"purpose": "marketing", "subject": "sale", **fields})
    plans.add_messages(run, [number], subdivisions="FL", **columns)
    return run


def put_aside(run: CampaignRun) -> Message:
    deferring.put_aside(run)
    return message_of(run)


def message_of(run: CampaignRun) -> Message:
    (message,) = plans.messages(run).values()
    return message


def claim(run: CampaignRun) -> list[str]:
    claimed = ledger.claim(
        runs.get_run(run.id), 0, gateway="sandbox", sender="me", lease=HOUR, limit=5
    )
    return [message.id for message in claimed]


# --- refused by a claim -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("opt_out", ("suppressed", "opted_out", "opt_out")),
        ("deactivated", ("suppressed", "deactivated", "deactivated")),
    ],
)
def test_who_is_not_to_be_written_to_any_more_is_suppressed(
    kind: str, told: tuple[str, str, str]
) -> None:
    run = campaign()
    plans.consent_event(kind, FLORIDA, NOON)
    message = put_aside(run)
    assert (message.state, message.reason, message.rule) == told
    assert message.final_at is not None


def test_who_sent_an_unclear_reply_gets_no_marketing() -> None:
    run = campaign()
    plans.unclear_reply(FLORIDA)
    message = put_aside(run)
    assert (message.reason, message.rule) == ("reply_review", "reply_review")
    assert message.final_at is not None


def test_a_message_whose_consent_has_ended_is_blocked() -> None:
    message = put_aside(campaign(consent_ends_at=NOON))
    assert (message.state, message.reason) == ("blocked", "consent_expired")


def test_a_message_past_the_deadline_is_blocked() -> None:
    message = put_aside(campaign(not_after=NOON))
    assert (message.state, message.reason, message.rule) == ("blocked", "deadline", "deadline")


def test_what_may_have_been_accepted_is_in_doubt_instead_of_ended() -> None:
    run = campaign(resend_until=NOON + HOUR)
    plans.opt_out(FLORIDA, NOON)
    assert put_aside(run).state == "in_doubt"


def test_hours_that_have_opened_again_are_the_new_ones() -> None:
    run = campaign(closes_at=NOON - DAY)
    message = put_aside(run)
    assert (message.state, message.closes_at) == ("queued", datetime(2026, 3, 4, 1, tzinfo=UTC))
    assert claim(run) == [message.id]


def test_a_message_outside_its_hours_waits_for_the_next_opening(clock: Clock) -> None:
    clock.at = datetime(2026, 3, 4, 1, 30, tzinfo=UTC)
    message = put_aside(campaign(closes_at=clock.at))
    assert (message.state, message.reason, message.rule) == (
        "deferred",
        "quiet_hours",
        "us-fl/hours",
    )
    assert message.opens_at == datetime(2026, 3, 4, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ({"not_after": datetime(2026, 3, 4, 13, tzinfo=UTC)}, "deadline"),
        ({"consent_ends_at": datetime(2026, 3, 4, 13, tzinfo=UTC)}, "consent_expired"),
    ],
)
def test_nobody_waits_for_an_opening_that_comes_too_late(
    clock: Clock, ends: dict[str, datetime], told: str
) -> None:
    clock.at = datetime(2026, 3, 4, 1, 30, tzinfo=UTC)
    message = put_aside(campaign(closes_at=clock.at, **ends))
    assert (message.state, message.reason) == ("blocked", told)


def test_the_campaigns_own_hours_count_again() -> None:
    run = campaign(parameters={"hours": "14:00-15:00"}, closes_at=NOON)
    message = put_aside(run)
    assert (message.state, message.reason) == ("deferred", "campaign_window")
    assert message.opens_at == NOON + 2 * HOUR


def test_what_can_be_claimed_is_left_alone() -> None:
    run = campaign(closes_at=NOON + HOUR, retry_at=NOON + HOUR)
    assert put_aside(run).closes_at == NOON + HOUR


# --- frequency --------------------------------------------------------------------------------


def sent(key: str, at: datetime, state: str = "accepted", **fields: Any) -> CampaignRun:
    run = campaign(key, **fields)
    plans.change(message_of(run).id, state=state, submitted_at=at)
    return run


def test_the_fourth_message_in_florida_waits_until_the_first_is_a_day_old(clock: Clock) -> None:
    first = NOON - 20 * HOUR
    for key, at, state in [
        ("one", first, "accepted"),
        ("two", NOON - 3 * HOUR, "in_doubt"),
        ("three", NOON - HOUR, "sending"),
    ]:
        sent(key, at, state)
    run = campaign("four", caps=",us-fl/cap,")
    runs.store(run.id, caps=[plans.cap(3)])
    run = runs.get_run(run.id)
    assert claim(run) == []
    message = put_aside(run)
    assert (message.state, message.reason, message.rule) == (
        "deferred",
        "frequency_cap",
        "us-fl/cap",
    )
    assert message.opens_at == first + DAY
    clock.at = first + DAY - timedelta(seconds=5)
    assert deferring.release(run) == 0
    clock.at = first + DAY
    assert deferring.release(run) == 1
    assert claim(run) == [message.id]


def test_a_campaign_on_another_subject_is_not_held_back() -> None:
    for key in ("one", "two", "three"):
        sent(key, NOON - HOUR)
    run = campaign("opening", subject="opening", closes_at=NOON)
    assert put_aside(run).state == "queued"
    assert len(claim(run)) == 1


def test_a_full_cap_that_is_free_only_after_the_deadline_blocks() -> None:
    for key in ("one", "two", "three"):
        sent(key, NOON - HOUR)
    run = campaign("four", closes_at=NOON, not_after=NOON + 2 * HOUR)
    message = put_aside(run)
    assert (message.state, message.reason) == ("blocked", "deadline")


MONTHLY = """
rules:
  - id: "own/monthly"
    step: "frequency"
    says: "Nobody hears from us more than once a month."
    source: "What we promise on our web page"
    confidence: "high"
    countries: ["*"]
    purposes: ["marketing"]
    cap: {max: "1", per: "P1M", scope: "all"}
"""


@pytest.fixture
def monthly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(MONTHLY)
    monkeypatch.setenv("SMS_RULES", str(path))
    settings.cache_clear()


def test_what_the_rules_allow_and_a_claim_refuses_still_waits_a_little(monthly: None) -> None:
    """A calendar month is over after 28 days, and the claim counts 31."""
    sent("one", datetime(2026, 2, 2, 17, tzinfo=UTC))
    run = campaign("two", closes_at=NOON)
    message = put_aside(run)
    assert (message.state, message.reason, message.rule) == (
        "deferred",
        "frequency_cap",
        "own/monthly",
    )
    assert message.opens_at is not None
    assert NOON < message.opens_at < NOON + HOUR


def test_a_cap_that_came_after_the_plan_counts_from_then_on(monthly: None) -> None:
    sent("one", NOON - HOUR)
    run = campaign("two", closes_at=NOON)
    assert put_aside(run).reason == "frequency_cap"
    other = campaign("three", number="+13052000001", closes_at=NOON)
    assert set(put_aside(other).caps.split(",")) == {"", "own/monthly", "us-fl/cap"}
    assert [cap["rule"] for cap in runs.get_run(other.id).caps] == ["own/monthly", "us-fl/cap"]


# --- released ---------------------------------------------------------------------------------


def deferred(**columns: Any) -> CampaignRun:
    values = {"state": "deferred", "opens_at": NOON - HOUR, "reason": "quiet_hours", **columns}
    return campaign(**values)


def test_a_deferred_message_is_queued_when_its_opening_comes(clock: Clock) -> None:
    run = deferred(opens_at=NOON + 3 * DAY)
    assert deferring.release(run) == 0
    assert message_of(run).state == "deferred"
    clock.at = NOON + 3 * DAY
    assert deferring.release(run) == 1
    message = message_of(run)
    assert (message.state, message.reason, message.rule) == ("queued", "", "")
    assert claim(run) == [message.id]


def test_an_opening_that_was_missed_is_followed_by_the_next(clock: Clock) -> None:
    run = deferred()
    clock.at = datetime(2026, 3, 5, 2, tzinfo=UTC)
    assert deferring.release(run) == 0
    message = message_of(run)
    assert message.opens_at == datetime(2026, 3, 5, 13, tzinfo=UTC)
    assert (message.state, message.reason) == ("deferred", "quiet_hours")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"not_after": NOON}, ("blocked", "deadline")),
        ({"consent_ends_at": NOON}, ("blocked", "consent_expired")),
    ],
)
def test_a_deferred_message_is_not_released_too_late(
    columns: dict[str, datetime], told: tuple[str, str]
) -> None:
    run = deferred(**columns)
    assert deferring.release(run) == 0
    message = message_of(run)
    assert (message.state, message.reason) == told


def test_who_opted_out_while_they_waited_is_suppressed() -> None:
    run = deferred()
    plans.opt_out(FLORIDA, NOON)
    assert deferring.release(run) == 0
    assert message_of(run).state == "suppressed"


def test_caps_are_looked_at_when_a_deferred_message_is_due() -> None:
    for key in ("one", "two", "three"):
        sent(key, NOON - 2 * HOUR)
    run = deferred(key="four")
    assert deferring.release(run) == 0
    message = message_of(run)
    assert (message.state, message.reason) == ("deferred", "frequency_cap")
    assert message.opens_at == NOON + 22 * HOUR


def test_every_page_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.deferral.PAGE", 2)
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(5), state="deferred", opens_at=NOON - HOUR)
    assert deferring.release(run) == 5
    assert plans.states(run) == ["queued"] * 5


def test_rules_that_changed_after_the_plan_hold_when_the_run_is_sent(monthly: None) -> None:
    sent("one", NOON - HOUR)
    run = campaign("two")
    runs.store(run.id, versions={"rules": "those of the plan"})
    run = runs.get_run(run.id)
    deferring.look_again(run)
    assert (message_of(run).state, message_of(run).rule) == ("deferred", "own/monthly")
    assert run.versions["rules"] == runs.get_run(run.id).versions["rules"] != "those of the plan"


def test_while_the_rules_are_those_of_the_plan_nothing_is_judged_again() -> None:
    run = campaign()
    deferring.look_again(run)
    assert (message_of(run).state, message_of(run).caps) == ("queued", "")
