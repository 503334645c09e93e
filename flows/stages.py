"""The chapters of a campaign that more than one flow tells: prepare, send, wait for reports."""

import time
from collections import Counter

from prefect import get_run_logger
from prefect.runtime import flow_run

from data import doubts, ledger, plan, results, runs, switches
from data.database import now, patiently, reading, writing
from data.errors import SmsError
from data.settings import settings
from data.tables import CampaignRun
from data.workspace import Workspace
from flows.campaign import brief_of
from flows.shards import sharded
from flows.watch import leave_suspended, watched
from tasks import deferring, judging, reporting, steps
from tasks.validation import Totals, Validator, render_report

UNPLANNED = (runs.PREPARING, runs.FAILED)
"""States of a run without a complete plan, which may be prepared again: nothing was sent."""


class RunStoppedError(SmsError):
    """The run stopped before its end; the ledger says why, and it can be resumed."""


def prepare(run: CampaignRun, state: str) -> None:
    """From the audience to a complete plan; then the run is in `state`. Nothing is sent."""
    brief = brief_of(run)
    Workspace(run.id).take()
    runs.move(run.id, runs.PREPARING, note="", finished_at=None)
    try:
        notes = steps.check_gateways(run)
        plan.clear_plan(run.id)
        pulled = steps.pull_audience(brief)
        totals, validator, workspace = Totals(), Validator(), Workspace(run.id)
        numbers = workspace.numbers("pulled")
        for number in numbers:
            steps.check_partition(brief, pulled, number, validator, totals)
        report = render_report(totals, {"Campaign": run.name, "Run": run.id})
        workspace.report("validation.html").write_text(report)
        reporting.show_validation(run, totals)
        steps.check_share(brief, totals)
        steps.deduplicate(brief)
        at, before, planned = now(), Counter[str](), []
        for number in numbers:
            planned.append(steps.plan_partition(brief, pulled, number, at, before))
            before += planned[-1].gateways
        rate = steps.rate_of(run)
        # Before the state says that it waits for approval: what waits has been shown.
        reporting.show_preview(runs.get_run(run.id), [*notes, *pulled.notes], planned, rate)
        plan.complete_plan(run.id, state)
    except Exception as error:
        # Nothing was sent, and nothing will be: the plan is not complete.
        if runs.get_run(run.id).state == runs.PREPARING:
            known = isinstance(error, SmsError)
            note = str(error) if known else f"a fault of the program ({type(error).__name__})"
            runs.move(run.id, runs.FAILED, note=note)
        raise
    finally:
        Workspace(run.id).forget_partitions()
        Workspace(run.id).leave()


def send(run_id: str) -> None:
    """Send everything that may be sent now. Safe to begin again after any interruption.

    Raises `RunStoppedError` where the run was paused or the gateway refused to go on.
    """
    run = runs.get_run(run_id)
    steps.resolve_doubts(run.id)
    deferring.look_again(run)
    deferring.release(run)
    deferring.put_aside(run)
    with watched(run), sharded(run):
        _send_to_the_end(run)
    if not runs.all_sent(run.id):
        _raise_if_stopped(runs.get_run(run.id))
    if opening := ledger.next_opening(run.id):
        get_run_logger().info("the first deferred message may go at %s", f"{opening:%F %H:%M UTC}")


def _send_to_the_end(run: CampaignRun) -> None:
    """Send until nothing of a run is left to send."""
    run_id, progress = run.id, steps.Progress(run.id)
    while True:
        steps.send_batches(run.id, progress)
        run = patiently(lambda: runs.get_run(run_id))
        if run.state == runs.RECONCILING and ledger.is_unsent(run.id):
            # A slow sender gave some back after another process had seen the end.
            runs.move(run.id, runs.SENDING)
            continue
        _raise_if_stopped(run)
        if run.state != runs.SENDING:
            return  # another process has sent the rest meanwhile
        # Another sender of this run may hold messages still, and give some of them back.
        patiently(lambda: doubts.strand(run_id))
        if patiently(lambda: ledger.is_unsent(run_id)):
            time.sleep(0.5)
            continue
        # What a gateway says it never got is sent again.
        steps.resolve_doubts(run.id)
        if not ledger.is_unsent(run.id):
            return


def _raise_if_stopped(run: CampaignRun) -> None:
    if run.state not in (runs.SENDING, runs.RECONCILING, runs.FINISHED):
        raise RunStoppedError(run.note or f"run {run.id} is {run.state}")


def wait_for_reports(run_id: str) -> None:
    """Reconcile until every accepted message has its final report, or `report_wait` is over."""
    ends = time.monotonic() + settings().report_wait
    while True:
        steps.reconcile([run_id])
        with reading() as connection:
            pending = results.outcome_counts(connection, run_id).get("pending", 0)
        if not pending or time.monotonic() > ends:
            return
        time.sleep(1)


def finish(run_id: str) -> dict[str, int]:
    """Account for every record, show the report, and return the outcomes.

    Raises `NotAccounted` where a record has no outcome, or two.
    """
    with writing() as connection:
        results.rebuild(connection, run_id)
        account = results.check(connection, run_id)
    run = runs.get_run(run_id)
    reporting.show_campaign(run)
    reporting.save_report(run)
    get_run_logger().info(
        "Accounted for %s of %s rows", f"{account.accounted:,}", f"{account.read:,}"
    )
    return dict(account.outcomes)


def carry_on(run_id: str, *, unpause: bool = True) -> dict[str, int]:
    """Send, wait for reports and report: everything after the approval."""
    state = runs.get_run(run_id).state
    if state == runs.RECONCILING or (state == runs.PAUSED and unpause):
        switches.take_in(run_id)
        judging.forget(run_id)
        runs.move(run_id, runs.SENDING, note="")
    if runs.get_run(run_id).state == runs.SENDING:
        try:
            send(run_id)
        except RunStoppedError:
            leave_suspended(runs.get_run(run_id))
            raise
    wait_for_reports(run_id)
    return finish(run_id)


def go_on(run: CampaignRun, *, unpause: bool) -> dict[str, int]:
    """Go on with a run wherever it stands, from its stored plan; prepare it where it has none."""
    if run.state == runs.PAUSED and not unpause:
        return {}
    if run.state in {*UNPLANNED, runs.SENDING, runs.PAUSED, runs.RECONCILING}:
        # Cancelling in Prefect's UI counts for the Prefect run that works on it now: the first
        # one may have failed long ago.
        runs.store(run.id, flow_run_id=flow_run.id)
    if run.state in UNPLANNED:
        asks = run.parameters.get("approval", True) and run.approved_at is None
        prepare(run, runs.WAITING if asks else runs.SENDING)
    if runs.get_run(run.id).state in (runs.SENDING, runs.PAUSED, runs.RECONCILING):
        return carry_on(run.id, unpause=unpause)
    return finish(run.id) if run.planned else {}
