"""The sending ledger: what may be claimed, and what an answer may change."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from data import deferral, doubts, ledger, runs
from data.database import now, writing
from data.ledger import Settled
from data.senders import this_sender
from tests import plans

LEASE = timedelta(seconds=60)


def claim(run: runs.CampaignRun, sender: str = "me", limit: int = 10) -> list[ledger.Claimed]:
    return ledger.claim(run, 0, gateway="sandbox", sender=sender, lease=LEASE, limit=limit)


def record(sender: str, *settled: Settled) -> None:
    with writing() as connection:
        ledger.record(connection, sender, settled)


def test_a_message_is_claimed_once(database: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(3))
    assert len(claim(run, "one", limit=2)) == 2
    assert len(claim(run, "two")) == 1
    assert claim(run, "three") == []


def test_a_claim_is_stored_before_anything_is_sent(database: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1))
    claim(run, "me")
    (message,) = plans.messages(run).values()
    assert (message.state, message.owner, message.attempt) == ("sending", "me", 1)
    assert message.lease_until is not None
    assert message.lease_until > now()


@pytest.mark.parametrize("state", [runs.PAUSED, runs.CANCELLED])
def test_nothing_is_claimed_of_a_run_that_is_not_sending(database: str, state: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1))
    runs.move(run.id, state)
    assert claim(run) == []


def test_nothing_is_claimed_past_the_deadline(database: str) -> None:
    run = plans.open_run(not_after=now() - timedelta(seconds=1))
    plans.add_messages(run, plans.numbers(1))
    assert claim(run) == []


@pytest.mark.parametrize("ends", ["closes_at", "consent_ends_at"])
@pytest.mark.parametrize(("seconds", "claimed"), [(0, 0), (60, 1)])
def test_nothing_is_claimed_outside_the_hours_or_past_the_consent(
    database: str, ends: str, seconds: int, claimed: int
) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1), **{ends: now() + timedelta(seconds=seconds)})
    assert len(claim(run)) == claimed


@pytest.mark.parametrize("kind", ["opt_out", "deactivated"])
def test_who_opts_out_or_is_deactivated_after_the_plan_is_not_claimed(
    database: str, kind: str
) -> None:
    run = plans.open_run()
    leaving, staying = plans.numbers(2)
    plans.add_messages(run, [leaving, staying])
    plans.consent_event(kind, leaving, now())
    assert [claimed.recipient for claimed in claim(run)] == [staying]


@pytest.mark.parametrize(("purpose", "claimed"), [("marketing", 0), ("transactional", 1)])
def test_who_sent_an_unclear_reply_is_sent_no_marketing(
    database: str, purpose: str, claimed: int
) -> None:
    run = plans.open_run(purpose=purpose)
    (number,) = plans.numbers(1)
    plans.add_messages(run, [number])
    plans.unclear_reply(number)
    assert len(claim(run)) == claimed


@pytest.mark.parametrize(
    ("country", "at", "claimed"),
    [
        ("US", datetime(2027, 1, 30, tzinfo=UTC), 1),
        ("US", datetime(2027, 1, 31, tzinfo=UTC), 0),
        ("PR", datetime(2027, 1, 31, tzinfo=UTC), 0),
        ("DE", datetime(2027, 1, 31, tzinfo=UTC), 1),
    ],
)
def test_an_opt_out_of_one_purpose_counts_for_all_in_the_united_states_from_2027_on(
    database: str, monkeypatch: pytest.MonkeyPatch, country: str, at: datetime, claimed: int
) -> None:
    monkeypatch.setattr(ledger, "clock", lambda _: at)
    run = plans.open_run(purpose="transactional")
    (number,) = plans.numbers(1)
    plans.add_messages(run, [number], country=country)
    plans.consent_event("opt_out", number, now(), scope="marketing")
    assert len(claim(run)) == claimed


def test_a_delayed_message_is_not_claimed_before_its_time(database: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1))
    (claimed,) = claim(run)
    again = now() + timedelta(hours=1)
    record("me", Settled(claimed.id, claimed.attempt, "queued", retry_at=again))
    assert claim(run) == []
    assert ledger.next_retry(run.id, 0, "sandbox") == again


def test_an_answer_counts_only_under_the_attempt_that_asked(database: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1))
    (claimed,) = claim(run)
    record("me", Settled(claimed.id, claimed.attempt + 1, "accepted", gateway_message_id="SM1"))
    record("another", Settled(claimed.id, claimed.attempt, "rejected"))
    assert plans.states(run) == ["sending"]


def test_an_answer_never_undoes_a_report_that_came_first(database: str) -> None:
    run = plans.open_run()
    (message_id,) = plans.add_messages(run, plans.numbers(1))
    (claimed,) = claim(run)
    plans.change(message_id, state="accepted", status="delivered", status_rank=40)
    record("me", Settled(claimed.id, claimed.attempt, "in_doubt"))
    record("me", Settled(claimed.id, claimed.attempt, "accepted", gateway_message_id="SM1"))
    (message,) = plans.messages(run).values()
    assert (message.state, message.status, message.gateway_message_id) == (
        "accepted",
        "delivered",
        "SM1",
    )


def test_what_a_dead_sender_held_is_in_doubt_and_never_claimed_again(database: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = this_sender()
    dead = mine.replace(f"|{os.getpid()}|", f"|{child.pid}|")
    child.kill()
    child.wait()
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(2))
    claim(run, dead, limit=1)
    claim(run, mine, limit=1)
    assert doubts.strand(run.id) == 1
    assert plans.states(run) == ["in_doubt", "sending"]
    assert claim(run) == []


def test_what_a_sender_elsewhere_holds_is_left_until_its_lease_ends(database: str) -> None:
    run = plans.open_run()
    (message_id,) = plans.add_messages(run, plans.numbers(1))
    claim(run, "another-host/1|7|0.00")
    assert doubts.strand(run.id) == 0
    plans.change(message_id, lease_until=now() - timedelta(seconds=1))
    assert doubts.strand(run.id) == 1
    assert plans.states(run) == ["in_doubt"]


def test_a_look_up_settles_only_what_is_still_in_doubt(database: str) -> None:
    run = plans.open_run()
    first, second, third = plans.add_messages(run, plans.numbers(3), state="in_doubt")
    plans.change(third, state="accepted", status="delivered")
    doubts.settle({first: "SM1", third: "SM3"}, absent=[second])
    assert plans.states(run) == ["accepted", "queued", "accepted"]
    assert plans.messages(run)[plans.numbers(3)[2]].status == "delivered"


def test_the_ids_of_other_messages_to_a_number_are_known(database: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1), gateway_message_id="SM1", state="accepted")
    (message,) = plans.messages(run).values()
    assert doubts.known_ids({message.number_key}) == {message.number_key: frozenset({"SM1"})}


def test_cancelling_leaves_what_a_gateway_may_have(database: str) -> None:
    run = plans.open_run()
    ids = plans.add_messages(run, plans.numbers(4))
    for message_id, state in zip(ids, ["queued", "deferred", "in_doubt", "accepted"], strict=True):
        plans.change(message_id, state=state)
    assert deferral.cancel_open(run.id) == 2
    assert plans.states(run) == ["cancelled", "cancelled", "in_doubt", "accepted"]


def test_nothing_is_claimed_of_a_plan_that_is_not_complete(database: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1))
    runs.store(run.id, planned=False)
    assert claim(run) == []


@pytest.mark.parametrize(("hours", "state"), [(-1, "queued"), (1, "deferred")])
def test_what_was_proven_absent_waits_for_its_hours(database: str, hours: int, state: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1))
    [message] = plans.messages(run).values()
    plans.change(message.id, state="in_doubt", opens_at=now() + timedelta(hours=hours))
    doubts.settle({}, [message.id])
    assert plans.states(run) == [state]
