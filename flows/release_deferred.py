"""Sends deferred messages whose recipients' hours have opened, on a schedule."""

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from data import ledger, runs
from data.database import now
from data.errors import SmsError
from data.migrate import migrate
from data.settings import settings
from flows import stages


@flow(
    name="release-deferred",
    task_runner=ThreadPoolTaskRunner(max_workers=settings().batches_in_flight),  # type: ignore[arg-type]
)
def release_deferred() -> list[str]:
    """Send what is due of every run that waits for somebody's morning; return those runs' ids."""
    migrate()
    released: list[str] = []
    for run in runs.list_runs((runs.RECONCILING,)):
        opening = ledger.next_opening(run.id)
        if opening is None or opening > now():
            continue
        try:
            runs.move(run.id, runs.SENDING)
            stages.send(run.id)
            released.append(run.id)
        except SmsError as error:
            # One campaign's trouble must not hold up the others; the run itself keeps the reason.
            get_run_logger().error(f"run {run.id}: {error}")
    return released
