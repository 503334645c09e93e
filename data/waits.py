"""What the messages of a run wait for, as figures. Sentences for people: `tasks/waiting`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlmodel import col

from data import deliveries, ledger
from data.database import clock, reading
from data.tables import Message, PaceLane


@dataclass(frozen=True, slots=True)
class Waits:
    """How many messages of a run wait for what, and since or until when (None: none do)."""

    at: datetime
    """The present, by the database's clock."""
    ready: int
    """Queued, and nothing but a sender and the pace in their way."""
    retrying: int
    """Queued, and told by the gateway to come back later."""
    retry_at: datetime | None
    sending: int
    leased_until: datetime | None
    """When the first lease ends."""
    deferred: int
    opens_at: datetime | None
    in_doubt: int
    doubted_since: datetime | None
    unreported: int
    """Accepted, without a final report."""
    accepted_since: datetime | None
    last_submitted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane at present."""

    rate: float
    next_at: float
    """Unix time of the next free slot."""


def waits(run_id: str) -> Waits:
    """Return what the messages of a run wait for."""
    state = col(Message.state)
    with reading() as connection:
        at = clock(connection)
        later = and_(col(Message.retry_at).is_not(None), col(Message.retry_at) > at)
        queued = state == ledger.QUEUED
        unreported = (state == ledger.ACCEPTED) & (col(Message.status_rank) < deliveries.FINAL)

        def count(which: ColumnElement[bool]) -> Any:
            return func.count().filter(which)

        def first(column: Any, which: ColumnElement[bool]) -> Any:
            return func.min(column).filter(which)

        statement = select(
            count(queued & ~later),
            count(queued & later),
            first(col(Message.retry_at), queued & later),
            count(state == ledger.SENDING),
            first(col(Message.lease_until), state == ledger.SENDING),
            count(state == ledger.DEFERRED),
            first(col(Message.opens_at), state == ledger.DEFERRED),
            count(state == ledger.IN_DOUBT),
            first(col(Message.submitted_at), state == ledger.IN_DOUBT),
            count(unreported),
            first(col(Message.submitted_at), unreported),
            func.max(col(Message.submitted_at)),
        ).where(col(Message.run_id) == run_id)
        return Waits(at, *connection.execute(statement).one())


def refusals(run_id: str, most: int = 3) -> list[str]:
    """Return the error codes with which queued messages were refused last, the commonest first."""
    queued = (col(Message.run_id) == run_id, col(Message.state) == ledger.QUEUED)
    with reading() as connection:
        rows = connection.execute(
            select(col(Message.error_code))
            .where(*queued, col(Message.error_code).is_not(None))
            .group_by(col(Message.error_code))
            .order_by(func.count().desc())
            .limit(most)
        )
        return [str(code) for code in rows.scalars()]


def waiting_gateways(run_id: str) -> set[str]:
    """Return the gateways that queued messages of a run are to go by."""
    queued = (col(Message.run_id) == run_id, col(Message.state) == ledger.QUEUED)
    with reading() as connection:
        return set(
            connection.execute(select(col(Message.gateway)).where(*queued).distinct()).scalars()
        )


def lane(name: str) -> Lane | None:
    """Return a lane; None where nothing was ever sent by it."""
    with reading() as connection:
        found = connection.execute(
            select(col(PaceLane.rate), col(PaceLane.next_at)).where(col(PaceLane.lane) == name)
        ).one_or_none()
    return Lane(*found) if found else None
