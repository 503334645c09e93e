"""The campaign flow: pull, validate, apply consent, show, wait for approval, send, reconcile."""

from typing import Any

from prefect import flow, suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from data import ledger, runs
from data.migrate import migrate
from data.privacy import impersonal
from data.settings import settings
from data.tables import CampaignRun
from flows import stages
from flows.campaign import Campaign
from tasks import control

APPROVAL_SECONDS = 24 * 3600


class Approval(RunInput):
    """The answer to a preview."""

    approve: bool = Field(False, description="On: it is sent. Off: it is rejected, for good.")
    name: str = Field("", description="Who you are.")
    note: str = Field("", description="What the record should say.")


@flow(
    name="send-campaign",
    flow_run_name="{campaign.name}",
    task_runner=ThreadPoolTaskRunner(max_workers=settings().batches_in_flight),  # type: ignore[arg-type]
)
@impersonal
def send_campaign(campaign: Campaign) -> dict[str, Any]:
    """Send an SMS campaign: one message to everybody in an audience who may get it.

    Returns the run's id and state, and the number of audience rows by outcome.
    """
    migrate()
    run = open_run(campaign)
    if run.state in stages.UNPLANNED:
        stages.prepare(run, runs.WAITING if campaign.approval else runs.SENDING)
    if runs.get_run(run.id).state == runs.WAITING:
        if not _in_deployment():
            return _summary(run.id, {})
        ask(run.id)
    if runs.get_run(run.id).state == runs.REJECTED:
        return _summary(run.id, stages.finish(run.id))
    return _summary(run.id, stages.carry_on(run.id))


def open_run(campaign: Campaign) -> CampaignRun:
    """Open the run of this campaign's key; a second start of the key is refused."""
    slot = flow_run.scheduled_start_time if flow_run.run_count and _scheduled() else None
    return runs.open_run(
        key=campaign.key_in_force(slot),
        name=campaign.name,
        purpose=campaign.purpose,
        parameters=campaign.stored(),
        gateway=campaign.gateway_name,
        sender=campaign.sender_in_force,
        route=campaign.route_in_force().stored(),
        not_after=campaign.not_after,
        flow_run_id=flow_run.id,
    )


def ask(run_id: str) -> None:
    """Suspend until a person answers; the answer is the run's state in the ledger.

    The process ends here and a new one enters the flow again from the top, where the plan in the
    ledger is found complete: what was previewed is what is sent.
    """
    counts = ledger.state_counts(run_id)
    now, later = counts.get(ledger.QUEUED, 0), counts.get(ledger.DEFERRED, 0)
    answer = suspend_flow_run(
        wait_for_input=Approval.with_initial_data(
            description=f"**{now:,} messages go out now and {later:,} later.** The preview, among"
            " this run's artifacts, shows to whom, how they read and what they cost."
        ),
        timeout=APPROVAL_SECONDS,
    )
    if answer.approve:
        runs.approve(run_id, by=answer.name, note=answer.note)
    else:
        control.reject(run_id, answer.note, answer.name)


def _in_deployment() -> bool:
    return deployment.id is not None


def _scheduled() -> bool:
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.auto_scheduled)


def _summary(run_id: str, outcomes: dict[str, int]) -> dict[str, Any]:
    return {"run": run_id, "state": runs.get_run(run_id).state, "outcomes": outcomes}
