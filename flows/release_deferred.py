"""Sends what is left of runs that are past their sending, on a schedule.

Deferred messages whose recipients' hours have opened, and those that a slow sender gave back when
everybody else had left.
"""

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from data import ledger, runs
from data.database import now
from data.errors import SmsError
from data.migrate import migrate
from data.privacy import impersonal
from data.settings import settings
from flows import stages


@flow(
    name="release-deferred",
    task_runner=ThreadPoolTaskRunner(max_workers=settings().batches_in_flight),  # type: ignore[arg-type]
)
@impersonal
def release_deferred() -> list[str]:
    """Send what is due of every run that waits, as for somebody's morning; return their ids."""
    migrate()
    released: list[str] = []
    for run in runs.list_runs((runs.RECONCILING,)):
        opening = ledger.next_opening(run.id)
        due = opening is not None and opening <= now()
        if not due and not ledger.is_unsent(run.id):
            continue
        try:
            runs.move(run.id, runs.SENDING)
            stages.send(run.id)
            released.append(run.id)
        except SmsError as error:
            # One campaign's trouble must not hold up the others; the run itself keeps the reason.
            get_run_logger().error(f"run {run.id}: {error}")
    return released
