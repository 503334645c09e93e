"""How often a number was written to: what counts for frequency caps.

Here: the one meaning of "counts" (twice: as SQL for the claim of a message, and as rows for
planning), and the caps as a run stores them. Not here: which caps apply to whom (data.rules,
tasks.consent), and when a full one is free again (tasks.consent).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Select, and_, exists, func, literal, or_, select, text, true
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import JSON
from sqlmodel import col

from data.database import is_sqlite
from data.rules import Rule
from data.tables import CampaignRun, Message

COUNTED = ("sending", "in_doubt", "accepted", "expired")
"""States of messages that reached the recipient or may have. The last one is an accepted message
whose report never came."""
_LONGEST_MONTH = 31
_LOCK = 7_367_011
"""Any number that nothing else in the database locks by."""

_PRIOR = Message.__table__.alias("prior")  # type: ignore[attr-defined]
_ITS_RUN = CampaignRun.__table__.alias("its_run")  # type: ignore[attr-defined]


def stored(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Return the caps of rules as `campaign_run.caps` holds them: rule, max, seconds, scope.

    A month counts as its longest: a cap may hold back for a day too long, never too short.
    """
    return [
        {
            "rule": rule.id,
            "max": rule.cap.max,
            "seconds": rule.cap.per.months * _LONGEST_MONTH * 86_400 + rule.cap.per.minutes * 60,
            "scope": rule.cap.scope,
        }
        for rule in rules
        if rule.cap is not None
    ]


def longest(caps: Iterable[Mapping[str, Any]]) -> timedelta:
    """Return how far back any of some stored caps looks; zero where there is none."""
    return timedelta(seconds=max((cap["seconds"] for cap in caps), default=0))


def sent(
    connection: Connection, number_keys: pd.Series, *, since: datetime, besides: str
) -> pd.DataFrame:
    """Return what counts for caps of some numbers, of other runs than `besides`.

    Columns: number_key, subject, sent_at (UTC, later than `since`); one row for each message.
    """
    # One bound value, whatever their count: databases limit the parameters of a statement.
    keys = literal(number_keys.dropna().unique().tolist(), JSON)
    each = func.json_each if is_sqlite(connection) else func.json_array_elements_text
    wanted = each(keys).table_valued("value")
    statement = _counted(_PRIOR.c.number_key, _ITS_RUN.c.subject, _PRIOR.c.submitted_at).where(
        _PRIOR.c.number_key.in_(select(wanted.c.value)),
        _PRIOR.c.submitted_at > since,
        _PRIOR.c.run_id != besides,
    )
    columns = pd.Index(["number_key", "subject", "sent_at"])
    found = pd.DataFrame(connection.execute(statement).all(), columns=columns)
    return found.astype({"number_key": "str", "subject": "str"}).assign(
        sent_at=pd.to_datetime(found["sent_at"], utc=True).astype("datetime64[us, UTC]")
    )


def within_caps(run: CampaignRun, at: datetime) -> list[ColumnElement[bool]]:
    """Return the SQL conditions that a message of a run is under each cap that applies to it.

    Without caps there are none, and they cost nothing.
    """
    return [~_is_full(run, cap, at) for cap in run.caps]


def _is_full(run: CampaignRun, cap: Mapping[str, Any], at: datetime) -> ColumnElement[bool]:
    statement = _counted(literal(1)).where(
        _PRIOR.c.number_key == col(Message.number_key),
        _PRIOR.c.id != col(Message.id),
        _PRIOR.c.submitted_at > at - timedelta(seconds=cap["seconds"]),
        _same_subject(run.subject) if cap["scope"] == "same_subject" else true(),
    )
    # The last of so many: it is not looked for further.
    full = statement.limit(1).offset(cap["max"] - 1)
    applies = col(Message.caps).contains(f",{cap['rule']},", autoescape=True)
    return and_(applies, exists(full.correlate(Message)))


def _same_subject(subject: str) -> ColumnElement[bool]:
    """What says nothing of its subject may be about every one, and so may what came before."""
    return _ITS_RUN.c.subject.in_([subject, ""]) if subject else true()


def _counted(*columns: ColumnElement[Any]) -> Select[Any]:
    """Messages of marketing that count: what may have been sent before and waits again, too."""
    again = and_(_PRIOR.c.state == "queued", _PRIOR.c.resend_until.is_not(None))
    return (
        select(*columns)
        .select_from(_PRIOR)
        .join(_ITS_RUN, _ITS_RUN.c.id == _PRIOR.c.run_id)
        .where(_ITS_RUN.c.purpose == "marketing", or_(_PRIOR.c.state.in_(COUNTED), again))
    )


def lock(connection: Connection, run: CampaignRun) -> None:
    """Let no claim add to what is counted while one counts; until the transaction ends.

    Two that count at one time would both take the last place. Runs without caps do not count, and
    so may claim beside each other. SQLite has one writer anyway.
    """
    if run.purpose == "marketing" and not is_sqlite(connection):
        kind = "pg_advisory_xact_lock" if run.caps else "pg_advisory_xact_lock_shared"
        connection.execute(text(f"SELECT {kind}(:lock)"), {"lock": _LOCK})
