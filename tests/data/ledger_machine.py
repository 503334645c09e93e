"""The state machine of `test_ledger_machine`: the sending half, and everything around it.

Reports, people, operators and the passing of time, and what must hold after every step.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import invariant, rule

from adapters.gateways.base import ErrorClass, Status
from data import deliveries, doubts, ledger, results, runs
from data.database import writing
from data.tables import CampaignRun
from tasks import control, deferring
from tasks.reconciliation import MATCH_WITHIN, reconcile
from tests.data import ledger_model as model
from tests.data.ledger_model import Snapshot
from tests.data.ledger_sending import (
    HAPPENINGS,
    PEOPLE,
    PICK,
    Sending,
    clock,
    happens,
    one_of,
)

WAITS = (1, 5, 30, 61, 600)


class LedgerMachine(Sending):
    """Whatever can happen to the ledger."""

    # --- reports -----------------------------------------------------------------------------

    @happens(
        4,
        when=lambda self: self.outside.gateway_ids,
        pick=PICK,
        statuses=st.lists(
            st.sampled_from([*Status, *Status, "delivered", "nonsense"]), min_size=1, max_size=3
        ),
        by=st.sampled_from(["reference", "gateway_message_id", "both", "neither"]),
        opted_out=st.booleans(),
        age=st.sampled_from([0, 0, 60, 8 * 86400]),
    )
    def report(self, pick: int, statuses: list[str], by: str, opted_out: bool, age: int) -> None:
        """Reports come, in any order, doubled and contradicting each other."""
        message_id, gateway_id = one_of(list(self.outside.gateway_ids.items()), pick)
        if by == "neither":
            # Nothing that we sent, and one of our ids as another gateway would have given it.
            told = {"status": "delivered", "received_at": clock()}
            self._append_report(**told, reference="0" * 32, gateway_message_id="unheard of")
            self._append_report(**told, gateway="another", gateway_message_id=gateway_id)
            return
        for status in statuses:
            if status in list(Status):
                self.outside.statuses[gateway_id] = Status(status)
            self._append_report(
                status=str(status),
                reference=message_id if by != "gateway_message_id" else None,
                gateway_message_id=gateway_id if by != "reference" else None,
                error_class=ErrorClass.OPTOUT.value if opted_out else None,
                occurred_at=None if age else clock(),
                received_at=clock() - timedelta(seconds=age),
                raw=message_id,
            )

    def _append_report(self, **fields: Any) -> None:
        with writing() as connection:
            deliveries.append(connection, [{"gateway": "sandbox", "source": "callback", **fields}])

    @happens(
        4, which=st.sampled_from([None, 0, 1]), polled=st.sampled_from(["works", "broken", "none"])
    )
    def reconcile(self, which: int | None, polled: str) -> None:
        only = None if which is None else [self._run(which).id]
        gateway: Any = model.PolledGateway(self.outside, polled == "broken")
        at = clock()
        done = reconcile(lambda _: None if polled == "none" else gateway, run_ids=only, now=at)
        now = Snapshot.take()
        self._hear_opt_outs(now)
        for run_id in done.finished:
            self.states[run_id] = runs.FINISHED
        told = [problem for problem in done.problems if "poll" not in problem]
        assert not told, told
        model.check_matched(self.before, now, at, MATCH_WITHIN)
        for run_id in only or self.states:
            self._check_reconciled(now, run_id, at, rebuilt=only is not None)

    def _check_reconciled(self, now: Snapshot, run_id: str, at: datetime, rebuilt: bool) -> None:
        ended = self.states[run_id] in (runs.FINISHED, runs.CANCELLED)
        over = now.runs[run_id].finished_at
        forgotten = over is not None and at - over > MATCH_WITHIN
        if rebuilt or (ended and not forgotten):
            model.check_results(now, run_id)
        for message in now.of_run(run_id):
            if ended and not forgotten:
                assert message.state not in ("queued", "deferred"), f"{message.id} is left"
            if not forgotten:
                assert message.state != "sending" or message.lease_until > at, "nobody stranded it"

    def _hear_opt_outs(self, now: Snapshot) -> None:
        """Reports that were matched just now, and were the first of their messages to say so."""
        told = {
            e.message_id
            for e in self.before.events.values()
            if e.message_id and e.error_class == "optout"
        }
        for heard in now.events.values():
            old = self.before.events.get(heard.id)
            new = heard.message_id and not (old and old.message_id)
            if new and heard.error_class == "optout" and heard.message_id not in told:
                recipient = now.messages[heard.message_id].recipient
                self.people.say(recipient, heard.occurred_at or heard.received_at, "opt_out")

    # --- people and operators ----------------------------------------------------------------

    @happens(
        1,
        who=st.sampled_from(PEOPLE[:2]),
        kind=st.sampled_from(["opt_out", "opt_in"]),
        scope=st.sampled_from(["*", "marketing"]),
    )
    def consent(self, who: str, kind: str, scope: str) -> None:
        with writing() as connection:
            self.append_consent(connection, who, kind, scope)

    def _move(
        self, run_id: str, state: str, allowed: tuple[str, ...], do: Callable[[], Any]
    ) -> None:
        if self.states[run_id] in (*allowed, state):
            do()
            self.states[run_id] = state
        else:
            with pytest.raises(runs.RunError):
                do()

    @happens(
        4,
        what=st.sampled_from(
            ["resume", "resume", "pause", "all_sent", "put_aside", "release", "rebuild"]
        ),
        which=PICK,
    )
    def operate(self, what: str, which: int) -> None:
        run = self._run(which)
        getattr(self, f"_{what}")(run)

    def _pause(self, run: CampaignRun) -> None:
        leads = (runs.SENDING, runs.RECONCILING)
        self._move(run.id, runs.PAUSED, leads, lambda: runs.move(run.id, runs.PAUSED))

    def _resume(self, run: CampaignRun) -> None:
        """Approve or go on, whoever else is sending."""
        if self.states[run.id] == runs.WAITING:
            runs.approve(run.id, by="me", note="")
            self.states[run.id] = runs.SENDING
        leads = (runs.PAUSED, runs.RECONCILING)
        self._move(run.id, runs.SENDING, leads, lambda: runs.move(run.id, runs.SENDING))
        doubts.strand(run.id)
        deferring.release(run)

    def _all_sent(self, run: CampaignRun) -> None:
        counts = ledger.state_counts(run.id)
        if self.states[run.id] == runs.SENDING and not {"queued", "sending"} & counts.keys():
            runs.move(run.id, runs.RECONCILING)
            self.states[run.id] = runs.RECONCILING

    def _put_aside(self, run: CampaignRun) -> None:
        """Settle what a claim refuses, as the rules say."""
        deferring.put_aside(run)
        at = clock() + timedelta(seconds=1)
        for message in Snapshot.take().of_run(run.id):
            closed = message.closes_at is not None and message.closes_at <= at
            told = f"{message.id} is left in the queue, and no claim takes it"
            if message.state == "queued":
                assert not closed, told
                assert not self.people.opted_out(message.recipient, run.purpose), told

    def _release(self, run: CampaignRun) -> None:
        deferring.release(run)
        for message in Snapshot.take().of_run(run.id):
            if message.state == "deferred":
                assert message.opens_at > clock.at - timedelta(seconds=1), "it is due"

    def _rebuild(self, run: CampaignRun) -> None:
        with writing() as connection:
            assert results.rebuild(connection, run.id) == run.records_read
            results.check(connection, run.id)
        model.check_results(Snapshot.take(), run.id)

    # What ends everything comes late: before it, there is more to happen.
    @happens(1, when=lambda self: len(self.claims) > 3, which=PICK, dies=st.booleans())
    def cancel(self, which: int, dies: bool) -> None:
        """Cancel; the command may die half-way."""
        run_id = self._run(which).id

        def do() -> None:
            if dies:
                runs.move(run_id, runs.CANCELLED)
            else:
                control.cancel(run_id, "")

        leads = (runs.WAITING, runs.SENDING, runs.PAUSED, runs.RECONCILING)
        self._move(run_id, runs.CANCELLED, leads, do)
        if not dies and self.states[run_id] == runs.CANCELLED:
            model.check_results(Snapshot.take(), run_id)

    @happens(1, when=lambda self: len(self.claims) > 1, hours=st.sampled_from([5, 48, 96]))
    def much_time_passes(self, hours: int) -> None:
        self.time_passes(seconds=hours * 3600)

    @happens(2, seconds=st.sampled_from(WAITS))
    def time_passes(self, seconds: int) -> None:
        clock.at += timedelta(seconds=seconds)
        # No process comes back after a day.
        ago = clock.at - timedelta(days=1)
        self.flights = [flight for flight in self.flights if flight.claimed.lease_until > ago]

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        possible = [
            name
            for name, happening in HAPPENINGS.items()
            if happening.when(self)
            for _ in range(happening.weight)
        ]
        name = data.draw(st.sampled_from(possible), label="what")
        drawn = HAPPENINGS[name].drawn.items()
        getattr(self, name)(**{what: data.draw(among, label=what) for what, among in drawn})

    # --- what must hold ----------------------------------------------------------------------

    @invariant()
    def nothing_broke(self) -> None:
        now = Snapshot.take()
        assert {run.id: run.state for run in now.runs.values()} == self.states
        model.check_rows(now)
        model.check_progress(self.before, now)
        model.check_outside(now, self.outside, self.unclear)
        model.check_reports(now, self.outside)
        self.before = now
