"""Waiting messages that cannot go as planned: found here, and stored what became of them.

What that is, the rules say (tasks.deferring). Not here: claiming messages, which asks for the same
conditions (data.ledger, data.recheck).
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Connection, and_, func, literal, not_, select, update
from sqlalchemy.types import JSON
from sqlmodel import col

from data.database import clock, is_sqlite, now, reading, writing
from data.ledger import DEFERRED, IN_DOUBT, OPEN, QUEUED, queued_of
from data.recheck import LEAVES_WITHIN, may_leave
from data.tables import CampaignRun, Message

PAGE = 50_000
"""Messages that are looked at in one go."""

_TOLD = (
    "id", "recipient", "number_key", "country", "subdivisions", "zones", "sender", "caps",
    "closes_at", "consent_ends_at",
)  # fmt: skip
_STORED = ("state", "reason", "rule", "opens_at", "closes_at", "caps")


def end_overdue(run: CampaignRun, batch: int | None = None) -> None:
    """Settle what no rule needs to be asked about.

    Past the run's deadline → `blocked`. Queued again although it may have been accepted, and too
    late for that → back in doubt.
    """
    with writing() as connection:
        leaves = clock(connection) + LEAVES_WITHIN
        stale = and_(*queued_of(run.id, batch), col(Message.resend_until) <= leaves)
        end_resending(connection, run.id, stale)
        if run.not_after is not None and run.not_after <= leaves:
            which = col(Message.state).in_((QUEUED, DEFERRED))
            end_resending(connection, run.id, which)
            connection.execute(
                update(Message)
                .where(col(Message.run_id) == run.id, which)
                .values(state="blocked", reason="deadline", rule="deadline", final_at=now())
            )


def unclaimable(run: CampaignRun, batch: int | None = None, after: str = "") -> pd.DataFrame:
    """Return queued messages that a claim refuses, whatever the state of the run.

    A page by id, those past `after`: columns id, recipient (E.164), number_key, country,
    subdivisions, zones, sender, caps, closes_at and consent_ends_at (UTC).
    """
    with reading() as connection:
        refused = not_(and_(*may_leave(run, clock(connection))))
        return _page(connection, [*queued_of(run.id, batch), refused], after)


def waiting(run: CampaignRun, after: str = "") -> pd.DataFrame:
    """Return all queued messages; a page as from `unclaimable`."""
    with reading() as connection:
        return _page(connection, queued_of(run.id), after)


def due(run: CampaignRun, after: str = "") -> pd.DataFrame:
    """Return deferred messages whose opening has come; a page as from `unclaimable`."""
    with reading() as connection:
        come = col(Message.opens_at) <= clock(connection)
        deferred = [col(Message.run_id) == run.id, col(Message.state) == DEFERRED]
        return _page(connection, [*deferred, come], after)


def _page(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], after: str
) -> pd.DataFrame:
    statement = (
        select(*(col(getattr(Message, name)) for name in _TOLD))
        .where(*conditions, col(Message.id) > after)
        .order_by(col(Message.id))
        .limit(PAGE)
    )
    found = pd.DataFrame(connection.execute(statement).all(), columns=pd.Index(_TOLD))
    instants = {
        name: pd.to_datetime(found[name], utc=True).astype("datetime64[us, UTC]")
        for name in ("closes_at", "consent_ends_at")
    }
    texts = {name: found[name].fillna("").astype("str") for name in _TOLD if name not in instants}
    return pd.DataFrame({**texts, **instants})


def settle(run: CampaignRun, was: str, verdicts: pd.DataFrame) -> None:
    """Store what became of messages that are still in the state `was`.

    Columns: id, state (queued, deferred, suppressed, blocked, invalid), reason, rule, opens_at,
    closes_at, caps. One statement for each distinct outcome. What may have been accepted before
    goes back in doubt instead of ending.
    """
    with writing() as connection:
        each = func.json_each if is_sqlite(connection) else func.json_array_elements_text
        for outcome, ids in _outcomes(verdicts):
            # One bound value, whatever their count: databases limit a statement's parameters.
            wanted = each(literal(ids, JSON)).table_valued("value")
            here = and_(
                col(Message.run_id) == run.id,
                col(Message.state) == was,
                col(Message.id).in_(select(wanted.c.value)),
            )
            ends = outcome["state"] not in OPEN
            if ends:
                end_resending(connection, run.id, here)
            final_at = now() if ends else None
            connection.execute(update(Message).where(here).values(**outcome, final_at=final_at))


def _outcomes(verdicts: pd.DataFrame) -> list[tuple[dict[str, Any], list[str]]]:
    """The distinct outcomes, and the ids of the messages of each."""
    found = []
    for values, ids in verdicts.groupby(list(_STORED), dropna=False, sort=False)["id"]:
        outcome = {name: _plain(value) for name, value in zip(_STORED, values, strict=True)}
        found.append((outcome, ids.tolist()))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return None if value is pd.NaT else value


def cancel_open(run_id: str) -> int:
    """Mark what has not been claimed as cancelled; return how many.

    What may have been accepted before is in doubt instead.
    """
    with writing() as connection:
        end_resending(connection, run_id, col(Message.state).in_((QUEUED, DEFERRED)))
        return connection.execute(
            update(Message)
            .where(col(Message.run_id) == run_id, col(Message.state).in_((QUEUED, DEFERRED)))
            .values(state="cancelled", reason="run_cancelled", final_at=now())
        ).rowcount


def end_resending(connection: Connection, run_id: str, which: ColumnElement[bool]) -> None:
    """Put back in doubt what may have been accepted, and is not to be sent a second time."""
    connection.execute(
        update(Message)
        .where(col(Message.run_id) == run_id, which, col(Message.resend_until).is_not(None))
        .values(state=IN_DOUBT, reason="no_clear_answer", rule="", retry_at=None)
    )
