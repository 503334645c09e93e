"""Replies to a real receiver process: they are believed, answered once, and survive a crash."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import select, update
from sqlmodel import col

from data import runs, standing_runs
from data.database import now, reading, writing
from data.identity import number_keys
from data.migrate import migrate
from data.settings import settings
from data.tables import ConsentEvent, InboundMessage, Message
from flows.children import answers as answers_at
from flows.receiver import Gateways
from flows.release_deferred import release_deferred
from tasks import answering, reconciliation, reporting
from tests.flows.campaigns import Desk, outcomes
from tests.flows.conftest import inside
from tests.sandboxes import ROOT, Sandbox, wait_until

OURS = "+15005550006"
SOON = 20.0


class Receiver:
    """`sms web`, to be killed and started again."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{settings().receiver_port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "flows", "web"]
        with (settings().home / "receiver.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        wait_until(lambda: answers_at(f"{self.url}/health"), 60)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> float:
        began = time.monotonic()
        self._process.terminate()
        self._process.wait(30)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def place(
    installation: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
) -> dict[str, str]:
    """An installation with a database of its own, beside the others' Prefect server and sandbox."""
    own = {
        "SMS_HOME": str(tmp_path_factory.mktemp("replies")),
        "SMS_RECEIVER_PORT": str(free_port()),
        "SMS_BRAND": "Acme Shoes",
        "SMS_HELP_CONTACT": "help.example",
    }
    return installation | own


@pytest.fixture(scope="module")
def process(place: dict[str, str]) -> Iterator[Receiver]:
    with inside(place):
        migrate()
        started = Receiver()
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def receiver(here: None, place: dict[str, str], process: Receiver) -> Iterator[Receiver]:
    with inside(place):
        yield process


@pytest.fixture
def person(desk: Desk) -> "Person":
    return Person(desk.people(1)[0], desk.sandbox)


class Person:
    """Somebody who writes to our number, by the sandbox."""

    def __init__(self, phone: str, sandbox: Sandbox) -> None:
        self.phone = phone
        self._sandbox = sandbox

    def writes(self, text: str) -> None:
        url = f"http://127.0.0.1:{settings().receiver_port}/gateways/sandbox/inbound"
        said = {"from": self.phone, "to": OURS, "body": text, "url": url}
        answer = self._sandbox.client.post("/_send_inbound", json=said)
        assert answer.json() == {"status": 204} or answer.json()["status"] == 200, answer.text

    def got(self) -> list[str]:
        return [str(message["body"]) for message in self._sandbox.accepted(self.phone)]

    def gets(self, number: int) -> list[str]:
        """Wait until so many messages have come."""
        wait_until(lambda: len(self.got()) >= number, SOON)
        return self.got()

    def events(self) -> list[str]:
        mine = col(ConsentEvent.number_key) == number_keys([self.phone])[0]
        with reading() as connection:
            found = select(col(ConsentEvent.type)).where(mine).order_by(col(ConsentEvent.id))
            return list(connection.execute(found).scalars())

    def states(self) -> list[tuple[str, str]]:
        with reading() as connection:
            mine = col(Message.recipient) == self.phone
            found = select(col(Message.state), col(Message.reason)).where(mine)
            return [tuple(row) for row in connection.execute(found.order_by(col(Message.row)))]


def settled(*people: Person) -> None:
    """Wait until nothing to these people is under way, and a moment more."""
    wait_until(lambda: not {"queued", "sending"} & {s for p in people for s, _ in p.states()}, SOON)
    time.sleep(1.2)


def test_a_stop_is_recorded_and_confirmed_once_within_seconds(person: Person) -> None:
    person.writes("Stop")
    (text,) = person.gets(1)
    assert person.events() == ["opt_out"]
    assert text.startswith("Acme Shoes: ")
    settled(person)
    assert person.states() == [("accepted", "")]


def test_a_second_stop_is_not_answered(person: Person) -> None:
    for text in ("STOP", "STOP", "stop please"):
        person.writes(text)
    person.gets(1)
    settled(person)
    assert len(person.got()) == 1
    assert person.events() == ["opt_out"]


def test_a_captured_callback_that_is_sent_again_is_answered_once(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twilio.request_validator import RequestValidator

    from adapters.sandbox.twilio import inbound_form
    from tests.sandboxes import SID, TOKEN

    url = f"http://127.0.0.1:{settings().receiver_port}/gateways/sandbox/inbound"
    form = inbound_form("SM" + "7" * 32, person.phone, OURS, "STOP", SID)
    signature = RequestValidator(TOKEN).compute_signature(url, form)
    for _ in range(3):
        sent = httpx.post(url, data=form, headers={"X-Twilio-Signature": signature})
        assert sent.is_success, sent.text
    person.gets(1)
    settled(person)
    assert len(person.got()) == 1


def test_fifty_stops_at_once_are_fifty_confirmations(desk: Desk) -> None:
    people = [Person(phone, desk.sandbox) for phone in desk.people(50)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda one: one.writes("STOP"), people))
    wait_until(lambda: all(one.got() for one in people), 60)
    settled(*people)
    assert {len(one.got()) for one in people} == {1}
    assert {tuple(one.events()) for one in people} == {("opt_out",)}


def test_what_was_stored_before_a_crash_is_sent_once_after_it(
    person: Person, receiver: Receiver, desk: Desk
) -> None:
    desk.sandbox.order({"kind": "refuse", "why": "throttled"})
    person.writes("STOP")
    receiver.kill()
    desk.sandbox.client.delete("/_faults")
    assert person.got() == []
    receiver.start()
    person.gets(1)
    settled(person)
    assert len(person.got()) == 1


def test_a_confirmation_that_is_more_than_five_minutes_late_is_not_sent(
    person: Person, receiver: Receiver, desk: Desk
) -> None:
    desk.sandbox.order({"kind": "refuse", "why": "throttled"})
    person.writes("STOP")
    receiver.kill()
    desk.sandbox.client.delete("/_faults")
    earlier = now() - timedelta(seconds=1)
    with writing() as connection:
        connection.execute(
            update(Message)
            .where(col(Message.recipient) == person.phone)
            .values(closes_at=earlier, consent_ends_at=earlier, state="queued", retry_at=None)
        )
    receiver.start()
    wait_until(lambda: person.states() == [("blocked", "confirmation_too_late")], SOON)
    assert person.got() == []


def test_what_was_being_sent_at_a_crash_is_never_sent_again(
    person: Person, receiver: Receiver, desk: Desk
) -> None:
    desk.sandbox.order({"kind": "slow", "seconds": 2, "to": person.phone})
    person.writes("STOP")
    wait_until(lambda: person.states() == [("sending", "")], SOON)
    receiver.kill()
    receiver.start()
    wait_until(lambda: person.states()[0][0] in ("in_doubt", "accepted"), SOON)
    time.sleep(3)
    assert len(person.got()) <= 1


def test_help_is_answered_with_brand_and_contact(person: Person) -> None:
    person.writes("HELP")
    assert person.gets(1) == ["Acme Shoes: For help: help.example. Reply STOP to opt out."]
    assert person.events() == []


def test_start_lifts_a_stop_and_is_welcomed(person: Person) -> None:
    person.writes("STOP")
    person.gets(1)
    person.writes("START")
    assert "HELP" in person.gets(2)[0]
    assert person.events() == ["opt_out", "opt_in"]


def test_the_question_and_a_yes_are_consent_with_evidence(person: Person) -> None:
    answering.ask(person.phone, "sandbox", "weekly offers", "shop counter", sender=OURS)
    (text,) = person.gets(1)
    assert text == "Acme Shoes: Reply YES to get weekly offers. Reply STOP to opt out."
    person.writes("YES")
    wait_until(lambda: person.events() == ["opt_in_pending", "opt_in"], SOON)
    person.gets(2)


def test_the_command_asks_once_by_the_gateway_s_own_number(person: Person, desk: Desk) -> None:
    asks = ("consent", "ask", person.phone, "--gateway", "sandbox", "--source", "shop counter")
    said = desk.sms(*asks)
    assert said.code == 0, said.err
    assert person.gets(1) == ["Acme Shoes: Reply YES to get our messages. Reply STOP to opt out."]
    again = desk.sms(*asks)
    assert again.code == 1
    assert "has not answered" in again.err
    assert person.phone not in again.err


def test_a_yes_that_nobody_asked_for_waits_for_a_person(person: Person) -> None:
    person.writes("YES")
    settled(person)
    assert person.events() == []
    assert person.got() == []
    with reading() as connection:
        mine = col(InboundMessage.sender) == person.phone
        found = select(col(InboundMessage.kind), col(InboundMessage.review)).where(mine)
        assert connection.execute(found).all() == [("review", "open")]


def night() -> str:
    """The beginning of a number where it is night, whatever the time here."""
    places = {
        "+4915112": "Europe/Berlin",
        "+8190123": "Asia/Tokyo",
        "+1213555": "America/Los_Angeles",
    }
    hours = {code: now().astimezone(ZoneInfo(zone)).hour for code, zone in places.items()}
    return next(code for code, hour in hours.items() if hour >= 21 or hour < 8)


def test_a_confirmation_goes_out_at_night(desk: Desk) -> None:
    person = Person(f"{night()}{desk.people(1)[0][-5:]}", desk.sandbox)
    person.writes("STOP")
    assert len(person.gets(1)) == 1


def test_who_wrote_stop_gets_no_marketing_afterwards(person: Person, desk: Desk) -> None:
    person.writes("STOP")
    person.gets(1)
    audience = desk.audience([person.phone], opt_in="yes")
    text = "20% off. Reply STOP to opt out"
    said = desk.sms("send", desk.campaign(audience, purpose="marketing", message=text))
    assert said.code == 0, said.err
    (row,) = json.loads(desk.sms("results", said.run_id, "--format", "json").stdout)
    assert (row["outcome"], row["reason"]) == ("suppressed", "opted_out")
    assert len(person.got()) == 1


def test_the_runs_of_answers_are_listed_reconciled_and_add_up(person: Person, desk: Desk) -> None:
    person.writes("STOP")
    person.gets(1)
    settled(person)
    run = next(run for run in standing_runs.open_runs() if run.day == now().date())
    gateways = Gateways()
    reconciliation.reconcile(gateways.known, run_ids=[run.id])
    assert sum(outcomes(run.id).values()) == runs.get_run(run.id).records_read
    listed = desk.sms("runs")
    assert listed.code == 0, listed.err
    assert run.id in listed.out
    assert "STUCK" not in listed.out
    exported = desk.sms("results", run.id, "--format", "json")
    assert person.phone in exported.out
    assert run.id in reporting.campaign_markdown(runs.get_run(run.id))


def test_no_campaign_flow_takes_a_run_of_answers(person: Person, desk: Desk) -> None:
    """It can be paused and resumed; what is sent is sent by the receiver."""
    person.writes("HELP")
    person.gets(1)
    run = runs.find_run(f"answers-{now().date()}")
    assert desk.sms("pause", run.id).code == 0
    desk.sms("resume", run.id)
    assert runs.get_run(run.id).state == runs.SENDING
    assert release_deferred() == []
    assert runs.get_run(run.id).state == runs.SENDING


def test_the_receiver_ends_at_once_when_it_is_told_to(receiver: Receiver) -> None:
    assert receiver.stop() < 8
    receiver.start()


def test_a_gateway_is_made_anew_and_said_when_it_is_not_saved(receiver: Receiver) -> None:
    gateways = Gateways()
    made: Any = gateways.make("sandbox")
    assert made is not gateways.known("sandbox")
    assert gateways.rate("nobody", OURS) is None
    with pytest.raises(Exception, match="is not saved"):
        gateways.make("nobody")
