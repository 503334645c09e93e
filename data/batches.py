"""Who works on which batch of a run: taken, held for as long as its sender lives, given back.

Several workers share a run by it without waiting for each other's messages. Nothing rests on it
but speed: whether a message may be sent is decided by its own claim (`data.ledger`).
"""

from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)
from sqlmodel import col

from data import ledger
from data.database import clock, reading, writing
from data.senders import is_dead, process_of, this_sender
from data.settings import settings
from data.tables import BatchHold, Message, UtcDateTime


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that is this process's to send."""

    run_id: str
    batch: int
    owner: str


def take(run_id: str) -> Held | None:
    """Take the first batch with messages that may go now and that no living sender holds.

    None: there is none at present. A lost worker's batch can be taken when its hold has run out,
    or at once where its process is known to be dead; what it had claimed stays claimed.
    """
    taken = _held(run_id)
    after = -1
    while (batch := _next_ready(run_id, after)) is not None:
        held = Held(run_id, batch, this_sender())
        if batch not in taken and _hold(held):
            return held
        after = batch
    return None


def renew(connection: Connection, held: Held) -> bool:
    """Go on holding a batch; False where another sender has taken it meanwhile."""
    renewed = connection.execute(
        update(BatchHold).where(*_is(held)).values(held_until=clock(connection) + _span())
    )
    return bool(renewed.rowcount)


def give_back(held: Held) -> None:
    """Let others take a batch."""
    with writing() as connection:
        connection.execute(delete(BatchHold).where(*_is(held)))


def processes(run_id: str) -> set[str]:
    """Return the living processes that hold a batch of a run."""
    with reading() as connection:
        statement = select(col(BatchHold.owner)).where(
            *_of(run_id), col(BatchHold.held_until) > clock(connection)
        )
        owners = set(connection.execute(statement).scalars())
    return {process_of(owner) for owner in owners if not is_dead(owner)}


def _held(run_id: str) -> set[int]:
    """The batches that living senders hold; what the dead held is given back."""
    with reading() as connection:
        rows = connection.execute(
            select(col(BatchHold.batch), col(BatchHold.owner)).where(
                *_of(run_id), col(BatchHold.held_until) > clock(connection)
            )
        ).all()
    dead = {owner for _, owner in rows if is_dead(owner)}
    if dead:
        with writing() as connection:
            connection.execute(
                delete(BatchHold).where(*_of(run_id), col(BatchHold.owner).in_(dead))
            )
    return {batch for batch, owner in rows if owner not in dead}


def _next_ready(run_id: str, after: int) -> int | None:
    """The next batch with a message that may go now: the index `ix_message_claim` knows it."""
    with reading() as connection:
        waits = col(Message.retry_at) > clock(connection)
        found: int | None = connection.execute(
            select(func.min(col(Message.batch))).where(
                col(Message.run_id) == run_id,
                col(Message.state) == ledger.QUEUED,
                col(Message.batch) > after,
                col(Message.retry_at).is_(None) | ~waits,
            )
        ).scalar()
        return found


def _hold(held: Held) -> bool:
    with writing() as connection:
        at = clock(connection)
        values = {**asdict(held), "held_until": at + _span(), "now": at}
        return connection.execute(_HOLD, values).scalar_one_or_none() is not None


def _span() -> timedelta:
    return timedelta(seconds=settings().lease_seconds)


_INSTANTS = [bindparam("held_until", type_=UtcDateTime), bindparam("now", type_=UtcDateTime)]
_HOLD = text(
    """
    INSERT INTO batch_hold (run_id, batch, owner, held_until)
    VALUES (:run_id, :batch, :owner, :held_until)
    ON CONFLICT (run_id, batch) DO UPDATE
    SET owner = excluded.owner, held_until = excluded.held_until
    WHERE batch_hold.held_until <= :now
    RETURNING batch
    """
).bindparams(*_INSTANTS)


def _of(run_id: str) -> list[ColumnElement[bool]]:
    return [col(BatchHold.run_id) == run_id]


def _is(held: Held) -> list[ColumnElement[bool]]:
    mine = col(BatchHold.batch) == held.batch, col(BatchHold.owner) == held.owner
    return [*_of(held.run_id), *mine]
