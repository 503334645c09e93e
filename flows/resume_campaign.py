"""Goes on with a run that was interrupted, paused, approved elsewhere, or has deferred messages."""

from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from data import runs
from data.migrate import migrate
from data.settings import settings
from flows import stages

_GOES_ON = {*stages.UNPLANNED, runs.SENDING, runs.PAUSED, runs.RECONCILING}


@flow(
    name="resume-campaign",
    flow_run_name="resume {run_id}",
    task_runner=ThreadPoolTaskRunner(max_workers=settings().batches_in_flight),  # type: ignore[arg-type]
)
def resume_campaign(run_id: str) -> dict[str, Any]:
    """Go on with a run from the stored plan. A plan that was never completed is made anew."""
    migrate()
    run = runs.find_run(run_id)
    if run.state in _GOES_ON:
        # Cancelling in Prefect's UI counts for the Prefect run that works on it now: the first
        # one may have failed long ago.
        runs.store(run.id, flow_run_id=flow_run.id)
    if run.state in stages.UNPLANNED:
        asks = run.parameters.get("approval", True) and run.approved_at is None
        stages.prepare(run, runs.WAITING if asks else runs.SENDING)
    state = runs.get_run(run.id).state
    outcomes: dict[str, int] = {}
    if state in (runs.SENDING, runs.PAUSED, runs.RECONCILING):
        outcomes = stages.carry_on(run.id)
    elif run.planned:
        outcomes = stages.finish(run.id)
    return {"run": run.id, "state": runs.get_run(run.id).state, "outcomes": outcomes}
