"""Says of a run that is not over what waits for what, and which of it waits in vain.

Sentences for `sms runs` and the log of reconciliation. The figures are from `data/waits`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from data import batches, pace, runs, standing_runs
from data.settings import settings
from data.tables import CampaignRun
from data.waits import Waits, lane, refusals, waiting_gateways, waits
from data.workspace import Workspace
from tasks import routing

QUIET = timedelta(seconds=90)
"""So long after a sender's last message without another one, its run is looked at as stuck."""


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that a run waits for."""

    says: str
    stuck: bool = False
    """Whether it will wait for ever unless somebody does something."""


def waiting(run: CampaignRun) -> list[Wait]:
    """Return what a run waits for; nothing for one that has ended."""
    return _answers(run) if standing_runs.is_standing(run) else _campaign(run)


def _campaign(run: CampaignRun) -> list[Wait]:
    match run.state:
        case runs.PREPARING:
            return [_preparation(run)]
        case runs.WAITING:
            return [Wait(f"it waits for `sms resume {run.id} --approve` or the answer in the UI")]
        case runs.PAUSED:
            return [Wait(f"it is paused; `sms resume {run.id}` goes on"), *_later(waits(run.id))]
        case runs.SENDING:
            now = waits(run.id)
            return [*_sending(run, now), *_later(now)]
        case runs.RECONCILING:
            now = waits(run.id)
            left = now.ready + now.retrying
            given_back = [Wait(f"{left:,} messages wait for release-deferred or `sms resume`")]
            return [*(given_back if left else []), *_later(now)]
    return []


def _answers(run: CampaignRun) -> list[Wait]:
    now = waits(run.id)
    left = now.ready + now.retrying
    return [Wait(f"{left:,} answers wait for the receiver: is `sms web` running?")] if left else []


def _preparation(run: CampaignRun) -> Wait:
    if Workspace(run.id).is_abandoned():
        lost = "the process that prepared it was lost"
        return Wait(f"{lost}: `sms resume {run.id}` prepares it anew", stuck=True)
    # Perhaps on another host, whose processes cannot be seen from here.
    return Wait(f"it is being prepared since {_clock(run.created_at)}")


def _sending(run: CampaignRun, now: Waits) -> list[Wait]:
    """What keeps messages that may go now from going."""
    found = []
    if now.sending and now.leased_until is not None and now.leased_until <= now.at:
        found.append(
            Wait(
                f"{now.sending:,} messages were being sent when their sender was lost:"
                " `sms reconcile` puts them in doubt and asks the gateway",
                stuck=True,
            )
        )
    if now.retrying and now.retry_at is not None:
        codes = ", ".join(refusals(run.id)) or "no code"
        found.append(
            Wait(
                f"{now.retrying:,} messages wait until {_clock(now.retry_at)}: the gateway"
                f" {run.gateway} has put them off ({codes})"
            )
        )
    if now.ready:
        found.append(_ready(run, now))
    return found


def _ready(run: CampaignRun, now: Waits) -> Wait:
    queued_at = waiting_gateways(run.id)
    lanes = {
        f"the lane of {gateway} and sender {sender or 'of its own choice'}": lane(
            pace.lane_of(gateway, sender)
        )
        for gateway, sender in routing.route_of(run).senders.items()
        if gateway in queued_at
    }
    for name, its in lanes.items():
        if its is not None and its.rate == 0:
            return Wait(f"{now.ready:,} messages wait for {name}: its concurrency limit is 0", True)
    began = now.last_submitted_at or run.approved_at or run.created_at
    if not batches.processes(run.id) and now.at - began > QUIET:
        return Wait(
            f"{now.ready:,} messages wait for a sender, and nobody has sent since"
            f" {_clock(began)}: `sms resume {run.id}` goes on",
            stuck=True,
        )
    begun = {name: its for name, its in lanes.items() if its is not None}
    if not begun:
        return Wait(f"{now.ready:,} messages wait for their sender to begin")
    for name, its in begun.items():
        held = its.next_at - now.at.timestamp()
        if held > pace.HORIZON + pace.WINDOW:
            return Wait(
                f"{now.ready:,} messages wait {held:,.0f} s for {name}: it was told to wait"
            )
    rate = sum(its.rate for its in begun.values())
    left = timedelta(seconds=round(now.ready / rate))
    return Wait(f"{now.ready:,} messages go out at {rate:,g} a second: about {left} left")


def _later(now: Waits) -> list[Wait]:
    """What waits for a time or for others, whether or not anybody sends."""
    found = []
    if now.deferred and now.opens_at is not None:
        due = now.at - now.opens_at > QUIET * 8
        found.append(
            Wait(
                f"{now.deferred:,} messages wait for their recipients' hours, the first"
                f" {'since' if due else 'until'} {_clock(now.opens_at)}"
                + (": is release-deferred scheduled, or its worker away?" if due else ""),
                stuck=due,
            )
        )
    patience = timedelta(seconds=settings().expire_after)
    if now.in_doubt:
        until = (now.doubted_since or now.at) + patience
        found.append(
            Wait(f"{now.in_doubt:,} messages are in doubt until a report or {_clock(until)}")
        )
    if now.unreported and now.accepted_since is not None:
        until = now.accepted_since + patience
        found.append(
            Wait(f"{now.unreported:,} messages wait for a delivery report or {_clock(until)}")
        )
    return found


def _clock(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
