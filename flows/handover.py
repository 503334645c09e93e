"""Hands a run over to `resume-campaign`, which alone goes on with runs. A worker picks it up."""

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from data.errors import SmsError

_LIVE = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


class DeploymentError(SmsError):
    """A deployment of this project is not registered."""


def hand_over(run_id: str) -> bool:
    """Start a `resume-campaign` run; False where one is under way. A paused run stays paused."""
    tag = f"resume-of-{run_id}"
    with get_client(sync_client=True) as client:
        if live_runs(client, tag):
            return False
        start(client, "resume-campaign", {"run_id": run_id, "unpause": False}, tag)
    return True


def start(client: SyncPrefectClient, name: str, parameters: dict[str, object], tag: str) -> None:
    """Start a run of a deployment. Raises `DeploymentError` where it is not registered."""
    try:
        deployment = client.read_deployment_by_name(f"{name}/{name}")
    except ObjectNotFound:
        raise DeploymentError(
            f"there is no deployment {name}: run `prefect deploy --all`"
        ) from None
    client.create_flow_run_from_deployment(deployment.id, parameters=parameters, tags=[tag])


def live_runs(client: SyncPrefectClient, tag: str) -> list[FlowRun]:
    """Return the runs with a tag that have not ended, as far as Prefect knows."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[tag]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_LIVE)),
        )
    )
