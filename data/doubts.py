"""Messages in doubt: those whose submission got no clear answer, and what settles them.

Nothing here makes a message claimable again, except a look-up that proves it was never accepted.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, case, func, literal, select, update
from sqlmodel import col

from data import runs
from data.database import clock, reading, writing
from data.ledger import ACCEPTED, DEFERRED, IN_DOUBT, QUEUED, SENDING
from data.senders import is_dead
from data.tables import CampaignRun, Message, UtcDateTime

_CLOCKS = timedelta(minutes=10)
"""How far the clocks of two installations may be apart."""
_MOST_ATTEMPTS = 6
_BEFORE_RESENDING = timedelta(seconds=2)
_PAGE = 10_000
"""Keys in one statement: both databases have a limit, and a restored run can be all in doubt."""


def strand(run_id: str) -> int:
    """Put in doubt what is `sending` with nobody left to answer for it; return how many.

    Nobody is left where the lease has run out, or where the sender is known to have died: what
    it wrote to its sockets may still arrive, so neither says that the message was not sent.
    """
    mine = [col(Message.run_id) == run_id, col(Message.state) == SENDING]
    with reading() as connection:
        owners = connection.execute(select(col(Message.owner)).where(*mine).distinct()).scalars()
        dead = [owner for owner in owners if owner and is_dead(owner)]
    with writing() as connection:
        at = clock(connection)
        stranded = connection.execute(
            update(Message)
            .where(*mine, (col(Message.lease_until) <= at) | col(Message.owner).in_(dead))
            .values(state=IN_DOUBT, reason="sender_died")
        )
        return stranded.rowcount


def doubt_restored(connection: Connection, taken_at: datetime) -> None:
    """Put in doubt what may have been sent since a backup was taken from which this was restored.

    That is what waited then, in runs that had not ended: queued messages, deferred ones whose
    hours may have opened since, and what was in flight. Left alone is what cannot have left: hours
    that have still not opened, and deadlines that had passed.
    """
    at = clock(connection)
    open_runs = select(col(CampaignRun.id)).where(
        col(CampaignRun.planned),
        col(CampaignRun.state).not_in(runs.ENDED),
        col(CampaignRun.not_after).is_(None) | (col(CampaignRun.not_after) > taken_at - _CLOCKS),
    )
    opened = (col(Message.state) == DEFERRED) & (col(Message.opens_at) <= at + _CLOCKS)
    connection.execute(
        update(Message)
        .where(
            col(Message.run_id).in_(open_runs),
            col(Message.state).in_((QUEUED, SENDING, IN_DOUBT)) | opened,
        )
        .values(
            state=IN_DOUBT,
            reason="restored",
            rule="",
            # As if claimed once more: a report is believed only about what was claimed.
            attempt=col(Message.attempt)
            + case((col(Message.state).in_((QUEUED, DEFERRED)), 1), else_=0),
            # No request was made before the one, and none after the other: where look-ups look.
            submitted_at=func.coalesce(col(Message.submitted_at), literal(taken_at, UtcDateTime())),
            lease_until=at,
            owner=None,
            retry_at=None,
        )
    )


def gateways_in_doubt(run_id: str) -> list[str]:
    """Return the gateways that messages in doubt were handed to."""
    mine = (col(Message.run_id) == run_id, col(Message.state) == IN_DOUBT)
    statement = select(col(Message.gateway)).where(*mine).distinct()
    with reading() as connection:
        return sorted(connection.execute(statement).scalars())


def doubted(
    run_id: str, gateway: str | None = None, after: str = "", limit: int | None = None
) -> list[Message]:
    """Return the messages of a run (and a gateway) that are in doubt, by id, those past `after`.

    They are at most the windows that were in flight; after a restored backup they may be all.
    """
    table = Message.__table__  # type: ignore[attr-defined]
    mine = (table.c.run_id == run_id, table.c.state == IN_DOUBT, table.c.id > after)
    theirs = () if gateway is None else (table.c.gateway == gateway,)
    with reading() as connection:
        statement = select(table).where(*mine, *theirs).order_by(table.c.id).limit(limit)
        return [Message(**row) for row in connection.execute(statement).mappings()]


def known_ids(number_keys: Collection[str]) -> dict[str, frozenset[str]]:
    """Return the ids at gateways that messages to these numbers have already, by number key.

    One id belongs to one message: what a look-up finds must not be taken for another's.
    """
    keys, found = list(number_keys), dict[str, set[str]]()
    with reading() as connection:
        for start in range(0, len(keys), _PAGE):
            rows = connection.execute(
                select(col(Message.number_key), col(Message.gateway_message_id)).where(
                    col(Message.number_key).in_(keys[start : start + _PAGE]),
                    col(Message.gateway_message_id).is_not(None),
                )
            )
            for key, gateway_id in rows:
                found.setdefault(key, set()).add(str(gateway_id))
    return {key: frozenset(ids) for key, ids in found.items()}


def unnamed(gateway: str, number_keys: Collection[str]) -> set[str]:
    """Return the numbers, by key, that a gateway took messages to whose ids are not known yet.

    What its list shows for such a number may be one of those.
    """
    keys, found = list(number_keys), set[str]()
    with reading() as connection:
        for start in range(0, len(keys), _PAGE):
            found |= set(
                connection.execute(
                    select(col(Message.number_key)).where(
                        col(Message.number_key).in_(keys[start : start + _PAGE]),
                        col(Message.gateway) == gateway,
                        col(Message.state) == ACCEPTED,
                        col(Message.gateway_message_id).is_(None),
                    )
                ).scalars()
            )
    return found


def settle(accepted: Mapping[str, str | None], absent: Sequence[str]) -> None:
    """Store what a look-up found: accepted (with the gateway's id), or proven never to be.

    Only messages still in doubt change: a report may have settled them meanwhile.
    """
    doubt = [col(Message.id) == bindparam("of"), col(Message.state) == IN_DOUBT]
    with writing() as connection:
        # What was put in doubt by a restored backup may not have come to its hours.
        later = col(Message.opens_at) > clock(connection)
        waits = case((later, DEFERRED), else_=QUEUED)
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
                update(Message).where(*doubt).values(state=waits, reason="", owner=None),
                [{"of": key} for key in absent],
            )


def send_again(run_id: str, gateway: str, window: timedelta) -> int:
    """Queue what is in doubt at a gateway that takes each id only once; return how many.

    Within the first half of `window`, for which the gateway remembers an id, to be sent in the
    second half at the latest; and not for ever at a gateway that never gives a clear answer.
    """
    with writing() as connection:
        at = clock(connection)
        return connection.execute(
            update(Message)
            .where(
                col(Message.run_id) == run_id,
                col(Message.gateway) == gateway,
                col(Message.state) == IN_DOUBT,
                # Since a restored backup was taken another gateway may have sent it.
                col(Message.reason) != "restored",
                col(Message.submitted_at) > at - window / 2,
                col(Message.attempt) < _MOST_ATTEMPTS,
                col(Message.resend_until).is_(None) | (col(Message.resend_until) > at),
            )
            .values(
                state=QUEUED,
                reason="",
                owner=None,
                retry_at=at + _BEFORE_RESENDING,
                resend_until=func.coalesce(
                    col(Message.resend_until), literal(at + window / 2, UtcDateTime())
                ),
            )
        ).rowcount
