"""Statements on `campaign_run`: one key, one run, and the states it may move through."""

import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from data.database import now, reading, writing
from data.errors import SmsError
from data.tables import CampaignRun

PREPARING = "preparing"
WAITING = "waiting_approval"
SENDING = "sending"
PAUSED = "paused"
RECONCILING = "reconciling"
FINISHED = "finished"
REJECTED = "rejected"
CANCELLED = "cancelled"
FAILED = "failed"

ENDED = frozenset({FINISHED, REJECTED, CANCELLED, FAILED})
PAUSED_BY_HAND = "paused by hand"
PAUSED_IN_UI = "paused in the Prefect UI"
"""Notes of runs that a person has paused: no process takes them up by itself."""
_NEXT = {
    PREPARING: {WAITING, SENDING, CANCELLED, FAILED},
    WAITING: {SENDING, REJECTED, CANCELLED},
    SENDING: {PAUSED, RECONCILING, CANCELLED},
    PAUSED: {SENDING, CANCELLED},
    RECONCILING: {SENDING, PAUSED, FINISHED, CANCELLED},
    # A run that failed while it was prepared has sent nothing: it may be prepared again.
    FAILED: {PREPARING},
}


class RunError(SmsError):
    """A run cannot be started, found or moved to another state."""


def open_run(
    *,
    key: str,
    name: str,
    purpose: str,
    parameters: dict[str, Any],
    gateway: str,
    sender: str,
    not_after: datetime | None,
    flow_run_id: str | None,
    route: dict[str, Any] | None = None,
) -> CampaignRun:
    """Create the run of this key, or return it where this same Prefect run opened it before.

    `route` is empty where `gateway` names a gateway and no route.

    Raises `RunError` where the key belongs to another run: a second start sends nothing.
    """
    made = now()
    run_id = f"{made:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    try:
        with writing() as connection:
            connection.execute(
                insert(CampaignRun).values(
                    id=run_id,
                    key=key,
                    name=name,
                    purpose=purpose,
                    state=PREPARING,
                    parameters=parameters,
                    gateway=gateway,
                    sender=sender,
                    route=route or {},
                    not_after=not_after,
                    flow_run_id=flow_run_id,
                    planned=False,
                    batches=0,
                    counts={},
                    versions={},
                    note="",
                    created_at=made,
                )
            )
    except IntegrityError:
        other = find_run(key)
        if flow_run_id is not None and other.flow_run_id == flow_run_id:
            return other
        mended = {
            "name": name,
            "purpose": purpose,
            "parameters": parameters,
            "gateway": gateway,
            "sender": sender,
            "route": route or {},
            "not_after": not_after,
            "flow_run_id": flow_run_id,
        }
        if _take_over(other.id, mended):
            return get_run(other.id)
        raise _taken(other) from None
    return get_run(run_id)


def refuse_taken(key: str) -> None:
    """Raise `RunError` where a key belongs to a run, before anything is started for it."""
    if (run_id := id_of(key)) is not None:
        run = get_run(run_id)
        if run.planned or run.state != FAILED:
            raise _taken(run)


def _take_over(run_id: str, mended: dict[str, Any]) -> bool:
    """Prepare a failed run anew from a mended campaign: it has no plan, so nobody was sent it."""
    with writing() as connection:
        return bool(
            connection.execute(
                update(CampaignRun)
                .where(
                    col(CampaignRun.id) == run_id,
                    col(CampaignRun.state) == FAILED,
                    col(CampaignRun.planned).is_(False),
                )
                .values(**mended, state=PREPARING, note="", finished_at=None)
            ).rowcount
        )


def _taken(other: CampaignRun) -> RunError:
    return RunError(
        f"the key “{other.key}” belongs to run {other.id}, started"
        f" {other.created_at:%Y-%m-%d %H:%M} UTC and now {other.state}: nothing was sent."
        f" Go on with it by `sms resume {other.id}`, or give this campaign another key"
    )


def id_of(key: str) -> str | None:
    """Return the id of the run that a key belongs to, if there is one."""
    found = _select(col(CampaignRun.key) == key)
    return found[0].id if found else None


def get_run(run_id: str) -> CampaignRun:
    """Return a run by its id. Raises `RunError` where there is none."""
    found = _select(col(CampaignRun.id) == run_id)
    if not found:
        raise RunError(f"there is no run {run_id}: `sms runs` lists them")
    return found[0]


def find_run(name: str) -> CampaignRun:
    """Return a run by its id or key."""
    found = _select((col(CampaignRun.id) == name) | (col(CampaignRun.key) == name))
    if not found:
        raise RunError(f"there is no run {name}: `sms runs` lists them")
    return found[0]


def of_flow_run(flow_run_id: str) -> CampaignRun | None:
    """Return the run that a Prefect run works on."""
    found = _select(col(CampaignRun.flow_run_id) == flow_run_id)
    return found[0] if found else None


def list_runs(states: Iterable[str] | None = None, limit: int = 1000) -> list[CampaignRun]:
    """Return the newest runs first, all or those in `states`."""
    if states is None:
        return _select(col(CampaignRun.id) == CampaignRun.id, limit)
    return _select(col(CampaignRun.state).in_(list(states)), limit)


def _select(condition: Any, limit: int = 1) -> list[CampaignRun]:
    table = CampaignRun.__table__  # type: ignore[attr-defined]
    statement = select(table).where(condition).order_by(table.c.created_at.desc()).limit(limit)
    with reading() as connection:
        return [CampaignRun(**row) for row in connection.execute(statement).mappings()]


def move(run_id: str, state: str, *, note: str | None = None, **columns: Any) -> bool:
    """Move a run to `state`; return False where it is there already.

    Raises `RunError` where the run is in a state that does not lead there.
    """
    with writing() as connection:
        return move_within(connection, run_id, state, note=note, **columns)


def move_within(
    connection: Connection, run_id: str, state: str, *, note: str | None = None, **columns: Any
) -> bool:
    """`move`, inside a transaction of the caller's."""
    values: dict[str, Any] = {"state": state, **columns}
    if note is not None:
        values["note"] = note
    if state in ENDED:
        values.setdefault("finished_at", now())
    leads = [start for start, ends in _NEXT.items() if state in ends]
    changed = connection.execute(
        update(CampaignRun)
        .where(col(CampaignRun.id) == run_id, col(CampaignRun.state).in_(leads))
        .values(**values)
    )
    if changed.rowcount:
        return True
    present = connection.execute(
        select(col(CampaignRun.state)).where(col(CampaignRun.id) == run_id)
    ).scalar_one_or_none()
    if present == state:
        return False
    if present is None:
        raise RunError(f"there is no run {run_id}: `sms runs` lists them")
    raise RunError(f"run {run_id} is {present}: it cannot become {state}")


def all_sent(run_id: str) -> bool:
    """Move a run from sending to reconciling; False where it is not being sent (any more)."""
    with writing() as connection:
        moved = connection.execute(
            update(CampaignRun)
            .where(col(CampaignRun.id) == run_id, col(CampaignRun.state) == SENDING)
            .values(state=RECONCILING)
        )
    return bool(moved.rowcount)


def approve(run_id: str, *, by: str, note: str) -> None:
    """Let a run that waits for approval be sent, and record who said so.

    Raises `RunError` for a run in any other state: only what was previewed can be approved.
    """
    with writing() as connection:
        approved = connection.execute(
            update(CampaignRun)
            .where(
                col(CampaignRun.id) == run_id,
                col(CampaignRun.state) == WAITING,
                col(CampaignRun.planned),
            )
            .values(state=SENDING, note=note, approved_by=by, approved_at=now())
        )
    if not approved.rowcount:
        state = get_run(run_id).state
        raise RunError(
            f"run {run_id} is {state}: there is nothing to approve. `sms resume {run_id}` goes on"
            " with it; when it waits for approval, read the preview, then --approve"
        )


def store(run_id: str, **columns: Any) -> None:
    """Store facts of a run that do not change its state."""
    with writing() as connection:
        connection.execute(
            update(CampaignRun).where(col(CampaignRun.id) == run_id).values(**columns)
        )
