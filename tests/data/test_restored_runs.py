"""A restored run never sends anybody twice, whatever was sent after the backup was taken."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.twilio import TwilioSettings
from adapters.sandbox.journal import read_journal
from data import deliveries, doubts, results, runs
from data.backup import Restored, backup, restore
from data.database import now, reading, writing
from data.identity import number_keys
from data.migrate import _migrate, migrate
from data.tables import CampaignRun
from tasks import asking, control, deferring, sending
from tasks.reconciliation import reconcile
from tests import plans
from tests.places import Places
from tests.sandboxes import SID, TOKEN, Sandbox, start

KINDS = ["sqlite", "postgresql"]
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl")
    yield sandbox
    sandbox.kill()
    sandbox.client.close()


@pytest.fixture
def gateway(sandbox: Sandbox) -> Callable[[], Gateway]:
    """Makes the adapter for the sandbox. Its reports go nowhere."""
    return lambda: make_gateway(
        "sandbox",
        TwilioSettings(
            account_sid=SID,
            auth_token=SecretStr(TOKEN),
            base_url=f"http://127.0.0.1:{sandbox.port}",
        ),
        receiver_url="http://127.0.0.1:9",
        timeouts=Timeouts(request=5, connect=2),
    )


def begin(places: Places, kind: str = "sqlite") -> None:
    """Be in a new place whose database has the tables."""
    places.go(kind)
    _migrate.cache_clear()
    migrate()


def send(run: CampaignRun, make: Callable[[], Gateway], batches: int) -> None:
    """Send so many batches of a run, as far as there are."""
    for _ in range(batches):
        plans.send(run, make)


def resume(run: CampaignRun, make: Callable[[], Gateway]) -> None:
    """Go on with a run, as `flows.stages` does."""
    if runs.get_run(run.id).state != runs.SENDING:
        runs.move(run.id, runs.SENDING)
    asking.resolve_doubts(run.id, lambda _: make())
    deferring.release(run)
    sending.put_aside(run)
    send(run, make, batches=6)
    asking.resolve_doubts(run.id, lambda _: make())
    runs.move(run.id, runs.RECONCILING)


def half_sent(sandbox: Sandbox, make: Callable[[], Gateway]) -> tuple[CampaignRun, list[str]]:
    """A run of 60: 20 sent, 10 claimed by a sender that died when half of them were sent."""
    run, people = plans.open_run(), [sandbox.number() for _ in range(60)]
    ids = plans.add_messages(run, people, batch=[place // 10 for place in range(60)])
    send(run, make, batches=2)
    past = now() - timedelta(seconds=1)
    for place in range(20, 30):
        claimed = {"state": "sending", "attempt": 1, "owner": "gone|1|1|a", "lease_until": past}
        plans.change(ids[place], **claimed, submitted_at=past - timedelta(seconds=1))
        if place < 25:
            sandbox.send(people[place]).raise_for_status()
    assert Counter(plans.states(run)) == {"accepted": 20, "sending": 10, "queued": 30}
    return run, people


def journal(sandbox: Sandbox, people: list[str]) -> list[int]:
    """How many messages the gateway wrote down for each, before it answered."""
    times = Counter(entry["to"] for entry in read_journal(sandbox.journal))
    return [times[number] for number in people]


def outcomes(run: CampaignRun) -> dict[str, int]:
    """The outcomes of a run; raises where they are not one for each record."""
    with writing() as connection:
        results.rebuild(connection, run.id)
        return results.check(connection, run.id).outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_half_sent_run_goes_on_where_nothing_was_sent_since(
    places: Places, kind: str, sandbox: Sandbox, gateway: Callable[[], Gateway], tmp_path: Path
) -> None:
    begin(places, kind)
    run, people = half_sent(sandbox, gateway)
    backup(tmp_path / "b.zip", {})
    places.go(kind)
    restored = restore(tmp_path / "b.zip", nothing_sent_since=True)
    assert restored.stopped == {}
    resume(run, gateway)
    # The five that the dead sender had not sent yet: the gateway cannot say so.
    assert journal(sandbox, people) == [1] * 25 + [0] * 5 + [1] * 30
    assert Counter(plans.states(run)) == {"accepted": 55, "in_doubt": 5}
    assert outcomes(run) == {"pending": 55, "in_doubt": 5}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_sent_after_the_backup_is_not_sent_again(
    places: Places, kind: str, sandbox: Sandbox, gateway: Callable[[], Gateway], tmp_path: Path
) -> None:
    begin(places, kind)
    run, people = half_sent(sandbox, gateway)
    backup(tmp_path / "b.zip", {})
    send(run, gateway, batches=2)  # the installation that is lost afterwards
    assert sum(journal(sandbox, people)) == 45

    places.go(kind)
    restored = restore(tmp_path / "b.zip", nothing_sent_since=False)
    assert restored.stopped == {run.id: 40}
    assert runs.get_run(run.id).state == runs.PAUSED
    assert outcomes(run) == {"in_doubt": 40, "pending": 20}
    resume(run, gateway)

    assert journal(sandbox, people) == [1] * 25 + [0] * 5 + [1] * 20 + [0] * 10
    assert outcomes(run) == {"pending": 45, "in_doubt": 15}
    found = plans.messages(run)
    accepted = {number for number, message in found.items() if message.state == "accepted"}
    assert accepted == {
        n for n, times in zip(people, journal(sandbox, people), strict=True) if times
    }
    assert all(found[number].gateway_message_id for number in accepted)


def test_without_the_doubt_the_same_restore_does_send_twice(
    places: Places, sandbox: Sandbox, gateway: Callable[[], Gateway], tmp_path: Path
) -> None:
    """The test of the test: the operator says that nothing was sent since, and is wrong."""
    begin(places)
    run, people = half_sent(sandbox, gateway)
    backup(tmp_path / "b.zip", {})
    send(run, gateway, batches=2)
    places.go("sqlite")
    restore(tmp_path / "b.zip", nothing_sent_since=True)
    resume(run, gateway)
    assert max(journal(sandbox, people)) == 2


def test_a_late_report_settles_what_was_sent_since(
    places: Places, sandbox: Sandbox, gateway: Callable[[], Gateway], tmp_path: Path
) -> None:
    begin(places)
    run, people = plans.open_run(), [sandbox.number() for _ in range(2)]
    ids = plans.add_messages(run, people)
    backup(tmp_path / "b.zip", {})
    places.go("sqlite")
    restore(tmp_path / "b.zip", nothing_sent_since=False)
    report = {"gateway": "sandbox", "source": "callback", "status": "delivered"}
    with writing() as connection:
        deliveries.append(connection, [{**report, "reference": ids[0], "received_at": now()}])
    reconcile(lambda _: None, run_ids=[run.id])
    assert outcomes(run) == {"delivered": 1, "in_doubt": 1}


def test_a_large_run_that_is_all_in_doubt_can_be_looked_up(database: str) -> None:
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1), state="accepted", gateway_message_id="SM1")
    keys = number_keys(plans.numbers(70_000))
    assert doubts.known_ids(keys) == {keys[0]: frozenset({"SM1"})}


# --- what is put in doubt --------------------------------------------------------------------


def moved(state: str) -> CampaignRun:
    """A run in a state, its plan complete, with one queued message."""
    run = plans.open_run(state=runs.PREPARING)
    plans.add_messages(run, plans.numbers(1))
    runs.store(run.id, state=state)
    return run


def there_and_back(places: Places, tmp_path: Path, nothing_sent_since: bool = False) -> Restored:
    backup(tmp_path / "b.zip", {})
    places.go("sqlite")
    return restore(tmp_path / "b.zip", nothing_sent_since=nothing_sent_since)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (runs.WAITING, runs.WAITING, "in_doubt"),
        (runs.SENDING, runs.PAUSED, "in_doubt"),
        (runs.PAUSED, runs.PAUSED, "in_doubt"),
        (runs.RECONCILING, runs.PAUSED, "in_doubt"),
        (runs.CANCELLED, runs.CANCELLED, "queued"),
        (runs.REJECTED, runs.REJECTED, "queued"),
    ],
)
def test_what_waits_in_a_run_that_may_have_gone_on_is_in_doubt(
    places: Places, tmp_path: Path, before: str, after: str, message: str
) -> None:
    begin(places)
    run = moved(before)
    restored = there_and_back(places, tmp_path)
    assert (runs.get_run(run.id).state, plans.states(run)) == (after, [message])
    assert restored.stopped == ({run.id: 1} if message == "in_doubt" else {})


@pytest.mark.parametrize(
    ("state", "columns", "after"),
    [
        ("queued", {}, "in_doubt"),
        ("queued", {"attempt": 2, "retry_at": HOUR}, "in_doubt"),
        ("queued", {"closes_at": -HOUR}, "in_doubt"),
        ("sending", {"attempt": 1, "lease_until": HOUR}, "in_doubt"),
        ("in_doubt", {"attempt": 1}, "in_doubt"),
        ("deferred", {"opens_at": -HOUR}, "in_doubt"),
        ("deferred", {"opens_at": timedelta(0)}, "in_doubt"),
        ("deferred", {"opens_at": HOUR}, "deferred"),
        ("accepted", {"attempt": 1}, "accepted"),
        ("blocked", {}, "blocked"),
        ("expired", {"attempt": 1}, "expired"),
    ],
)
def test_only_what_can_have_left_since_is_in_doubt(
    places: Places, tmp_path: Path, state: str, columns: dict[str, Any], after: str
) -> None:
    begin(places)
    run = plans.open_run()
    (one,) = plans.add_messages(run, plans.numbers(1))
    at = now()
    instants = {k: at + v if isinstance(v, timedelta) else v for k, v in columns.items()}
    plans.change(one, state=state, **instants)
    there_and_back(places, tmp_path)
    assert plans.states(run) == [after]


@pytest.mark.parametrize(
    ("deferred", "after"),
    [(True, runs.PAUSED), (False, runs.RECONCILING)],
    ids=["deferred", "sent"],
)
def test_what_waits_for_the_morning_does_not_go_on_by_itself(
    places: Places, tmp_path: Path, deferred: bool, after: str
) -> None:
    """The campaign may have been cancelled since."""
    begin(places)
    run = moved(runs.RECONCILING)
    (one,) = (message.id for message in plans.messages(run).values())
    tomorrow = {"state": "deferred", "opens_at": now() + HOUR}
    plans.change(one, **(tomorrow if deferred else {"state": "accepted", "attempt": 1}))
    restored = there_and_back(places, tmp_path)
    assert runs.get_run(run.id).state == after
    assert restored.stopped == ({run.id: 0} if deferred else {})


def test_what_its_deadline_kept_back_before_the_backup_is_not_in_doubt(
    places: Places, tmp_path: Path
) -> None:
    begin(places)
    run = plans.open_run(not_after=now() - HOUR)
    plans.add_messages(run, plans.numbers(2))
    there_and_back(places, tmp_path)
    assert plans.states(run) == ["queued", "queued"]
    runs.move(run.id, runs.SENDING)
    sending.put_aside(runs.get_run(run.id))
    assert outcomes(run) == {"blocked": 2}


def test_what_is_in_doubt_is_looked_for_from_the_backup_to_the_restore(
    places: Places, tmp_path: Path
) -> None:
    begin(places)
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(1))
    before = now()
    restored = there_and_back(places, tmp_path)
    (message,) = doubts.doubted(run.id)
    assert message.submitted_at == restored.manifest.taken
    assert message.lease_until is not None
    assert before <= message.submitted_at <= message.lease_until <= now()
    assert (message.reason, message.owner, message.attempt) == ("restored", None, 1)


@pytest.mark.parametrize("state", [runs.PREPARING, runs.FAILED])
def test_a_run_that_had_no_plan_is_over_and_keeps_its_key(
    places: Places, tmp_path: Path, state: str
) -> None:
    begin(places)
    run = plans.open_run(state=runs.PREPARING)
    runs.store(run.id, state=state)
    restored = there_and_back(places, tmp_path)
    assert (restored.ended, restored.stopped) == ([run.id], {})
    assert runs.get_run(run.id).state == runs.CANCELLED
    with pytest.raises(runs.RunError, match="belongs to run"):
        plans.open_run(state=runs.PREPARING)


def test_a_run_that_waited_is_still_to_be_approved_or_rejected(
    places: Places, tmp_path: Path
) -> None:
    begin(places)
    run = moved(runs.WAITING)
    there_and_back(places, tmp_path)
    assert "in doubt" in runs.get_run(run.id).note
    control.reject(run.id, "sent it by hand", "me")
    assert outcomes(run) == {"in_doubt": 1}


def test_where_nothing_was_sent_since_everything_is_as_it_was(
    places: Places, tmp_path: Path
) -> None:
    begin(places)
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(3))
    unplanned = plans.open_run("another", state=runs.PREPARING)
    there_and_back(places, tmp_path, nothing_sent_since=True)
    assert plans.states(run) == ["queued"] * 3
    assert [runs.get_run(r.id).state for r in (run, unplanned)] == [runs.SENDING, runs.PREPARING]
    with reading() as connection:
        assert results.outcome_counts(connection, run.id) == {}
