"""A trial with bare processes: senders, receiver, gateway and database, without Prefect.

Strikes the faults of a plan at their moments, recovers as the documentation says, and hands over
what is to be seen. Not here: the plan (`plan.py`), looking (`evidence.py`), judging (`judge.py`).
"""

import heapq
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from random import Random
from typing import Any, Self

from adapters.sandbox.faults import REFUSED_ENDINGS, REPORT_ENDINGS
from data import ledger, pace, runs
from data.database import UNAVAILABLE
from data.errors import SmsError
from tests import plans
from tests.chaos import faults, sender
from tests.chaos.evidence import Observer
from tests.chaos.faults import Fault, Kind
from tests.chaos.judge import Evidence
from tests.chaos.plan import Plan, draw
from tests.chaos.processes import Controls, fork, impatient, kill
from tests.chaos.strikes import STRIKES
from tests.chaos.world import World

PATIENCE = 40.0
"""Seconds after which senders, or a resume, that do not come to their end have failed."""
_TICK = 0.01
_REPORTS_WITHIN = 15.0


@dataclass(slots=True)
class Sender:
    """A sending process and the memory shared with it."""

    process: BaseProcess
    controls: Controls

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.process.pid or 0


class Bare:
    """The trials of this kind, and what they share."""

    name = "bare"
    menu: Sequence[Kind] = faults.BARE

    def __init__(self) -> None:
        self.world = World()

    def __enter__(self) -> Self:
        self.world.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.world.__exit__(*raised)

    def draw(self, seed: int, number: int) -> Plan:
        """Draw the trial of this number."""
        return draw(seed, number, self.menu)

    def run(self, plan: Plan) -> Evidence:
        """Run one trial."""
        return Trial(self.world, plan).run()


def recipients(plan: Plan) -> list[str]:
    """The numbers of a trial: its own, and with nothing special about them."""
    special = (*REFUSED_ENDINGS, *REPORT_ENDINGS)
    first = 2_000_000 + (plan.number * 512) % 7_000_000
    numbers = (f"+1202{line:07d}" for line in itertools.count(first))
    return list(itertools.islice((n for n in numbers if not n.endswith(special)), plan.messages))


class Trial:
    """One trial while it runs."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.chance = Random(f"{plan.seed}:{plan.number}:strikes")
        self.place = world.use(plan.database)
        self.place.receiver.ensure()
        self.offset = world.sandbox.begin_trial()
        self.log = world.folder / f"trial-{plan.number}.log"
        self.witness = world.folder / f"trial-{plan.number}.witness"
        for file in (self.log, self.witness):
            file.write_bytes(b"")
        self.senders: list[Sender] = []
        self.beside: list[BaseProcess] = []
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.rules: dict[str, list[dict[str, Any]]] = {}
        self.watching: set[str] = set()
        self.paused = False

    def run(self) -> Evidence:
        self.observer = self._planned()
        try:
            self._begin()
            with impatient(faults.BUSY):
                self._disturb()
            self._recover()
        finally:
            for process in [*(s.process for s in self.senders), *self.beside]:
                kill(process)
        self._await_reports()
        self.observer.in_flight.update(self.witness.read_text().split())
        gateway = sender.gateway(self.work)
        return self.observer.conclude(self.world.sandbox.journal, self.offset, lambda _: gateway)

    # --- before ----------------------------------------------------------------------------

    def _planned(self) -> Observer:
        plan = self.plan
        # A lane of its own: what one trial did to its pace is not the next one's business.
        key, lane = f"chaos {plan.seed}:{plan.number} {secrets.token_hex(4)}", 3_000_000
        run = plans.open_run(key, sender=f"+1500{lane + plan.number % 1_000_000}")
        people = recipients(plan)
        batches = [place // plan.batch for place in range(len(people))]
        plans.add_messages(run, people, batch=batches)
        pace.set_rate(pace.lane_of(run.gateway, run.sender), plan.rate)
        self.work = sender.Work(
            run.id,
            self.world.sandbox.url,
            self.place.receiver.url,
            plan.in_flight,
            self.witness,
            plan.proves_absence,
            plan.mutation,
            faults.BUSY if plan.has("database locked") else None,
        )
        return Observer(run, people, plan.window)

    def _begin(self) -> None:
        for fault in self.plan.faults:
            if fault.at == 0 and faults.rules(fault):
                self.rules[fault.kind] = faults.rules(fault)
        if self.plan.silent:
            self.rules["no look-ups"] = faults.NO_LOOK_UPS
        self.world.sandbox.order(self.rules)
        if self.plan.reconciles or self.plan.has("reconciler killed"):
            self.start_reconciler()
        for _ in range(self.plan.senders):
            self.start_sender()
        self._until(self.observer.claimed, "the first claim", 15)

    def start_sender(self) -> None:
        controls = Controls()
        process = fork(sender.send, self.work, controls, log=self.log)
        self.senders.append(Sender(process, controls))

    def start_reconciler(self) -> None:
        run_id = self.observer.run.id
        self.beside.append(fork(sender.reconcile_for_ever, run_id, log=self.log))

    # --- the faults ------------------------------------------------------------------------

    def _disturb(self) -> None:
        """Strike and mend everything at its moment; whoever dies is followed by a resume."""
        began = time.monotonic()
        for fault in self.plan.faults:
            self._at(began + fault.at, partial(self._strike, fault))
        while (self.due or self.senders) and time.monotonic() < began + PATIENCE:
            self._act()
            self._reap()
            with suppress(*UNAVAILABLE):
                self._resume_where_nobody_sends()
            if self.watching:
                self.observer.look()
            time.sleep(_TICK)
        if self.due or self.senders:
            self.complain(f"senders did not end within {PATIENCE:g} s")
        while self.senders:
            kill(self.senders.pop().process)
        # What is still to be mended is, so that the next trial finds everything running.
        for _, _, mend in self.due:
            with suppress(SmsError, *UNAVAILABLE):
                mend()

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.due, (moment, next(self.order), act))

    def _act(self) -> None:
        while self.due and self.due[0][0] <= time.monotonic():
            _, _, act = heapq.heappop(self.due)
            try:
                act()
            except UNAVAILABLE:
                # Another fault has the database: people try again.
                self._at(time.monotonic() + 0.1, act)
            except SmsError as error:
                self.complain(f"a command failed: {error}")

    def _strike(self, fault: Fault) -> None:
        if rules := faults.rules(fault):
            self.rules[fault.kind] = rules
            self.world.sandbox.order(self.rules)
            mend = None if fault.lasts == 0 else lambda: self._lift(fault)
        else:
            mend = STRIKES[fault.kind](self, fault)
        if mend is not None:
            self._at(time.monotonic() + fault.lasts, mend)

    def _lift(self, fault: Fault) -> None:
        self.rules.pop(fault.kind, None)
        self.world.sandbox.order(self.rules)

    def watch(self, fault: Fault) -> None:
        """Note from now on what is being sent, for as long as a fault lasts."""
        self.observer.look()
        self.watching.add(fault.kind)

    def unwatch(self, fault: Fault) -> None:
        self.observer.look()
        self.watching.discard(fault.kind)

    # --- whoever dies, and the recovery -------------------------------------------------------

    def _reap(self) -> None:
        for one in [one for one in self.senders if not one.process.is_alive()]:
            self.observer.look(one.pid)
            self.senders.remove(one)
            if one.process.exitcode != 0 and not self._may_fail():
                self.complain(f"a sender ended by itself: {self._last_words()}")

    def _may_fail(self) -> bool:
        """Whether a sender may give up: where its database is away, people resume."""
        disturbed = ("database", "disk")
        return any(fault.kind.startswith(disturbed) for fault in self.plan.faults)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def complain(self, problem: str) -> None:
        self.observer.problems.append(problem)

    def _resume_where_nobody_sends(self) -> None:
        if not self.senders and not self.paused and self.due:
            sends = self.observer.state() == runs.SENDING
            if sends and ledger.is_unsent(self.observer.run.id):
                self.start_sender()

    def _recover(self) -> None:
        """`sms resume` until the run is sent, and where it pays once more after the lease."""
        for _ in range(3):
            over = (runs.RECONCILING, runs.FINISHED, runs.CANCELLED)
            if self.observer.state() in over:
                break
            self._resume()
        if self.plan.proves_absence and self.observer.doubt() and self._resumable():
            time.sleep(faults.LEASE + faults.REQUEST_TIMEOUT)
            self._resume()
        self.observer.doubted = self.observer.doubt()

    def _resumable(self) -> bool:
        return self.observer.state() in (runs.SENDING, runs.PAUSED, runs.RECONCILING)

    def _resume(self) -> None:
        self.start_sender()
        process = self.senders[-1].process
        process.join(PATIENCE)
        if process.is_alive():
            self.complain(f"`sms resume` did not end within {PATIENCE:g} s")
            kill(process)
            self.senders.pop()
        self._reap()

    def _await_reports(self) -> None:
        # Late reports are what settles doubt, so they come before the look-ups are mended.
        owes = self.world.sandbox
        self._until(lambda: not owes.owes_reports, "the last report", _REPORTS_WITHIN)

    def _until(self, holds: Callable[[], bool], what: str, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while True:
            with suppress(*UNAVAILABLE):
                if holds():
                    return
            if time.monotonic() > ends:
                self.complain(f"{what} did not come within {seconds:g} s")
                return
            time.sleep(_TICK)
