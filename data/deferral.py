"""Hours and deadlines of waiting messages: what becomes of those that miss them.

Who may be written to at what hour is said by `tasks.consent`; here it is stored. Not here: claiming
messages, which looks at the same columns (`data.ledger`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, select, update
from sqlmodel import col

from data.consent_ledger import opt_out_stands
from data.database import now, writing
from data.ledger import DEFERRED, IN_DOUBT, OPEN, QUEUED, queued_of
from data.tables import CampaignRun, Message


@dataclass(frozen=True, slots=True)
class Opening:
    """When messages of one place may go, as tasks.consent says."""

    state: str
    """queued, deferred, or blocked"""
    reason: str
    rule: str
    opens_at: datetime | None
    closes_at: datetime | None


def put_aside(run: CampaignRun, batch: int | None = None) -> list[tuple[str, str]]:
    """Settle queued messages that can no longer be claimed; return places whose hours ended.

    A place is a country and a set of candidate zones.

    Opted out since the plan → `suppressed`; past the deadline → `blocked`. Messages whose hours
    have ended stay queued until `defer` gives them their next opening.
    """
    with writing() as connection:
        at = now()
        leaves = at + timedelta(seconds=1)
        stale = col(Message.resend_until) <= leaves
        opted_out = opt_out_stands(col(Message.number_key), run.purpose)
        end_resending(connection, run.id, (col(Message.state) == QUEUED) & (stale | opted_out))
        connection.execute(
            update(Message)
            .where(*queued_of(run.id, batch), opted_out)
            .values(state="suppressed", reason="opted_out", rule="opt_out", final_at=at)
        )
        if run.not_after is not None and run.not_after <= leaves:
            _block_at_deadline(connection, run.id, at, col(Message.state).in_((QUEUED, DEFERRED)))
        ended = (
            select(col(Message.country), col(Message.zones))
            .where(*queued_of(run.id, batch), col(Message.closes_at) <= leaves)
            .distinct()
        )
        return [(country or "", zones) for country, zones in connection.execute(ended)]


def _block_at_deadline(
    connection: Connection, run_id: str, at: datetime, which: ColumnElement[bool]
) -> None:
    end_resending(connection, run_id, which)
    connection.execute(
        update(Message)
        .where(col(Message.run_id) == run_id, which)
        .values(state="blocked", reason="deadline", rule="deadline", final_at=at)
    )


def defer(run: CampaignRun, openings: Mapping[tuple[str, str], Opening]) -> None:
    """Store for messages whose hours ended, by place, when they open again, or that they do not."""
    with writing() as connection:
        at = now()
        leaves = at + timedelta(seconds=1)
        for (country, zones), opening in openings.items():
            ends = opening.state not in OPEN
            here = and_(
                *queued_of(run.id),
                func.coalesce(col(Message.country), "") == country,
                col(Message.zones) == zones,
                col(Message.closes_at) <= leaves,
            )
            if ends:
                end_resending(connection, run.id, here)
            connection.execute(
                update(Message)
                .where(here)
                .values(
                    state=opening.state,
                    reason=opening.reason,
                    rule=opening.rule,
                    opens_at=opening.opens_at,
                    closes_at=opening.closes_at,
                    final_at=at if ends else None,
                )
            )


def release(run: CampaignRun) -> int:
    """Queue the deferred messages whose hours have opened; return how many."""
    with writing() as connection:
        at = now()
        if run.not_after is not None and run.not_after <= at:
            _block_at_deadline(connection, run.id, at, col(Message.state) == DEFERRED)
        due = connection.execute(
            update(Message)
            .where(
                col(Message.run_id) == run.id,
                col(Message.state) == DEFERRED,
                col(Message.opens_at) <= at,
            )
            .values(state=QUEUED, reason="", rule="")
        )
        return due.rowcount


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
