"""A trial with the whole stack: a campaign started as the UI does, its services killed under it.

Strikes the faults of a plan, recovers by the documented means, and hands over what is to be seen.
Not here: the services (`installation.py`), the faults (`full.py`), judging (`judge.py`).
"""

import heapq
import itertools
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self

import httpx
import psutil

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from data import ledger, pace, runs
from data.database import UNAVAILABLE
from data.errors import SmsError
from data.settings import settings
from tests.chaos import faults, full
from tests.chaos.bare import recipients
from tests.chaos.evidence import Observer
from tests.chaos.faults import Fault, Kind
from tests.chaos.installation import Installation, kill_all
from tests.chaos.judge import Evidence
from tests.chaos.plan import Plan, draw
from tests.chaos.processes import twilio
from tests.sandboxes import ROOT

BEGINS_WITHIN = 90.0
"""Seconds from the form to the first message: a process start, and the machine may be busy."""
REVIVED_WITHIN = 60.0
"""Seconds from a crash to a process that goes on with the run."""
PATIENCE = 150.0
_REPORTS_WITHIN = 20.0
_TICK = 0.1
_LOOK = 1.0
"""Seconds between two looks of a sending process at its Prefect run (`flows.watch`)."""
_OVER = (runs.RECONCILING, runs.FINISHED, runs.CANCELLED)


class Stack:
    """The trials of this kind, and what they share."""

    name = "full"
    menu: Sequence[Kind] = full.MENU

    def __init__(self) -> None:
        self.world = Installation(SMS_BATCH_SIZE="20", SMS_REPORT_WAIT="2")

    def __enter__(self) -> Self:
        self.world.__enter__()
        try:
            self._resumer = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.resumer", str(self.world.folder)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._said() == "ready"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        with suppress(AttributeError):
            self._resumer.kill()
            self._resumer.wait()
        self.world.__exit__(*raised)

    def _said(self) -> str:
        assert self._resumer.stdout is not None
        return self._resumer.stdout.readline().strip()

    def resume(self, run_id: str) -> psutil.Process | None:
        """`sms resume`, without its imports; None: it has ended already."""
        assert self._resumer.stdin is not None
        self._resumer.stdin.write(f"{run_id}\n")
        self._resumer.stdin.flush()
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(int(self._said()))
        return None

    def draw(self, seed: int, number: int) -> Plan:
        """Draw the trial of this number; what only bare trials have is left out."""
        drawn = draw(seed, number, self.menu, full.SIZE)
        return replace(
            drawn,
            batch=settings().batch_size,
            senders=1,
            in_flight=settings().batches_in_flight,
            proves_absence=False,
            reconciles=False,
        )

    def run(self, plan: Plan) -> Evidence:
        """Run one trial."""
        return Trial(self, plan).run()


class Trial:
    """One trial while it runs."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self.stack = stack
        self.world = stack.world
        self.plan = plan
        self.people = recipients(plan)
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.rules: dict[str, list[dict[str, Any]]] = {}
        self.watching: set[str] = set()
        self.resumes: dict[int, psutil.Process] = {}
        self.revivable = True
        self.paused = False
        self.cancelling_at: float | None = None
        self.nobody_since: float | None = None

    def run(self) -> Evidence:
        world = self.world
        world.ensure()
        self.offset = world.sandbox.begin_trial()
        self._begin()
        try:
            self._disturb()
        finally:
            self._mend_all()
            kill_all(self.senders())
        self._await_reports()
        return self.observer.conclude(world.sandbox.journal, self.offset, self._gateway)

    def _gateway(self, _: str) -> Gateway:
        return make_gateway(
            "sandbox",
            twilio(self.world.sandbox.url),
            receiver_url=settings().receiver_url,
            timeouts=Timeouts(),
        )

    # --- before -------------------------------------------------------------------------------

    def _begin(self) -> None:
        plan = self.plan
        for fault in plan.faults:
            if fault.at == 0 and full.rules(fault):
                self.rules[fault.kind] = full.rules(fault)
        self.world.sandbox.order(self.rules)
        self.world.set_rate(int(plan.rate))
        name = f"chaos {plan.seed}-{plan.number} {secrets.token_hex(4)}"
        self.flow_run_id = self.world.start_campaign(name, self.people)
        ends = time.monotonic() + BEGINS_WITHIN
        while self.world.sandbox.journal.stat().st_size == self.offset:
            if time.monotonic() > ends:
                raise TimeoutError(f"nothing was sent within {BEGINS_WITHIN:g} s")
            time.sleep(_TICK / 2)
        if plan.silent:
            # Not before: a campaign begins with a look at its gateway, and never without.
            self.rules["no look-ups"] = faults.NO_LOOK_UPS
            self.world.sandbox.order(self.rules)
        # A pause or cancel by the UI is seen by its next look, and then ends a window.
        self.observer = Observer(
            runs.find_run(name), self.people, pace.WINDOW + pace.HORIZON + _LOOK
        )

    # --- the faults ---------------------------------------------------------------------------

    def _disturb(self) -> None:
        """Strike and mend everything at its moment; see that the run is gone on with."""
        began = time.monotonic()
        for fault in self.plan.faults:
            self.at(began + fault.at, partial(self._strike, fault))
        look_at = 0.0
        while time.monotonic() < began + PATIENCE:
            self._act()
            if self.watching:
                self.observer.look()
            if time.monotonic() > look_at:
                look_at = time.monotonic() + 3 * _TICK
                with suppress(*UNAVAILABLE, httpx.TransportError):
                    if self._is_over():
                        self.observer.doubted = self.observer.doubt()
                        return
            time.sleep(_TICK / 2)
        self.complain(f"it did not come to its end within {PATIENCE:g} s")

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Do something at a moment of the monotonic clock."""
        heapq.heappush(self.due, (moment, next(self.order), act))

    def _act(self) -> None:
        while self.due and self.due[0][0] <= time.monotonic():
            _, _, act = heapq.heappop(self.due)
            try:
                act()
            except UNAVAILABLE:
                self.at(time.monotonic() + 0.2, act)  # another fault has the database
            except SmsError as error:
                self.complain(f"a command failed: {error}")

    def _strike(self, fault: Fault) -> None:
        mend: Callable[[], None] | None
        if rules := full.rules(fault):
            self._order(self.rules | {fault.kind: rules})
            self.watch(fault)
            mend = None if fault.lasts == 0 else lambda: self._lift(fault)
        else:
            mend = full.STRIKES[fault.kind](self, fault)
        if mend is not None:
            self.at(time.monotonic() + fault.lasts, mend)

    def _lift(self, fault: Fault) -> None:
        self._order({kind: rules for kind, rules in self.rules.items() if kind != fault.kind})
        self.unwatch(fault)

    def _order(self, rules: dict[str, list[dict[str, Any]]]) -> None:
        self.count_unclear()
        self.rules = rules
        self.world.sandbox.order(rules)

    def count_unclear(self) -> None:
        """Add the requests that a rule left without a clear answer; the next rules begin at 0."""
        with suppress(httpx.TransportError):
            for rule in self.world.sandbox.client.get("/_faults").json():
                # A status below 500 is a clear answer; the others have the default code, 503.
                if rule["kind"] in ("reset", "close", "status") and rule["code"] >= 500:
                    self.observer.unclear += rule["fired"]

    def watch(self, fault: Fault) -> None:
        """Note from now on what is being sent, for as long as a fault lasts."""
        self.observer.look()
        self.watching.add(fault.kind)

    def unwatch(self, fault: Fault) -> None:
        """Note it a last time."""
        self.observer.look()
        self.watching.discard(fault.kind)

    def complain(self, problem: str) -> None:
        """Note what did not work."""
        self.observer.problems.append(problem)

    # --- whoever sends, and the recovery ------------------------------------------------------

    def senders(self) -> list[psutil.Process]:
        """The processes that work on the run: its flow, whoever revived it, and resumes."""
        flows = [
            process
            for process, flow_run_id in self.world.flow_processes().items()
            if not self.world.is_housekeeping(flow_run_id)
        ]
        return [*flows, *(one for one in self.resumes.values() if _lives(one))]

    def _is_over(self) -> bool:
        """Whether everybody has ended with the run at its end; goes on with it where it is not."""
        alive = self.senders()
        state = self.observer.state()
        if state == runs.CANCELLED and self.observer.cancelled_at is None:
            self.observer.cancelled_at = self.cancelling_at
        if alive or self.due or self.paused:
            self.nobody_since = None
            return False
        sent = state in _OVER and not ledger.is_unsent(self.observer.run.id)
        if sent or state == runs.CANCELLED:
            return True
        if self.nobody_since is None:
            self.nobody_since = time.monotonic()
        waited = time.monotonic() - self.nobody_since
        if waited < (REVIVED_WITHIN if self.revivable else 2.0):
            return False
        if self.revivable:
            self.complain(f"nobody went on with the run ({state}) within {REVIVED_WITHIN:g} s")
        self.nobody_since = None
        self.resume()
        return False

    def resume(self) -> None:
        """`sms resume`, once the services answer: it would start those itself that do not."""
        if not self.world.answers():
            self.at(time.monotonic() + 0.2, self.resume)
        elif process := self.stack.resume(self.observer.run.id):
            self.resumes[process.pid] = process

    def resume_in_the_ui(self) -> bool:
        """Press Resume, as soon as the run's process has left; False: there is no such button."""
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            state = self.world.call(f"/flow_runs/{self.flow_run_id}")["state"]
            if state["name"] == "Suspended":
                self.world.call(f"/flow_runs/{self.flow_run_id}/resume", {})
                # The worker is to start it: nobody lives for some seconds.
                self.revivable = True
                return True
            if state["type"] != "RUNNING":
                break
            time.sleep(0.2)
        return False

    # --- after --------------------------------------------------------------------------------

    def _mend_all(self) -> None:
        for _, _, mend in sorted(self.due):
            with suppress(SmsError, *UNAVAILABLE):
                mend()
        self.due.clear()
        if hasattr(self, "observer"):
            self.count_unclear()

    def _await_reports(self) -> None:
        ends = time.monotonic() + _REPORTS_WITHIN
        while self.world.sandbox.owes_reports:
            if time.monotonic() > ends:
                self.complain(f"the last report did not come within {_REPORTS_WITHIN:g} s")
                return
            time.sleep(_TICK)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
