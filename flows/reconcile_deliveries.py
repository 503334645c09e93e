"""Matches delivery reports to messages and rebuilds the results tables, on a schedule."""

from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from data import runs
from data.migrate import migrate
from tasks import control, reporting, steps

_OVER_WHILE_WAITING = {"CANCELLED", "CANCELLING", "FAILED", "CRASHED", "COMPLETED"}


@flow(name="reconcile-deliveries")
def reconcile_deliveries() -> dict[str, Any]:
    """Match reports, poll for missing ones, expire, and rebuild the results that changed."""
    migrate()
    close_abandoned_runs()
    done = steps.reconcile()
    for run_id in done.changed:
        reporting.show_campaign(runs.get_run(run_id))
    return asdict(done)


def close_abandoned_runs() -> None:
    """End the runs that Prefect ended while they waited, or that were cancelled in its UI.

    Prefect calls no hook for those, so the ledger learns of them here.
    """
    for run in runs.list_runs((runs.PREPARING, runs.WAITING, runs.SENDING, runs.PAUSED)):
        state = _prefect_state(run.flow_run_id)
        cancelled = state in ("CANCELLED", "CANCELLING")
        waited = run.state == runs.WAITING and state in _OVER_WHILE_WAITING
        # `sms send` completes its Prefect run when it hands over to `sms resume --approve`.
        if cancelled or (waited and state != "COMPLETED"):
            control.cancel(run.id, f"its Prefect run is {state.lower()}")
            get_run_logger().warning("run %s cancelled: its Prefect run is %s", run.id, state)


def _prefect_state(flow_run_id: str | None) -> str:
    if flow_run_id is None:
        return ""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(flow_run_id).state  # type: ignore[arg-type]
        except ObjectNotFound:
            return ""
    return state.type.value if state else ""
