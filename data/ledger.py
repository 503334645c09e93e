"""The sending ledger: claim and record, and what waits to be claimed.

The promise kept here: a message is committed as `sending` before its first byte leaves, and what
got no clear answer is never claimable again. Hours and deadlines are in `data.deferral`, settling
what is in doubt in `data.doubts`, matching of delivery reports in `data.deliveries`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, or_, select, update
from sqlmodel import col

from data import frequency, runs
from data.database import clock, is_sqlite, now, reading, writing
from data.recheck import LEAVES_WITHIN, may_leave
from data.tables import CampaignRun, Message

QUEUED = "queued"
DEFERRED = "deferred"
SENDING = "sending"
ACCEPTED = "accepted"
IN_DOUBT = "in_doubt"
OPEN = (QUEUED, DEFERRED, SENDING)


@dataclass(frozen=True, slots=True)
class Claimed:
    """One message that this sender may submit once, before its lease runs out."""

    id: str
    recipient: str
    text: str
    sender: str
    encoding: str
    segments: int
    attempt: int
    closes_at: datetime | None
    """When the recipient's hours end."""
    lease_until: datetime
    submission: str | None
    """Reference of the window, where the gateway takes one for a whole request."""
    resend_until: datetime | None
    """Not empty: it may have been accepted before, and goes out again under the same id."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What is to be recorded of one claimed message."""

    id: str
    attempt: int
    state: str
    reason: str = ""
    gateway_message_id: str | None = None
    error_code: str | None = None
    retry_at: datetime | None = None
    segments: int | None = None
    price: str | None = None
    currency: str | None = None


# --- claim -----------------------------------------------------------------------------------


def claim(
    run: CampaignRun,
    batch: int,
    *,
    gateway: str,
    sender: str,
    lease: timedelta,
    limit: int,
    submission: str | None = None,
) -> list[Claimed]:
    """Claim and re-check up to `limit` queued messages of a batch, in one committed statement.

    Re-checked: run neither paused nor cancelled and before its deadline, no retry delay running,
    and `may_leave`.
    """
    with writing() as connection:
        frequency.lock(connection, run)
        # Read behind the lock, which may have been waited for: a lease begins when it is written.
        at = clock(connection)
        chosen = (
            select(col(Message.id))
            .where(
                *queued_of(run.id, batch, gateway),
                *_claimable(run, at),
            )
            .order_by(col(Message.row))
            .limit(limit)
        )
        if not is_sqlite(connection):
            chosen = chosen.with_for_update(skip_locked=True)
        # A CTE, because PostgreSQL may run a plain subquery more than once, past its limit.
        window = chosen.cte("chosen")
        statement = (
            update(Message)
            .where(col(Message.id).in_(select(window.c.id)), col(Message.state) == QUEUED)
            .values(
                state=SENDING,
                owner=sender,
                attempt=col(Message.attempt) + 1,
                lease_until=at + lease,
                submitted_at=at,
                submission=submission,
                retry_at=None,
            )
            .returning(*(col(getattr(Message, name)) for name in Claimed.__slots__))
        )
        return [Claimed(*row) for row in connection.execute(statement)]


def unclaim(sender: str) -> None:
    """Queue again what a sender has claimed and certainly not submitted.

    For the sender itself, after a claim whose commit it did not hear of: `sender` must be a name
    that it has submitted everything else under, with the answers recorded.
    """
    with writing() as connection:
        connection.execute(
            update(Message)
            .where(col(Message.owner) == sender, col(Message.state) == SENDING)
            .values(
                state=QUEUED,
                owner=None,
                lease_until=None,
                submission=None,
                submitted_at=None,
            )
        )


def queued_of(
    run_id: str, batch: int | None = None, gateway: str | None = None
) -> list[ColumnElement[bool]]:
    """Conditions: waits to be claimed, of a run, a batch, a gateway."""
    conditions = [col(Message.run_id) == run_id, col(Message.state) == QUEUED]
    if batch is not None:
        conditions.append(col(Message.batch) == batch)
    if gateway is not None:
        conditions.append(col(Message.gateway) == gateway)
    return conditions


def _claimable(run: CampaignRun, at: datetime) -> list[ColumnElement[bool]]:
    leaves = at + LEAVES_WITHIN
    run_is_sending = (
        select(col(CampaignRun.id))
        .where(
            col(CampaignRun.id) == run.id,
            col(CampaignRun.state) == runs.SENDING,
            col(CampaignRun.planned),
            col(CampaignRun.not_after).is_(None) | (col(CampaignRun.not_after) > leaves),
        )
        .exists()
    )
    return [
        run_is_sending,
        col(Message.retry_at).is_(None) | (col(Message.retry_at) <= at),
        *may_leave(run, at),
    ]


# --- record ----------------------------------------------------------------------------------


def record(connection: Connection, sender: str, settled: Sequence[Settled]) -> None:
    """Store answers, each under the attempt that asked.

    A delivery report that came first stands: an accepted message is never set back.
    """
    # In order of their ids, as reports are applied: two orders could wait for each other.
    ordered = sorted(settled, key=lambda item: item.id)
    accepted = [item for item in ordered if item.state == ACCEPTED]
    others = [item for item in ordered if item.state != ACCEPTED]
    at = now()
    own = [
        col(Message.id) == bindparam("of"),
        col(Message.attempt) == bindparam("under"),
        col(Message.owner) == sender,
    ]
    if accepted:
        connection.execute(_ACCEPTED.where(*own), [_accepted_values(a) for a in accepted])
    if others:
        # In doubt too: it was stranded while its sender was slow, and this is the clear answer.
        open_still = or_(col(Message.state) == SENDING, col(Message.state) == IN_DOUBT)
        statement = _OTHERS.where(*own, open_still)
        connection.execute(statement, [_other_values(item, at) for item in others])


# Attribute names of the bound values differ from the columns', as SQLAlchemy requires.
_ACCEPTED = (
    update(Message)
    # Not IN: a list of its own length cannot be executed for many rows at once.
    .where(or_(*(col(Message.state) == state for state in (SENDING, ACCEPTED, IN_DOUBT))))
    .values(
        state=ACCEPTED,
        reason="",
        gateway_message_id=func.coalesce(col(Message.gateway_message_id), bindparam("gid")),
        status=func.coalesce(col(Message.status), "accepted"),
        segments=func.coalesce(bindparam("parts"), col(Message.segments)),
        price=func.coalesce(col(Message.price), bindparam("cost")),
        currency=func.coalesce(col(Message.currency), bindparam("money")),
        owner=None,
        lease_until=None,
    )
)
_OTHERS = update(Message).values(
    state=bindparam("into"),
    reason=bindparam("because"),
    error_code=bindparam("code"),
    retry_at=bindparam("again"),
    final_at=bindparam("ended"),
    submitted_at=bindparam("asked"),
)


def _accepted_values(item: Settled) -> dict[str, Any]:
    return {
        "of": item.id,
        "under": item.attempt,
        "gid": item.gateway_message_id,
        "parts": item.segments,
        "cost": item.price,
        "money": item.currency,
    }


def _other_values(item: Settled, at: datetime) -> dict[str, Any]:
    is_open = item.state in (QUEUED, IN_DOUBT)
    return {
        "of": item.id,
        "under": item.attempt,
        "into": item.state,
        "because": item.reason,
        "code": item.error_code,
        "again": item.retry_at,
        "ended": None if is_open else at,
        "asked": None if item.state == QUEUED else at,
    }


# --- look ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Queue:
    """What of a batch waits to be claimed."""

    waiting: int
    """Messages in all."""
    ready: int
    """Those of them whose retry delay, if any, is over."""
    segments: int
    """Segments of the ready ones."""


def queued(run_id: str, batch: int, gateway: str) -> Queue:
    """Return what of a batch waits to be claimed and sent by a gateway."""
    with reading() as connection:
        ready = col(Message.retry_at).is_(None) | (col(Message.retry_at) <= clock(connection))
        counts = (
            func.count(),
            func.count().filter(ready),
            func.coalesce(func.sum(col(Message.segments)).filter(ready), 0),
        )
        found = connection.execute(select(*counts).where(*queued_of(run_id, batch, gateway))).one()
        return Queue(*map(int, found))


def waiting(run_id: str, most: int) -> int:
    """Return how many messages of a run are queued, counted to `most`: that many cost the same."""
    some = select(col(Message.id)).where(*queued_of(run_id)).limit(most).subquery()
    with reading() as connection:
        return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def is_unsent(run_id: str) -> bool:
    """Whether a run has messages that wait to be sent now, or are being sent."""
    unsent = col(Message.state).in_((QUEUED, SENDING))
    with reading() as connection:
        statement = select(col(Message.id)).where(col(Message.run_id) == run_id, unsent).limit(1)
        return connection.execute(statement).first() is not None


def next_retry(run_id: str, batch: int, gateway: str) -> datetime | None:
    """Return when the earliest delayed message of a batch may be tried again; None: none waits."""
    with reading() as connection:
        found: datetime | None = connection.execute(
            select(func.min(col(Message.retry_at))).where(*queued_of(run_id, batch, gateway))
        ).scalar()
        return found


def gateway_counts(run_id: str) -> dict[str, int]:
    """Return the number of messages of a run that each gateway sends, or has sent."""
    with reading() as connection:
        rows = connection.execute(
            select(col(Message.gateway), func.count())
            .where(col(Message.run_id) == run_id)
            .group_by(col(Message.gateway))
        )
        return {gateway: count for gateway, count in rows}  # noqa: C416 - as in state_counts


def state_counts(run_id: str) -> dict[str, int]:
    """Return the number of messages of a run in each state."""
    with reading() as connection:
        rows = connection.execute(
            select(col(Message.state), func.count())
            .where(col(Message.run_id) == run_id)
            .group_by(col(Message.state))
        )
        return {state: count for state, count in rows}  # noqa: C416 - rows are not pairs to mypy


def next_opening(run_id: str) -> datetime | None:
    """Return when the first deferred message of a run may go."""
    with reading() as connection:
        found: datetime | None = connection.execute(
            select(func.min(col(Message.opens_at))).where(
                col(Message.run_id) == run_id, col(Message.state) == DEFERRED
            )
        ).scalar()
        return found
