"""Runs trials one after the other and keeps what each showed.

A kind of trial is whatever runs a plan and hands over evidence: `bare.Bare`, `stack.Stack`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from tests.chaos.faults import Kind
from tests.chaos.judge import Evidence, Verdict, judge
from tests.chaos.plan import Plan


class Trials(Protocol):
    """A kind of trial; used in a `with`, in which its processes live."""

    name: str
    menu: Sequence[Kind]

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...

    def draw(self, seed: int, number: int) -> Plan:
        """Draw the trial of this number."""
        ...

    def run(self, plan: Plan) -> Evidence:
        """Run one trial to its end, whatever happens in it."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial that was run."""

    kind: str
    plan: Plan
    verdict: Verdict
    seconds: float

    @property
    def name(self) -> str:
        """What `--replay` takes."""
        mark = "" if self.kind == "bare" else self.kind[0]
        return f"{self.plan.seed}:{mark}{self.plan.number}"

    @property
    def failure(self) -> str:
        """How to see it again, its faults, and what broke; empty where nothing did."""
        if not self.verdict.findings:
            return ""
        plan = self.plan
        size = f"{plan.messages} messages, batches of {plan.batch}, {plan.senders} senders"
        lines = [
            f"uv run python -m tests.chaos --replay {self.name}",
            f"  {plan.database}, {size} x {plan.in_flight} batches, {plan.rate:.0f} a second"
            + (", absence provable" if plan.proves_absence else "")
            + (", no look-ups" if plan.silent else "")
            + (", a reconciler beside" if plan.reconciles else ""),
            *(f"  fault: {fault}" for fault in plan.faults),
        ]
        verdict = self.verdict
        sorts = {"twice": verdict.duplicates, "lost": verdict.lost, "broken": verdict.broken}
        for sort, found in sorts.items():
            lines += [f"  {sort}: {finding}" for finding in found[:3]]
            if len(found) > 3:
                lines.append(f"  {sort}: and {len(found) - 3} more")
        return "\n".join(lines)


def run_all(
    trials: Trials, plans: Iterable[Plan], tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run every plan; a trial that fails, or breaks off, stops no other."""
    outcomes = []
    for plan in plans:
        began = time.monotonic()
        try:
            verdict = judge(trials.run(plan))
        except Exception as error:  # noqa: BLE001 - what breaks off a trial is its finding
            text = str(error).splitlines()
            verdict = Verdict(broken=[f"broke off: {type(error).__name__} {text[:1]}"])
        outcome = Outcome(trials.name, plan, verdict, time.monotonic() - began)
        outcomes.append(outcome)
        tell(outcome)
    return outcomes
