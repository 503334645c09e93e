"""The send loop against a real gateway over HTTP: what each answer makes of a message and a run."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.twilio import TwilioSettings
from data import ledger, runs
from data.database import DatabaseError, now, writing
from data.settings import settings
from data.tables import CampaignRun
from tasks import asking, judging, sending
from tests import plans
from tests.sandboxes import SID, TOKEN, Sandbox, start

RATE = 1000.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl")
    yield sandbox
    sandbox.kill()
    sandbox.client.close()


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.client.delete("/_faults")
    return running


@pytest.fixture
def gateway(sandbox: Sandbox) -> Callable[..., Gateway]:
    """Makes the adapter for the sandbox."""

    def make(token: str = TOKEN, port: int = sandbox.port, seconds: float = 5) -> Gateway:
        return make_gateway(
            "sandbox",
            TwilioSettings(
                account_sid=SID, auth_token=SecretStr(token), base_url=f"http://127.0.0.1:{port}"
            ),
            receiver_url="http://127.0.0.1:9",
            timeouts=Timeouts(request=seconds, connect=2),
        )

    return make


def fresh(sandbox: Sandbox, count: int) -> list[str]:
    """So many numbers that no other test has used."""
    return [sandbox.number() for _ in range(count)]


def send(run: CampaignRun, make: Callable[..., Gateway]) -> sending.Tally:
    return plans.send(run, make, RATE)


def test_everybody_gets_one_message(
    database: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, people = plans.open_run(), fresh(sandbox, 40)
    plans.add_messages(run, people)
    tally = send(run, gateway)
    assert dict(tally.counts) == {"accepted": 40}
    assert [len(sandbox.accepted(number)) for number in people] == [1] * 40
    assert all(message.gateway_message_id for message in plans.messages(run).values())


def test_sending_a_batch_again_sends_nobody_again(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, people = plans.open_run(), fresh(sandbox, 5)
    plans.add_messages(run, people)
    send(run, gateway)
    assert send(run, gateway).counts.total() == 0
    assert [len(sandbox.accepted(number)) for number in people] == [1] * 5


def test_two_senders_of_one_batch_share_it(
    database: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, people = plans.open_run(), fresh(sandbox, 60)
    plans.add_messages(run, people)
    senders = [threading.Thread(target=send, args=(run, gateway)) for _ in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert plans.states(run) == ["accepted"] * 60
    assert [len(sandbox.accepted(number)) for number in people] == [1] * 60


@pytest.mark.parametrize(
    ("fault", "reaches_gateway"),
    [
        ({"kind": "reset", "accepted": True}, 1),
        ({"kind": "reset", "accepted": False}, 0),
        ({"kind": "close"}, 0),
        ({"kind": "status", "code": 500}, 0),
        ({"kind": "status", "code": 503, "accepted": True}, 1),
        ({"kind": "status", "code": 201, "body": "<html>"}, 0),
        ({"kind": "slow", "seconds": 3}, 1),
    ],
    ids=["reset, taken", "reset, not taken", "closed", "500", "503, taken", "unreadable", "slow"],
)
def test_an_unclear_answer_is_never_sent_again(
    sqlite: str,
    sandbox: Sandbox,
    gateway: Callable[..., Gateway],
    fault: dict[str, object],
    reaches_gateway: int,
) -> None:
    run, (number,) = plans.open_run(), fresh(sandbox, 1)
    plans.add_messages(run, [number])
    sandbox.order({**fault, "to": number})
    send(run, lambda: gateway(seconds=1))
    assert plans.states(run) == ["in_doubt"]
    sandbox.client.delete("/_faults")
    send(run, gateway)
    assert len(sandbox.accepted(number)) == reaches_gateway


def test_a_look_up_finds_what_was_taken_and_leaves_the_rest_in_doubt(
    database: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, (taken, lost) = plans.open_run(), fresh(sandbox, 2)
    plans.add_messages(run, [taken, lost])
    sandbox.order(
        {"kind": "reset", "accepted": True, "to": taken},
        {"kind": "reset", "accepted": False, "to": lost},
    )
    send(run, gateway)
    assert dict(asking.resolve_doubts(run.id, lambda _: gateway())) == {
        "accepted": 1,
        "absent": 0,
        "open": 1,
    }
    (listed,) = sandbox.accepted(taken)
    messages = plans.messages(run)
    assert messages[taken].gateway_message_id == listed["sid"]
    assert messages[lost].state == "in_doubt"


def test_a_look_up_never_takes_the_id_of_another_message(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    (number,) = fresh(sandbox, 1)
    first, second = plans.open_run("first"), plans.open_run("second")
    plans.add_messages(first, [number])
    send(first, gateway)
    plans.add_messages(second, [number])
    sandbox.order({"kind": "reset", "accepted": False, "to": number})
    send(second, gateway)
    asking.resolve_doubts(second.id, lambda _: gateway())
    assert plans.states(second) == ["in_doubt"]


def test_a_look_up_leaves_out_a_number_of_which_another_message_has_no_id_yet(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    """The one that the gateway lists may be that one."""
    (number,) = fresh(sandbox, 1)
    first, second = plans.open_run("first"), plans.open_run("second")
    (taken,) = plans.add_messages(first, [number])
    send(first, gateway)
    plans.change(taken, gateway_message_id=None)
    plans.add_messages(second, [number])
    sandbox.order({"kind": "reset", "accepted": False, "to": number})
    send(second, gateway)
    asking.resolve_doubts(second.id, lambda _: gateway())
    assert plans.states(second) == ["in_doubt"]


def test_throttling_is_waiting(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, people = plans.open_run(), fresh(sandbox, 10)
    plans.add_messages(run, people)
    sandbox.order({"kind": "status", "code": 429, "retry_after": 0.2, "times": 15})
    send(run, gateway)
    assert plans.states(run) == ["accepted"] * 10
    assert [len(sandbox.accepted(number)) for number in people] == [1] * 10


def test_who_opted_out_at_the_gateway_is_in_the_consent_ledger(
    database: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, number = plans.open_run(), "+12025551610"
    plans.add_messages(run, [number])
    send(run, gateway)
    assert plans.states(run) == ["suppressed"]
    again = plans.open_run("again")
    plans.add_messages(again, [number])
    assert (
        ledger.claim(again, 0, sender="me", gateway="sandbox", lease=timedelta(60), limit=1) == []
    )


def test_a_number_that_cannot_get_it_fails_alone(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, people = plans.open_run(), [*fresh(sandbox, 1), "+12025551614", *fresh(sandbox, 1)]
    plans.add_messages(run, people)
    send(run, gateway)
    assert plans.states(run) == ["accepted", "rejected", "accepted"]
    assert plans.messages(run)["+12025551614"].reason == "gateway_21614"


def test_a_refused_account_pauses_the_run_and_says_what_to_do(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run = plans.open_run()
    plans.add_messages(run, fresh(sandbox, 3))
    tally = send(run, lambda: gateway(token="wrong"))
    stored = runs.get_run(run.id)
    assert stored.state == runs.PAUSED
    assert plans.states(run) == ["queued"] * 3
    assert f"mend it, then run `sms resume {run.id}`" in stored.note == tally.stopped


def test_an_unreachable_gateway_leaves_everything_queued_and_pauses_the_run(
    sqlite: str,
    gateway: Callable[..., Gateway],
    sandbox: Sandbox,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judging, "GIVE_UP_SECONDS", 1.0)
    run, port = plans.open_run(), free_port()
    plans.add_messages(run, fresh(sandbox, 2))
    send(run, lambda: gateway(port=port))
    assert runs.get_run(run.id).state == runs.PAUSED
    assert plans.states(run) == ["queued", "queued"]


@pytest.mark.parametrize("state", [runs.PAUSED, runs.CANCELLED])
def test_pausing_or_cancelling_stops_a_batch_within_a_window(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway], state: str
) -> None:
    run = plans.open_run()
    plans.add_messages(run, fresh(sandbox, 100))
    timer = threading.Timer(1.0, runs.move, (run.id, state))
    timer.start()
    tally = plans.send(run, gateway, 20)
    timer.join()
    assert tally.stopped == f"the run is {state}"
    assert 20 <= plans.states(run).count("accepted") <= 60


def test_who_opts_out_while_it_is_sent_gets_nothing_more(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, people = plans.open_run(), fresh(sandbox, 60)
    plans.add_messages(run, people)
    timer = threading.Timer(0.5, plans.opt_out, (people[-1], now()))
    timer.start()
    plans.send(run, gateway, 30)
    timer.join()
    assert plans.messages(run)[people[-1]].state == "suppressed"
    assert sandbox.accepted(people[-1]) == []


def test_no_request_starts_near_the_end_of_its_lease(
    sqlite: str,
    sandbox: Sandbox,
    gateway: Callable[..., Gateway],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow gateway and one slot: what has waited too long is put back, not sent late."""
    monkeypatch.setenv("SMS_LEASE_SECONDS", "2")
    monkeypatch.setenv("SMS_REQUEST_TIMEOUT", "1.2")
    monkeypatch.setenv("SMS_REQUESTS_IN_FLIGHT", "1")
    settings.cache_clear()
    run, people = plans.open_run(), fresh(sandbox, 6)
    plans.add_messages(run, people)
    sandbox.order({"kind": "slow", "seconds": 0.5})
    send(run, gateway)
    messages = plans.messages(run).values()
    assert {message.state for message in messages} == {"accepted"}
    assert max(message.attempt for message in messages) > 1
    assert [len(sandbox.accepted(number)) for number in people] == [1] * 6


def test_the_deadline_of_a_message_travels_with_it(
    sqlite: str, sandbox: Sandbox, gateway: Callable[..., Gateway]
) -> None:
    run, (number,) = plans.open_run(not_after=now() + timedelta(hours=2)), fresh(sandbox, 1)
    plans.add_messages(run, [number], closes_at=now() + timedelta(hours=1))
    sent: list[object] = []

    class Spy:
        def __init__(self, inner: Gateway) -> None:
            self.inner = inner
            self.capabilities = inner.capabilities

        async def __aenter__(self) -> "Spy":
            await self.inner.__aenter__()
            return self

        async def __aexit__(self, *details: object) -> None:
            await self.inner.__aexit__(*details)

        async def submit(self, messages: list[object]) -> list[object]:
            sent.extend(messages)
            return await self.inner.submit(messages)

    plans.send(run, lambda: Spy(gateway()), RATE)
    (outgoing,) = sent
    assert timedelta(minutes=55) < outgoing.deadline - now() < timedelta(minutes=61)


def test_a_full_or_locked_database_is_named(tmp_path: Path, sqlite: str) -> None:
    import sqlite3

    from data.database import DatabaseError, engine

    plans.open_run()
    other = sqlite3.connect(sqlite.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with engine().connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    try:
        with pytest.raises(DatabaseError, match="is locked by another process"), writing():
            pass
    finally:
        other.rollback()
        other.close()


def test_a_database_that_is_away_during_a_window_puts_nobody_in_doubt(
    sqlite: str,
    sandbox: Sandbox,
    gateway: Callable[..., Gateway],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, people = plans.open_run(), fresh(sandbox, 6)
    plans.add_messages(run, people)
    turns = []

    async def turn(*_: object) -> bool:
        turns.append(1)
        if len(turns) == 3:
            raise DatabaseError("the database is locked")
        return True

    monkeypatch.setattr(sending.Pacer, "turn", turn)
    assert send(run, gateway).counts["accepted"] == 6
    assert [len(sandbox.accepted(number)) for number in people] == [1] * 6
