"""Matches delivery reports to messages and rebuilds the results tables, on a schedule."""

from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger

from data import consent_chain, runs
from data.migrate import migrate
from data.privacy import impersonal
from flows.watch import prefect_state
from tasks import control, reporting, reviewing, steps
from tasks.waiting import waiting

_OVER_WHILE_WAITING = {"CANCELLED", "CANCELLING", "FAILED", "CRASHED", "COMPLETED"}


@flow(name="reconcile-deliveries")
@impersonal
def reconcile_deliveries() -> dict[str, Any]:
    """Match reports, poll for missing ones, expire, rebuild results that changed, seal consent."""
    migrate()
    close_abandoned_runs()
    done = steps.reconcile()
    consent_chain.seal()
    report_stuck_runs()
    for run_id in done.changed:
        reporting.show_campaign(runs.get_run(run_id))
    reviewing.show_replies()
    return asdict(done)


def report_stuck_runs() -> None:
    """Say in the log which runs wait in vain, and for what."""
    for run in runs.list_runs((runs.PREPARING, runs.SENDING, runs.RECONCILING)):
        for wait in waiting(run):
            if wait.stuck:
                get_run_logger().warning("run %s is stuck: %s", run.id, wait.says)


def close_abandoned_runs() -> None:
    """End the runs that Prefect ended while they waited, or that were cancelled in its UI.

    Prefect calls no hook for those, so the ledger learns of them here.
    """
    for run in runs.list_runs((runs.PREPARING, runs.WAITING, runs.SENDING, runs.PAUSED)):
        found = prefect_state(run.flow_run_id)
        state = found.type.value if found else ""
        cancelled = state in ("CANCELLED", "CANCELLING")
        waited = run.state == runs.WAITING and state in _OVER_WHILE_WAITING
        # `sms send` completes its Prefect run when it hands over to `sms resume --approve`.
        if cancelled or (waited and state != "COMPLETED"):
            control.cancel(run.id, f"its Prefect run is {state.lower()}")
            get_run_logger().warning("run %s cancelled: its Prefect run is %s", run.id, state)
