"""Goes on with a run that was interrupted, paused, approved elsewhere, or has deferred messages."""

from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from data import runs, standing_runs
from data.migrate import migrate
from data.privacy import impersonal
from data.settings import settings
from flows import stages


@flow(
    name="resume-campaign",
    flow_run_name="resume {run_id}",
    task_runner=ThreadPoolTaskRunner(max_workers=settings().batches_in_flight),  # type: ignore[arg-type]
)
@impersonal
def resume_campaign(run_id: str, unpause: bool = True) -> dict[str, Any]:
    """Go on with a run from the stored plan. A plan that was never completed is made anew.

    `unpause`: also with one that somebody has paused. Resuming in the UI always does.
    """
    migrate()
    run = runs.find_run(run_id)
    if standing_runs.is_standing(run):
        # The receiver sends it, for as long as its day lasts: here it is at most taken up again.
        if run.state == runs.PAUSED and unpause:
            runs.move(run.id, runs.SENDING, note="")
        return {"run": run.id, "state": runs.get_run(run.id).state, "outcomes": {}}
    again = (flow_run.run_count or 0) > 1
    outcomes = stages.go_on(run, unpause=unpause or again)
    return {"run": run_id, "state": runs.find_run(run_id).state, "outcomes": outcomes}
