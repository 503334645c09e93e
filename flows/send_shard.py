"""Helps to send a campaign: as many runs of this as wanted, on as many workers as there are."""

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data import ledger, runs
from data.migrate import migrate
from data.privacy import impersonal
from data.settings import settings
from flows.watch import watched
from tasks import steps


@flow(
    name="send-shard",
    flow_run_name="shard of {run_id}",
    task_runner=ThreadPoolTaskRunner(max_workers=settings().batches_in_flight),  # type: ignore[arg-type]
)
@impersonal
def send_shard(run_id: str) -> dict[str, int]:
    """Take batches of a run that is being sent, and send them, until there is none left.

    It decides nothing: the run's own flow begins, ends and reports. Starting one late, twice or
    for a run that is over does no harm. Returns the run's messages by state.
    """
    migrate()
    run = runs.find_run(run_id)
    if run.state == runs.SENDING:
        with watched(run, decides=False):
            steps.send_batches(run.id)
    return ledger.state_counts(run.id)
