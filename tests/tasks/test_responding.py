"""The responder against a real gateway over HTTP: what waits in standing runs goes out, once."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, GatewayError, Timeouts
from adapters.gateways.twilio import TwilioSettings
from data import runs, standing_runs
from data.database import DatabaseError, now, writing
from data.identity import number_keys
from data.standing_runs import CONFIRMATIONS, ToSend
from data.tables import CampaignRun, Message
from tasks import responding
from tasks.responding import Responder
from tests import plans
from tests.sandboxes import SID, TOKEN, Sandbox, start, wait_until


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


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responding, "PAUSE", 1.0)
    monkeypatch.setattr(responding, "LOOK_EVERY", 0.1)


@pytest.fixture
def make(sandbox: Sandbox) -> Callable[[str], Gateway]:
    def gateway(name: str) -> Gateway:
        if name == "gone":
            raise GatewayError("gateway gone is not saved")
        saved = TwilioSettings(
            account_sid=SID,
            auth_token=SecretStr(TOKEN),
            base_url=sandbox.url,
            sender="+15005550006",
        )
        return make_gateway(
            name, saved, receiver_url="http://127.0.0.1:9", timeouts=Timeouts(request=2, connect=1)
        )

    return gateway


@pytest.fixture
def responder(make: Callable[[str], Gateway]) -> Iterator[Callable[[], Responder]]:
    begun: list[Responder] = []

    def begin() -> Responder:
        one = Responder(make, lambda _gateway, _sender: 100.0)
        one.start()
        begun.append(one)
        return one

    yield begin
    for one in begun:
        one.stop()


def add(phone: str, *, gateway: str = "main", days: int = 0, minutes: float = 5) -> CampaignRun:
    at = now()
    message = ToSend(
        request_key=f"optout:{phone}",
        recipient=phone,
        number_key=number_keys([phone])[0],
        country="US",
        text="You are opted out",
        encoding="GSM-7",
        segments=1,
        sender="+15005550006",
        gateway=gateway,
        closes_at=at + timedelta(minutes=minutes),
    )
    day = (at + timedelta(days=days)).date()
    with writing() as connection:
        standing_runs.add(connection, CONFIRMATIONS, day, [message])
    return runs.find_run(f"confirmations-{day}")


def got(sandbox: Sandbox, phone: str) -> int:
    return len(sandbox.accepted(phone))


def test_what_waits_is_sent_when_it_is_woken(
    database: str, sandbox: Sandbox, responder: Callable[[], Responder]
) -> None:
    awake, phone = responder(), sandbox.number()
    add(phone)
    awake.wake()
    wait_until(lambda: got(sandbox, phone) == 1)


def test_several_responders_send_each_answer_once(
    database: str, sandbox: Sandbox, responder: Callable[[], Responder]
) -> None:
    people = [sandbox.number() for _ in range(30)]
    for phone in people:
        add(phone)
    for _ in range(3):
        responder()
    wait_until(lambda: all(got(sandbox, phone) for phone in people))
    assert [got(sandbox, phone) for phone in people] == [1] * 30


def test_a_gateway_that_is_gone_does_not_keep_others_from_answering(
    sqlite: str, sandbox: Sandbox, responder: Callable[[], Responder]
) -> None:
    lost, phone = sandbox.number(), sandbox.number()
    add(lost, gateway="gone")
    responder()
    wait_until(lambda: plans.messages(runs.list_runs()[0])[lost].retry_at is not None)
    add(phone)
    wait_until(lambda: got(sandbox, phone) == 1)


def test_an_account_that_cannot_send_stops_answers_for_a_while_only(
    sqlite: str, sandbox: Sandbox, responder: Callable[[], Responder]
) -> None:
    sandbox.order({"kind": "refuse", "why": "account"})
    phone = sandbox.number()
    run = add(phone)
    responder()
    wait_until(lambda: runs.get_run(run.id).state == runs.PAUSED)
    sandbox.client.delete("/_faults")
    with writing() as connection:  # what the gateway put off may be tried again
        connection.execute(update(Message).values(retry_at=None))
    wait_until(lambda: got(sandbox, phone) == 1)
    assert runs.get_run(run.id).state == runs.SENDING


def test_what_a_person_has_paused_stays_paused(
    sqlite: str,
    sandbox: Sandbox,
    responder: Callable[[], Responder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responding, "PAUSE", 0.0)
    phone = sandbox.number()
    run = add(phone)
    runs.move(run.id, runs.PAUSED, note="paused by hand")
    awake = responder()
    for _ in range(5):
        awake.look()
    assert got(sandbox, phone) == 0
    assert runs.get_run(run.id).state == runs.PAUSED


def test_a_restored_run_is_taken_up_again(
    sqlite: str, sandbox: Sandbox, responder: Callable[[], Responder]
) -> None:
    """Its messages are in doubt, and only new ones are sent."""
    old, new = sandbox.number(), sandbox.number()
    run = add(old)
    plans.change(plans.messages(run)[old].id, state="in_doubt", reason="restored", attempt=1)
    runs.move(run.id, runs.PAUSED, note="restored from a backup of 2026-11-24")
    responder()
    add(new)
    wait_until(lambda: got(sandbox, new) == 1)
    assert got(sandbox, old) == 0


def test_the_run_of_a_day_that_is_over_is_closed(
    sqlite: str, sandbox: Sandbox, responder: Callable[[], Responder]
) -> None:
    phone = sandbox.number()
    run = add(phone, days=-1)
    responder()
    wait_until(lambda: runs.get_run(run.id).state == runs.RECONCILING)
    assert got(sandbox, phone) == 1


def test_what_is_late_is_blocked_although_the_run_is_paused(
    sqlite: str, sandbox: Sandbox, responder: Callable[[], Responder]
) -> None:
    phone = sandbox.number()
    run = add(phone, minutes=0)
    runs.move(run.id, runs.PAUSED, note="paused by hand")
    responder()
    wait_until(lambda: plans.messages(run)[phone].reason == "confirmation_too_late")
    assert got(sandbox, phone) == 0


def test_an_unclear_answer_is_never_sent_again(
    sqlite: str, sandbox: Sandbox, responder: Callable[[], Responder]
) -> None:
    phone = sandbox.number()
    run = add(phone)
    sandbox.order({"kind": "reset", "accepted": False})
    awake = responder()
    wait_until(lambda: plans.messages(run)[phone].state == "in_doubt")
    sandbox.client.delete("/_faults")
    awake._due.clear()  # it asks the gateway again
    awake.wake()
    wait_until(lambda: awake._due.get(("settle", run.id)))
    awake.stop()
    assert plans.messages(run)[phone].state == "in_doubt"
    assert got(sandbox, phone) == 0


def test_a_database_that_is_away_is_waited_for(
    sqlite: str,
    sandbox: Sandbox,
    responder: Callable[[], Responder],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away() -> None:
        raise DatabaseError("the database cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(standing_runs, "open_runs", away)
        responder()
        wait_until(lambda: "cannot be reached" in caplog.text)
    phone = sandbox.number()
    add(phone)
    wait_until(lambda: got(sandbox, phone) == 1)
    assert caplog.text.count("cannot be reached") == 1
