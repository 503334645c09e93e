"""Has a run gone on with whose process died. Automations start it: its triggers in prefect.yaml."""

from datetime import timedelta
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Crashed

from data import ledger, runs
from data.database import now
from data.migrate import migrate
from data.privacy import impersonal
from data.tables import CampaignRun
from flows.handover import hand_over
from flows.watch import prefect_state

_PREFIX = "prefect.flow-run."
_RECENT = timedelta(minutes=10)


@flow(name="revive-campaign", flow_run_name="revive {died}")
@impersonal
def revive_campaign(died: str) -> dict[str, Any]:
    """Hand the campaign over of a Prefect run that crashed, failed, or lost its heartbeat.

    `died` is its id, or its resource in an event. Should its process be alive after all, two
    senders share the run, which does no harm. A run is paused instead, for somebody to look at,
    where it died again without having got any further, or where this starts much later than asked
    for (everything was stopped in between).
    """
    migrate()
    flow_run_id = died.removeprefix(_PREFIX)
    run = runs.of_flow_run(flow_run_id)
    if run is None or run.state not in (runs.PREPARING, runs.SENDING):
        return {"run": run.id if run else None, "revived": False}
    _mark_crashed(flow_run_id)
    note = _objection(run)
    if note:
        if run.state == runs.PREPARING:
            runs.move(run.id, runs.FAILED, note=note)
        else:
            runs.move(run.id, runs.PAUSED, note=f"{note}, then `sms resume {run.id}`")
        get_run_logger().error("run %s: %s", run.id, note)
        return {"run": run.id, "revived": False}
    get_run_logger().warning("the process of run %s died: resume-campaign goes on with it", run.id)
    return {"run": run.id, "revived": hand_over(run.id)}


def _objection(run: CampaignRun) -> str:
    """Why a person should decide; empty where nothing speaks against going on."""
    asked = flow_run.scheduled_start_time
    if asked is not None and now() - asked > _RECENT:
        return f"its process died at {asked:%Y-%m-%d %H:%M} UTC, when nobody could go on with it"
    if _has_stopped_advancing(run):
        return "its process died twice at the same place: see its log"
    return ""


def _has_stopped_advancing(run: CampaignRun) -> bool:
    """Whether nothing was sent since it was revived last; remembers where it is now."""
    counts = ledger.state_counts(run.id)
    place = [run.state, counts.get(ledger.QUEUED, 0)]
    if run.counts.get("revived_at") == place:
        return True
    runs.store(run.id, counts=run.counts | {"revived_at": place})
    return False


def _mark_crashed(flow_run_id: str) -> None:
    """Show in the UI what became of the run whose process died with its worker."""
    state = prefect_state(flow_run_id)
    if state is not None and not state.is_final():
        with get_client(sync_client=True) as client:
            crashed: State = Crashed(message="its process died; resume-campaign goes on with it")
            client.set_flow_run_state(flow_run_id, crashed, force=True)
