"""Ending a run by a person's word. Needs no Prefect."""

from datetime import datetime

from data import deferral, results, runs
from data.database import now, writing
from data.workspace import Workspace


def reject(run_id: str, note: str, by: str) -> None:
    """End a run that was not approved: nothing is sent, every record has its outcome."""
    _end(run_id, runs.REJECTED, note, approved_by=by, approved_at=now())


def cancel(run_id: str, note: str) -> None:
    """End a run now. What was handed to a gateway before is still reported on."""
    _end(run_id, runs.CANCELLED, note)


def _end(run_id: str, state: str, note: str, **facts: datetime | str) -> None:
    runs.move(run_id, state, note=note, **facts)
    deferral.cancel_open(run_id)
    Workspace(run_id).forget_partitions()
    if runs.get_run(run_id).planned:
        with writing() as connection:
            results.rebuild(connection, run_id)
