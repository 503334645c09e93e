"""The sending half of the state machine of `test_ledger_machine`: from plan to doubt.

What senders and the gateway do, by the ledger's public functions, in any order. The other half is
in `ledger_machine`; what is simulated and what must hold in `ledger_model`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize
from sqlalchemy import delete

from data import consent_ledger, doubts, ledger, plan, runs
from data.database import writing
from data.identity import message_ids, number_keys
from data.ledger import Claimed, Settled
from data.tables import CampaignRun, ConsentEvent, DeliveryEvent, Exclusion, Message, Result
from tests import plans
from tests.data.ledger_model import LEASE, REQUEST, Clock, Flight, Outside, People, Snapshot

TABLES = (Result, DeliveryEvent, ConsentEvent, Exclusion, Message, CampaignRun)
PEOPLE = plans.numbers(6)
PLACES = ("America/New_York", "Europe/Paris")
PICK = st.integers(0, 1000)
# A gateway that takes a message is what happens most.
WORDS = ("accepted", "accepted", "accepted", "lost", "on_its_way", "retry", "recipient", "optout")

TOKENS: list[str] = []
clock = Clock()
"""Set anew for each example; `told_by` has every module read this one."""


def new_token(_: int = 0) -> str:
    """Instead of a random one."""
    TOKENS.append(f"{len(TOKENS):06}")
    return TOKENS[-1]


def claim_window(run: CampaignRun, batch: int, sender: str, limit: int) -> list[Claimed]:
    return ledger.claim(run, batch, gateway="sandbox", sender=sender, lease=LEASE, limit=limit)


@dataclass(frozen=True)
class Happening:
    """Something that can happen: how often, when at all, and what is drawn for it."""

    weight: int
    when: Callable[[Any], Any]
    drawn: dict[str, st.SearchStrategy[Any]]


HAPPENINGS: dict[str, Happening] = {}


def happens(
    weight: int,
    *,
    when: Callable[[Any], Any] = lambda _: True,
    **drawn: st.SearchStrategy[Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a rule with a weight: Hypothesis turns off half of its own, and little is sent."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        HAPPENINGS[function.__name__] = Happening(weight, when, drawn)
        return function

    return declare


class Sending(RuleBasedStateMachine):
    """Two senders, one or two runs to the same people, one gateway."""

    known_dead: set[str] = set()  # noqa: RUF012 - read by the patched `is_dead`

    def __init__(self) -> None:
        super().__init__()
        with writing() as connection:
            for table in TABLES:
                connection.execute(delete(table))
        clock.at = Clock().at
        TOKENS.clear()
        self.known_dead.clear()
        self.outside = Outside()
        self.people = People()
        self.flights: list[Flight] = []
        self.senders = ["a0", "b0"]
        self.states: dict[str, str] = {}
        self.claims: dict[str, Claimed] = {}
        """The latest claim of each message."""
        self.unclear: set[str] = set()
        """Messages whose latest claim has no outcome that allows another."""
        self.before = Snapshot({}, {}, {}, {})

    # --- plan --------------------------------------------------------------------------------

    @initialize(
        purposes=st.lists(
            st.sampled_from(["marketing", "transactional", "emergency"]), min_size=1, max_size=2
        ),
        kinds=st.lists(
            st.sampled_from(["queued", "queued", "queued", "closing", "deferred", "excluded"]),
            min_size=2,
            max_size=len(PEOPLE),
        ),
        deadline=st.sampled_from([None, None, 1800]),
        interrupted=st.booleans(),
        approval=st.booleans(),
    )
    def prepare(
        self,
        purposes: list[str],
        kinds: list[str],
        deadline: int | None,
        interrupted: bool,
        approval: bool,
    ) -> None:
        for number, purpose in enumerate(purposes):
            ends = None if deadline is None else clock() + timedelta(seconds=deadline)
            key = f"run{number}"
            run = plans.open_run(key, state=runs.PREPARING, purpose=purpose, not_after=ends)
            with pytest.raises(runs.RunError):
                plans.open_run(key, state=runs.PREPARING)
            self.states[run.id] = runs.PREPARING
            runs.store(run.id, records_read=len(kinds))
            frames = _frames(run, kinds)
            if interrupted:
                plan.add_to_plan(*frames)
                assert not claim_window(run, 0, "a0", 10)
                plan.clear_plan(run.id)
            plan.add_to_plan(*frames)
            self._planned(run.id, approval=approval and number == 1)

    def _planned(self, run_id: str, *, approval: bool) -> None:
        plan.complete_plan(run_id, runs.WAITING if approval else runs.SENDING)
        self.states[run_id] = runs.WAITING if approval else runs.SENDING
        with pytest.raises(plan.PlanError):
            plan.clear_plan(run_id)

    # --- send --------------------------------------------------------------------------------

    @happens(
        3,
        when=lambda self: self._having("queued"),
        who=st.integers(0, 1),
        pick=PICK,
        limit=st.integers(1, 6),
        heard=st.booleans(),
    )
    def claim(self, who: int, pick: int, limit: int, heard: bool) -> None:
        """A sender claims from a batch that has something queued, whatever its run's state."""
        if heard:
            self._claim(who, pick, limit)
            return
        # It does not hear of its commit, and gives back what it may have claimed.
        message, nobody = one_of(self._having("queued"), pick), f"c{new_token()}"
        run = runs.get_run(message.run_id)
        claim_window(run, message.batch, nobody, limit)
        ledger.unclaim(nobody)

    def _claim(self, who: int, pick: int, limit: int) -> list[Flight]:
        message = one_of(self._having("queued"), pick)
        run, batch, sender = runs.get_run(message.run_id), message.batch, self.senders[who]
        eligible = self._eligible(run, batch)
        claimed = claim_window(run, batch, sender, limit)
        claimed.sort(key=lambda message: message.recipient)  # rows come in any order
        found = [message.id for message in claimed]
        assert set(found) <= eligible, "claimed what may not be"
        assert len(set(found)) == len(found) == min(limit, len(eligible)), "not all were claimed"
        for message in claimed:
            assert message.id not in self.unclear, "claimed again, and nobody knows why"
            assert message.lease_until > clock() + LEASE - timedelta(seconds=1)
            self.unclear.add(message.id)
            self.claims[message.id] = message
        claims = [Flight(message, run.id, sender) for message in claimed]
        self.flights += claims
        return claims

    @happens(
        4,
        when=lambda self: self._having("queued"),
        who=st.integers(0, 1),
        pick=PICK,
        words=st.lists(st.sampled_from(WORDS), min_size=6, max_size=6),
        recorded=st.booleans(),
    )
    def send_window(self, who: int, pick: int, words: list[str], recorded: bool) -> None:
        """Claim and submit, and mostly record, without anything in between."""
        claims = self._claim(who, pick, limit=6)
        for flight, word in zip(claims, words, strict=False):
            self._submit(flight, word, answered=True)
        if claims and recorded:
            self._record(claims)

    def _eligible(self, run: CampaignRun, batch: int) -> set[str]:
        at = clock() + timedelta(seconds=1)
        past = run.not_after is not None and run.not_after <= at
        if self.states[run.id] != runs.SENDING or past:
            return set()
        return {
            m.id
            for m in self.before.of_run(run.id)
            if m.state == "queued"
            and m.batch == batch
            and (m.retry_at is None or m.retry_at <= clock.at)
            and (m.closes_at is None or m.closes_at > at)
            and not self.people.opted_out(m.recipient, run.purpose)
        }

    @happens(
        5,
        when=lambda self: self._unsent(),
        pick=PICK,
        word=st.sampled_from(WORDS),
        answered=st.booleans(),
    )
    def submit(self, pick: int, word: str, answered: bool) -> None:
        """A sender submits, unless it is too late for the answer to come in its lease."""
        self._submit(one_of(self._unsent(), pick), word, answered)

    def _submit(self, flight: Flight, word: str, answered: bool) -> None:
        claimed = flight.claimed
        late = claimed.lease_until - REQUEST < clock()
        run = runs.get_run(flight.run_id)
        ends = [end for end in (run.not_after, claimed.closes_at) if end]
        settled = Settled(claimed.id, claimed.attempt, ledger.IN_DOUBT, "no_clear_answer")
        if late or min(ends, default=clock.at) < clock.at:
            flight.answer = replace(settled, state="queued", retry_at=clock.at)
            return
        refused = word in ("retry", "recipient", "optout")
        self.outside.submit(claimed.id, "refused" if refused else word)
        if word == "on_its_way":
            self.outside.arriving.append(flight)
        elif answered and word == "accepted":
            gateway_id = self.outside.gateway_ids[claimed.id]
            settled = replace(settled, state="accepted", gateway_message_id=gateway_id)
        elif word == "retry":
            again = clock.at + timedelta(seconds=3)
            settled = replace(settled, state="queued", retry_at=again, error_code="429")
        elif refused:
            ends_as = "rejected" if word == "recipient" else "suppressed"
            settled = replace(settled, state=ends_as, error_code="21211")
        flight.answer, flight.opted_out = settled, word == "optout"

    @happens(
        5,
        when=lambda self: any(flight.answer for flight in self.flights),
        pick=PICK,
        whole=st.booleans(),
    )
    def record(self, pick: int, whole: bool) -> None:
        """A sender records what it was answered, however late."""
        first = one_of([flight for flight in self.flights if flight.answer], pick)
        told = [f for f in self.flights if f.answer and f.sender == first.sender]
        self._record(told if whole else [first])

    def _record(self, told: list[Flight]) -> None:
        with writing() as connection:
            ledger.record(connection, told[0].sender, [f.answer for f in told if f.answer])
            for flight in (f for f in told if f.opted_out):
                self.append_consent(connection, flight.claimed.recipient, "opt_out", "*")
        self.flights = [flight for flight in self.flights if flight not in told]
        kept = Snapshot.take().messages
        for flight in told:
            message, answer = kept[flight.claimed.id], flight.answer
            assert answer
            latest = self.claims[message.id].attempt == answer.attempt
            # Too late, and the message stays in doubt: that is allowed as well.
            if answer.state == message.state == "queued" and latest:
                self.unclear.discard(message.id)
            if answer.state == "accepted":
                assert message.state in ("accepted", "expired"), "an acceptance was forgotten"
                assert message.gateway_message_id or message.state == "expired"

    @happens(1, when=lambda self: self.flights, who=st.integers(0, 1), known=st.booleans())
    def crash(self, who: int, known: bool) -> None:
        """A sender dies with all it held; on another host nobody knows."""
        gone = self.senders[who]
        self.flights = [flight for flight in self.flights if flight.sender != gone]
        if known:
            self.known_dead.add(gone)
        self.senders[who] = f"{gone[0]}{int(gone[1:]) + 1}"

    @happens(2, when=lambda self: self.outside.arriving, pick=PICK)
    def arrive(self, pick: int) -> None:
        """The gateway reads what a sender, dead or alive, had written to its socket."""
        flight = one_of(self.outside.arriving, pick)
        self.outside.arriving.remove(flight)
        if clock() < flight.claimed.lease_until:
            self.outside.arrive(flight)
        else:
            self.outside.journal[flight.claimed.id][-1] = "lost"

    @happens(2, when=lambda self: self.flights, pick=PICK)
    def freeze(self, pick: int) -> None:
        """A sender stands still past its lease, and lives: it will go on where it was."""
        clock.at += LEASE
        doubts.strand(one_of(self.flights, pick).run_id)

    # --- doubts ------------------------------------------------------------------------------

    @happens(1, when=lambda self: self._having("sending"), pick=PICK)
    def strand(self, pick: int) -> None:
        doubts.strand(one_of(self._having("sending"), pick).run_id)

    @happens(
        3,
        when=lambda self: self._in_doubt(),
        pick=PICK,
        says=st.lists(st.booleans(), min_size=6, max_size=6),
    )
    def look_up(self, pick: int, says: list[bool]) -> None:
        """Ask the gateway about doubts; it proves absence only when nothing can come any more."""
        run_id = one_of(self._in_doubt(), pick).run_id
        accepted: dict[str, str | None] = {}
        absent: list[str] = []
        suspects = sorted(doubts.doubted(run_id), key=lambda one: one.row or 0)
        for message, speaks in zip(suspects, says, strict=False):
            assert message.lease_until
            assert message.lease_until >= self.claims[message.id].lease_until
            if speaks and message.id in self.outside.gateway_ids:
                accepted[message.id] = self.outside.gateway_ids[message.id]
            elif speaks and message.lease_until < clock():
                absent.append(message.id)
        doubts.settle(accepted, absent)
        for message_id in absent:
            self.outside.prove_absent(message_id)
            self.unclear.discard(message_id)

    def append_consent(self, connection: Any, who: str, kind: str, scope: str) -> None:
        at = clock()
        said = {"type": kind, "recipient": who, "scope": scope, "basis": "", "source": "test"}
        events = pd.DataFrame([said | {"occurred_at": pd.Timestamp(at), "method": "reply"}])
        consent_ledger.append(connection, events)
        self.people.say(who, at, kind, scope)

    def _run(self, which: int) -> CampaignRun:
        return runs.get_run(one_of(list(self.states), which))

    def _having(self, state: str) -> list[Any]:
        """Messages in a state, in the order in which they were planned."""
        having = [message for message in self.before.messages.values() if message.state == state]
        return sorted(having, key=lambda message: (message.run_id, message.row))

    def _in_doubt(self) -> list[Any]:
        """Those that somebody asks about: of a run that has not finished days ago."""
        doubted = self._having("in_doubt")
        return [one for one in doubted if self.states[one.run_id] != runs.FINISHED]

    def _unsent(self) -> list[Flight]:
        return [flight for flight in self.flights if flight.answer is None]


def one_of(things: Any, pick: int) -> Any:
    return things[pick % len(things)]


def _frames(run: CampaignRun, kinds: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Messages and exclusions of one record of each kind, in two batches."""
    rows = list(zip(PEOPLE, kinds, range(1, len(kinds) + 1), strict=False))
    sent = [(who, kind, row) for who, kind, row in rows if kind != "excluded"]
    people = [who for who, _, _ in sent]
    at = pd.Timestamp(clock.at)
    frame = pd.DataFrame(
        {
            "id": message_ids(run.id, "campaign", people),
            "request_key": people,
            "row": [row for _, _, row in sent],
            "batch": [row // 4 for _, _, row in sent],
            "recipient": people,
            "number_key": number_keys(people),
            "zones": [PLACES[row % 2] for _, _, row in sent],
            "state": ["deferred" if kind == "deferred" else "queued" for _, kind, _ in sent],
            "opens_at": [at + pd.Timedelta("1h") if k == "deferred" else None for _, k, _ in sent],
            "closes_at": [
                {"queued": None, "closing": at + pd.Timedelta("90s")}.get(
                    kind, at + pd.Timedelta("9h")
                )
                for _, kind, _ in sent
            ],
        }
    )
    instants = {name: pd.to_datetime(frame[name], utc=True) for name in ("opens_at", "closes_at")}
    same = {"run_id": run.id, "kind": "campaign", "sender": run.sender, "gateway": run.gateway}
    text = {"text": "Hello", "encoding": "GSM-7", "segments": 1, "reason": "", "rule": ""}
    blank = {
        "country": "US",
        "subdivisions": "DC",
        "attempt": 0,
        "status_rank": 0,
        "conflict": False,
    }
    excluded = pd.DataFrame(
        [
            {"row": row, "recipient": who, "outcome": "invalid", "reason": "x"}
            for who, kind, row in rows
            if kind == "excluded"
        ],
        columns=["row", "recipient", "outcome", "reason"],
    )
    return (
        frame.assign(**instants, **same, **text, **blank),
        excluded.assign(run_id=run.id, column="", rule="", detail=""),
    )
