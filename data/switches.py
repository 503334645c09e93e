"""Gateways that were taken out of a run: what is recorded, and what moves to another gateway.

Only what certainly was never accepted moves: messages that wait, and not those of them that go out
again under an id the gateway may know. When one is taken out is decided in `tasks/routing`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, select, update
from sqlmodel import col

from data.database import is_sqlite, now, reading, writing
from data.deferral import end_resending
from data.ledger import DEFERRED, QUEUED
from data.tables import CampaignRun, GatewaySwitch, Message


@dataclass(frozen=True, slots=True)
class Move:
    """From which gateway to which, for which countries."""

    gateway: str
    to: str
    sender: str
    countries: Sequence[str] = ()
    """None: all but `others`."""
    others: Sequence[str] = ()


def out(run_id: str) -> set[str]:
    """Return the gateways that are taken out of a run at present."""
    with reading() as connection:
        return set(
            connection.execute(select(col(GatewaySwitch.gateway)).where(*_out(run_id))).scalars()
        )


def of_run(run_id: str) -> list[GatewaySwitch]:
    """Return what happened to a run's gateways, the first first."""
    table = GatewaySwitch.__table__  # type: ignore[attr-defined]
    statement = select(table).where(table.c.run_id == run_id).order_by(table.c.id)
    with reading() as connection:
        return [GatewaySwitch(**row) for row in connection.execute(statement).mappings()]


def take_out(run_id: str, gateway: str, reason: str, moves: Collection[Move]) -> None:
    """Take a gateway out of a run, once, and move what waits for it, in one transaction."""
    with writing() as connection:
        _lock(connection, run_id)
        known = select(col(GatewaySwitch.id)).where(
            *_out(run_id), col(GatewaySwitch.gateway) == gateway
        )
        if connection.execute(known).first() is None:
            connection.execute(
                insert(GatewaySwitch).values(
                    run_id=run_id, gateway=gateway, reason=reason, happened_at=now(), moved=0
                )
            )
        _move(connection, run_id, moves)


def take_in(run_id: str) -> None:
    """Use all gateways of a run again: somebody has mended what was wrong, and resumes it."""
    with writing() as connection:
        connection.execute(update(GatewaySwitch).where(*_out(run_id)).values(ended_at=now()))


def move(run_id: str, moves: Collection[Move]) -> int:
    """Give waiting messages of gateways that are out to others; return how many."""
    with writing() as connection:
        _lock(connection, run_id)
        return _move(connection, run_id, moves)


def _move(connection: Connection, run_id: str, moves: Collection[Move]) -> int:
    gone = col(Message.gateway).in_([one.gateway for one in moves])
    end_resending(connection, run_id, gone & col(Message.state).in_((QUEUED, DEFERRED)))
    total = 0
    for one in moves:
        moved = connection.execute(
            update(Message)
            .where(
                col(Message.run_id) == run_id,
                *_movable(one.gateway),
                _among(one.countries, one.others),
            )
            .values(gateway=one.to, sender=one.sender, retry_at=None)
        ).rowcount
        if moved:
            connection.execute(
                update(GatewaySwitch)
                .where(*_out(run_id), col(GatewaySwitch.gateway) == one.gateway)
                .values(moved=col(GatewaySwitch.moved) + moved)
            )
        total += moved
    return total


def has_waiting(run_id: str, gateway: str, countries: Sequence[str], others: Sequence[str]) -> bool:
    """Whether messages wait that only this gateway would send."""
    with reading() as connection:
        statement = select(col(Message.id)).where(
            col(Message.run_id) == run_id, *_movable(gateway), _among(countries, others)
        )
        return connection.execute(statement.limit(1)).first() is not None


def waiting_gateway(run_id: str, batch: int, without: Collection[str]) -> str | None:
    """Return a gateway that messages of a batch wait for, and that is none of `without`."""
    with reading() as connection:
        found: str | None = connection.execute(
            select(col(Message.gateway))
            .where(
                col(Message.run_id) == run_id,
                col(Message.batch) == batch,
                col(Message.state) == QUEUED,
                col(Message.gateway).not_in(list(without)),
            )
            .limit(1)
        ).scalar()
        return found


def _movable(gateway: str) -> list[ColumnElement[bool]]:
    return [
        col(Message.gateway) == gateway,
        col(Message.state).in_((QUEUED, DEFERRED)),
        col(Message.resend_until).is_(None),
    ]


def _among(countries: Sequence[str], others: Sequence[str]) -> ColumnElement[bool]:
    country = col(Message.country)
    if countries:
        return country.in_(list(countries))
    return country.is_(None) | country.not_in(list(others))


def _out(run_id: str) -> list[ColumnElement[bool]]:
    return [col(GatewaySwitch.run_id) == run_id, col(GatewaySwitch.ended_at).is_(None)]


def _lock(connection: Connection, run_id: str) -> None:
    if not is_sqlite(connection):
        connection.execute(
            select(col(CampaignRun.id)).where(col(CampaignRun.id) == run_id).with_for_update()
        )
