"""Messages in doubt: those whose submission got no clear answer, and what settles them.

Nothing here makes a message claimable again, except a look-up that proves it was never accepted.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import bindparam, func, select, update
from sqlmodel import col

from data.database import now, reading, writing
from data.ledger import ACCEPTED, IN_DOUBT, QUEUED, SENDING
from data.senders import is_dead
from data.tables import Message


def strand(run_id: str) -> int:
    """Put in doubt what is `sending` with nobody left to answer for it; return how many.

    Nobody is left where the lease has run out, or where the sender is known to have died: what
    it wrote to its sockets may still arrive, so neither says that the message was not sent.
    """
    at = now()
    mine = [col(Message.run_id) == run_id, col(Message.state) == SENDING]
    with reading() as connection:
        owners = connection.execute(select(col(Message.owner)).where(*mine).distinct()).scalars()
        dead = [owner for owner in owners if owner and is_dead(owner)]
    with writing() as connection:
        stranded = connection.execute(
            update(Message)
            .where(*mine, (col(Message.lease_until) <= at) | col(Message.owner).in_(dead))
            .values(state=IN_DOUBT, reason="sender_died")
        )
        return stranded.rowcount


def doubted(run_id: str) -> list[Message]:
    """Return the messages of a run that are in doubt (at most the windows that were in flight)."""
    table = Message.__table__  # type: ignore[attr-defined]
    with reading() as connection:
        rows = connection.execute(
            select(table).where(table.c.run_id == run_id, table.c.state == IN_DOUBT)
        ).mappings()
        return [Message(**row) for row in rows]


def known_ids(number_keys: Collection[str]) -> dict[str, frozenset[str]]:
    """Return the ids at gateways that messages to these numbers have already, by number key.

    One id belongs to one message: what a look-up finds must not be taken for another's.
    """
    with reading() as connection:
        rows = connection.execute(
            select(col(Message.number_key), col(Message.gateway_message_id)).where(
                col(Message.number_key).in_(number_keys),
                col(Message.gateway_message_id).is_not(None),
            )
        )
        found: dict[str, set[str]] = {}
        for key, gateway_id in rows:
            found.setdefault(key, set()).add(str(gateway_id))
    return {key: frozenset(ids) for key, ids in found.items()}


def settle(accepted: Mapping[str, str | None], absent: Sequence[str]) -> None:
    """Store what a look-up found: accepted (with the gateway's id), or proven never to be.

    Only messages still in doubt change: a report may have settled them meanwhile.
    """
    doubt = [col(Message.id) == bindparam("of"), col(Message.state) == IN_DOUBT]
    with writing() as connection:
        if accepted:
            connection.execute(
                update(Message)
                .where(*doubt)
                .values(
                    state=ACCEPTED,
                    reason="",
                    gateway_message_id=func.coalesce(
                        col(Message.gateway_message_id), bindparam("gid")
                    ),
                    status=func.coalesce(col(Message.status), "accepted"),
                    owner=None,
                    lease_until=None,
                ),
                [{"of": key, "gid": value} for key, value in accepted.items()],
            )
        if absent:
            connection.execute(
                update(Message).where(*doubt).values(state=QUEUED, reason="", owner=None),
                [{"of": key} for key in absent],
            )
