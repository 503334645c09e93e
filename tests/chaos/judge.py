"""The judgement of a trial: what the gateway wrote down against what the ledger says.

Knows nothing of how a trial was run: every kind of trial hands over the same evidence. What the
gateway wrote before it answered is the truth; the ledger is what is judged.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from data import ledger
from data.deliveries import FINAL
from data.tables import Message

GRACE = 1.0
"""Seconds that a pause, cancel or opt-out may take beyond the window that was leaving."""
_UNENDED = (*ledger.OPEN,)
# What our own faults can lead to. Nothing in a trial is refused for good.
_SUBMITTED = (ledger.ACCEPTED, ledger.IN_DOUBT, "expired")


@dataclass(slots=True)
class Evidence:
    """What there is to see of a trial when it is over. Instants are Unix time, in seconds."""

    planned: Collection[str]
    """The recipients of the plan."""
    messages: Mapping[str, Message]
    """The ledger by recipient, when every report that came was matched."""
    ended: Mapping[str, str]
    """States by recipient, when the time in which reports are waited for is over."""
    journal: list[dict[str, Any]]
    """What the gateway accepted, each written before it was answered."""
    reported: Collection[str]
    """Recipients of whose message a report was handed over and acknowledged."""
    finally_reported: Collection[str]
    """Those of them with a final report."""
    in_flight: Collection[str]
    """Ids of messages that were being sent at a fault, or whose request got no clear answer."""
    unclear: int = 0
    """Requests without a clear answer that are known by their number only."""
    doubted: Collection[str] = ()
    """Ids in doubt after the recovery, before reports were matched."""
    listed: int = 0
    """Rows in doubt in the results table."""
    opted_out: Mapping[str, float] = field(default_factory=dict)
    """When the opt-out of a recipient was committed."""
    cancelled_at: float | None = None
    window: float = 1.0
    """Seconds in which a claimed window leaves, at the longest."""
    problems: list[str] = field(default_factory=list)
    """What did not work while the trial ran: each is a finding."""


@dataclass(slots=True)
class Verdict:
    """What a trial showed. Nothing is broken where all lists are empty."""

    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Every other promise that was not kept."""
    in_flight: int = 0
    doubted: int = 0
    """Messages in doubt before late reports."""
    settled: int = 0
    """Those of them that reports settled."""

    @property
    def left(self) -> int:
        """Messages left in doubt."""
        return self.doubted - self.settled

    @property
    def findings(self) -> list[str]:
        """Every finding, one a line, by rows: a number is nobody's business."""
        return [*self.duplicates, *self.lost, *self.broken]


def judge(evidence: Evidence) -> Verdict:
    """Compare journal and ledger."""
    verdict = Verdict(in_flight=len(evidence.in_flight) + evidence.unclear)
    received = Counter(entry["to"] for entry in evidence.journal)
    _judge_duplicates(evidence, received, verdict)
    _judge_losses(evidence, received, verdict)
    _judge_doubt(evidence, received, verdict)
    _judge_people(evidence, verdict)
    verdict.broken += evidence.problems
    return verdict


def _row(evidence: Evidence, recipient: str) -> str:
    message = evidence.messages.get(recipient)
    if message is None:
        return "a message that is not in the ledger"
    return f"row {message.row} ({message.state}, attempt {message.attempt})"


def _judge_duplicates(evidence: Evidence, received: Counter[str], verdict: Verdict) -> None:
    verdict.duplicates += [
        f"{_row(evidence, recipient)} was sent {times} times"
        for recipient, times in received.items()
        if times > 1
    ]


def _judge_losses(evidence: Evidence, received: Counter[str], verdict: Verdict) -> None:
    def lost(recipient: str, how: str) -> None:
        verdict.lost.append(f"{_row(evidence, recipient)} {how}")

    for recipient in set(evidence.planned) ^ set(evidence.messages):
        lost(recipient, "is planned and not in the ledger, or the other way round")
    for recipient in received.keys() - set(evidence.planned):
        lost(recipient, "was sent, and nobody had planned it")
    for recipient, message in evidence.messages.items():
        end = evidence.ended.get(recipient, message.state)
        if message.state == ledger.ACCEPTED and recipient not in received:
            lost(recipient, "is accepted in the ledger and never came to the gateway")
        if end in _UNENDED:
            lost(recipient, f"is still {end} when the run has ended")
        elif end not in _SUBMITTED and recipient in received:
            lost(recipient, f"was sent, and the ledger says {end}")
        elif end not in _SUBMITTED and end not in _excused(evidence, recipient):
            lost(recipient, f"ended as {end} without a reason ({message.reason})")
        if recipient in evidence.finally_reported and message.status_rank < FINAL:
            lost(recipient, "has a final report that was acknowledged and is not in the ledger")


def _excused(evidence: Evidence, recipient: str) -> set[str]:
    """The states in which a message may end that was never sent."""
    excuses = {"suppressed"} if recipient in evidence.opted_out else set()
    return excuses | ({"cancelled"} if evidence.cancelled_at is not None else set())


def _judge_doubt(evidence: Evidence, received: Counter[str], verdict: Verdict) -> None:
    by_id = {message.id: recipient for recipient, message in evidence.messages.items()}
    left = {m.id for m in evidence.messages.values() if m.state == ledger.IN_DOUBT}
    verdict.doubted = len(set(evidence.doubted) | left)
    verdict.settled = verdict.doubted - len(left)
    unexplained = (set(evidence.doubted) | left) - set(evidence.in_flight)
    if len(unexplained) > evidence.unclear:
        rows = ", ".join(_row(evidence, by_id[key]) for key in sorted(unexplained)[:3])
        verdict.broken.append(
            f"{len(unexplained)} messages in doubt that were not in flight at a fault: {rows}"
        )
    for key in left:
        if by_id[key] in evidence.reported:
            verdict.broken.append(f"{_row(evidence, by_id[key])}: its report did not settle it")
    if evidence.listed != len(left):
        verdict.broken.append(f"{len(left)} are in doubt, the results list {evidence.listed}")


def _judge_people(evidence: Evidence, verdict: Verdict) -> None:
    allowed = evidence.window + GRACE
    for entry in evidence.journal:
        recipient, at = entry["to"], entry["time"]
        out_at, over_at = evidence.opted_out.get(recipient), evidence.cancelled_at
        if out_at is not None and at > out_at + allowed:
            verdict.broken.append(
                f"{_row(evidence, recipient)} was sent {at - out_at:.2f} s after its opt-out"
            )
        if over_at is not None and at > over_at + allowed:
            verdict.broken.append(
                f"{_row(evidence, recipient)} was sent {at - over_at:.2f} s after the cancel"
            )
