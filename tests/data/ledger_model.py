"""What is outside the ledger, simulated, and what must hold between the two.

For the state machine of `test_ledger_machine`: a clock, a gateway that writes down everything it
was handed, people who opt out, and a comparison of the ledger with itself a step earlier.
"""

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from adapters.gateways.base import Capabilities, Report, Status
from data import database
from data.database import reading
from data.deliveries import FINAL, RANK
from data.ledger import Claimed, Settled
from data.tables import CampaignRun, DeliveryEvent, Exclusion, Message, Result

LEASE = timedelta(seconds=60)
REQUEST = timedelta(seconds=10)
OPEN_STATES = {"queued", "deferred", "sending", "in_doubt"}
ENDS = {"failed", "rejected", "expired", "blocked", "suppressed", "cancelled"}


class Clock:
    """The time that every module is told."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The present; it never stands still."""
        self.at += timedelta(milliseconds=1)
        return self.at


@dataclass
class Flight:
    """One claimed message in the hands of a sender that has not recorded its answer."""

    claimed: Claimed
    run_id: str
    sender: str
    answer: Settled | None = None
    opted_out: bool = False


@dataclass
class Outside:
    """The gateway's own journal, kept by message id, and what can still happen to it."""

    journal: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """One word a submission: accepted, refused, lost, on_its_way; and absent where proven."""
    gateway_ids: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    """What a poll would say, by the gateway's id."""
    arriving: list[Flight] = field(default_factory=list)
    """Written to a socket, not yet read by the gateway."""
    counter: Any = field(default_factory=lambda: itertools.count(1))

    def submit(self, message_id: str, word: str) -> None:
        """Take a submission down; it must not be a second one."""
        before = self.journal[message_id]
        assert set(before) <= {"refused", "absent"}, (
            f"message {message_id} is submitted again after {before}"
        )
        before.append(word)
        if word == "accepted":
            self.accept(message_id)

    def arrive(self, flight: Flight) -> None:
        """What was on its way reaches the gateway, which takes it."""
        words = self.journal[flight.claimed.id]
        assert words[-1] == "on_its_way"
        words[-1] = "accepted"
        self.accept(flight.claimed.id)

    def accept(self, message_id: str) -> None:
        """Give a message the gateway's id."""
        gateway_id = f"SM{next(self.counter)}"
        self.gateway_ids[message_id] = gateway_id
        self.statuses[gateway_id] = Status.QUEUED

    def prove_absent(self, message_id: str) -> None:
        """Nothing that was submitted so far will ever reach the gateway."""
        words = self.journal[message_id]
        assert "accepted" not in words
        words[:] = ["absent"]
        self.arriving = [f for f in self.arriving if f.claimed.id != message_id]


class PolledGateway:
    """Answers polls from the simulated gateway."""

    capabilities = Capabilities(polls=True)

    def __init__(self, outside: Outside, broken: bool) -> None:
        self.outside, self.broken = outside, broken

    async def __aenter__(self) -> "PolledGateway":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def poll(self, gateway_message_ids: list[str]) -> list[Report]:
        if self.broken:
            raise RuntimeError("the gateway is down")
        statuses = self.outside.statuses
        return [Report(statuses[i], gateway_message_id=i) for i in gateway_message_ids]


class People:
    """Who has opted out, by the latest that each person said."""

    def __init__(self) -> None:
        self.said: dict[str, list[tuple[datetime, str, str]]] = defaultdict(list)

    def say(self, recipient: str, at: datetime, kind: str, scope: str = "*") -> None:
        self.said[recipient].append((at, kind, scope))

    def opted_out(self, recipient: str, purpose: str) -> bool:
        spoke = [(at, kind) for at, kind, scope in self.said[recipient] if scope in ("*", purpose)]
        out = [at for at, kind in spoke if kind == "opt_out"]
        back = [at for at, kind in spoke if kind == "opt_in"]
        if purpose == "emergency" or not out:
            return False
        return not back or max(out) >= max(back)


@dataclass
class Snapshot:
    """The ledger at one instant."""

    runs: dict[str, Any]
    messages: dict[str, Any]
    exclusions: dict[str, list[int]]
    events: dict[int, Any]

    @classmethod
    def take(cls) -> "Snapshot":
        with reading() as connection:

            def rows(table: Any) -> list[Any]:
                return list(connection.execute(select(table.__table__)))

            exclusions: dict[str, list[int]] = defaultdict(list)
            for row in rows(Exclusion):
                exclusions[row.run_id].append(row.row)
            return cls(
                runs={row.id: row for row in rows(CampaignRun)},
                messages={row.id: row for row in rows(Message)},
                exclusions=exclusions,
                events={row.id: row for row in rows(DeliveryEvent)},
            )

    def of_run(self, run_id: str) -> list[Any]:
        return [message for message in self.messages.values() if message.run_id == run_id]

    def reports_of(self, message_id: str) -> list[str]:
        return [e.status for e in self.events.values() if e.message_id == message_id]


def check_rows(now: Snapshot) -> None:
    """Every record of a planned run is one message or one exclusion."""
    for run in now.runs.values():
        if run.planned:
            rows = [m.row for m in now.of_run(run.id)] + now.exclusions[run.id]
            assert sorted(rows) == list(range(1, run.records_read + 1)), f"rows of {run.id}"


def check_progress(before: Snapshot, now: Snapshot) -> None:
    """No message goes back."""
    assert before.messages.keys() <= now.messages.keys(), "a planned message is gone"
    for message_id, new in now.messages.items():
        old = before.messages.get(message_id)
        if old is None:
            continue
        told = f"{message_id}: {old.state}/{old.status} became {new.state}/{new.status}"
        assert new.status_rank >= old.status_rank, f"down the lattice: {told}"
        assert new.attempt >= old.attempt, told
        assert old.conflict <= new.conflict, told
        assert old.gateway_message_id in (None, new.gateway_message_id), told
        if old.status_rank == FINAL:
            assert (new.status, new.final_at) == (old.status, old.final_at), told
        if old.state in ENDS and new.state != old.state:
            # Our own expiry, and nothing else, gives way: to a final report.
            assert (old.state, old.reason) == ("expired", "no_report"), told
            assert (new.state, new.status_rank) == ("accepted", FINAL), told
        if old.state == "accepted":
            assert new.state not in OPEN_STATES, told
        if new.state == "expired":
            assert new.status_rank < FINAL, told


def check_outside(now: Snapshot, outside: Outside, unclear: set[str]) -> None:
    """The ledger claims nothing that the gateway does not know."""
    for message in now.messages.values():
        told = f"{message.id} is {message.state}, the gateway has {outside.journal[message.id]}"
        if message.state == "accepted":
            assert message.id in outside.gateway_ids, told
        if message.gateway_message_id is not None:
            assert outside.gateway_ids.get(message.id) == message.gateway_message_id, told
        if message.state in ("in_doubt", "sending"):
            assert message.id in unclear, f"{told}, and it was not in flight"
            assert message.lease_until is not None, told
        if message.state in ("queued", "deferred"):
            assert message.id not in unclear, f"{told}, and may be sent again"
        if message.state in OPEN_STATES | ENDS - {"expired"} and message.attempt:
            assert message.status_rank == 0, f"{told}, though a report came"


def check_reports(now: Snapshot, outside: Outside) -> None:
    """Every report is at its own message, and the message says what its reports add up to."""
    owners = {gateway_id: message_id for message_id, gateway_id in outside.gateway_ids.items()}
    for event in now.events.values():
        of = owners[event.gateway_message_id] if event.source == "poll" else event.raw
        assert event.message_id in (None, of), f"event {event.id} went to another message"
    for message in now.messages.values():
        said = now.reports_of(message.id)
        ranks = [RANK.get(status, RANK["unknown"]) for status in said]
        told = f"{message.id} is {message.status}, reported {said}"
        assert message.status_rank == max(ranks, default=0), told
        finals = {status for status in said if RANK.get(status) == FINAL}
        assert message.conflict == (len(finals) > 1), told
        assert not finals or message.status in finals, told


def check_matched(before: Snapshot, now: Snapshot, at: datetime, within: timedelta) -> None:
    """After a reconciliation no report waits whose message could be told when it began."""
    ids = {m.gateway_message_id for m in before.messages.values()} - {None}
    for event in now.events.values():
        if event.message_id is None and event.received_at > at - within:
            told = f"event {event.id} of {event.raw} was not matched"
            assert event.reference not in now.messages, told
            assert event.gateway != "sandbox" or event.gateway_message_id not in ids, told


def check_results(now: Snapshot, run_id: str) -> None:
    """One result a record, of the state that its message has."""
    with reading() as connection:
        table = Result.__table__
        found = list(connection.execute(select(table).where(table.c.run_id == run_id)))
    assert sorted(row.row for row in found) == list(range(1, now.runs[run_id].records_read + 1))
    for row in found:
        if row.message_id is not None:
            message = now.messages[row.message_id]
            final = message.state == "accepted" and message.status_rank == FINAL
            pending = message.state in ("accepted", "queued", "sending")
            outcome = message.status if final else "pending" if pending else message.state
            assert row.outcome == outcome, f"row {row.row} of {run_id}: {row.outcome}, {outcome}"
        else:
            assert row.row in now.exclusions[run_id]


def told_by(clock: Clock, patch: Any) -> None:
    """Have every module of the project read `clock`, whatever name it has imported time by."""
    import sys

    at_database = getattr(database, "clock", None)
    originals = {database.now: clock, at_database: lambda _: clock()}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("data", "tasks", "adapters"):
            for attribute, value in list(vars(module).items()):
                for original, told in originals.items():
                    if original is not None and value is original:
                        patch.setattr(module, attribute, told)
