"""One person's data: everything that is stored of a number, to be exported or erased.

What stays when it is erased: the number's keyed fingerprint with an opt-out of everything, so that
no other list writes to it again, and what happened, without whom it happened to. Not here: what is
not in the database (`sms consent forget` says what that is).
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import Connection, func, or_, select, update
from sqlmodel import SQLModel

from data import consent_chain, consent_ledger, deferral
from data.database import now, reading, writing
from data.deliveries import FINAL
from data.errors import SmsError
from data.identity import number_keys
from data.ledger import ACCEPTED, DEFERRED, IN_DOUBT, QUEUED, SENDING

ERASURE = "erasure"
"""The method of the opt-out that an erasure leaves."""

_TABLES = SQLModel.metadata.tables
_EVENTS = _TABLES["consent_event"]
_MESSAGES = _TABLES["message"]
_RESULTS = _TABLES["result"]
_REPORTS = _TABLES["delivery_event"]
_REPLIES = _TABLES["inbound_message"]
_EXCLUSIONS = _TABLES["exclusion"]
_RUNS = _TABLES["campaign_run"]


class ForgetError(SmsError):
    """A number that cannot be erased now."""


@dataclass(frozen=True)
class Forgotten:
    """How many rows lost their personal columns."""

    events: int
    messages: int
    suppressed: int
    """Those of the messages that had not been sent."""
    exclusions: int
    reports: int
    replies: int
    unreported: int
    """Messages whose gateway may still report: a report brings the number again."""


# ------------------------------------------------------------------ export


def history(e164: str) -> dict[str, list[dict[str, Any]]]:
    """Return what is stored of a number, in the order of time.

    `consent_events` with their seals, `messages` (campaign, purpose, text, when, what became of
    them) and `replies`; instants are UTC.
    """
    (key,) = number_keys([e164])
    fields = [column for column in _EVENTS.c if column.name not in ("evidence_digest",)]
    sent = (
        select(
            _MESSAGES.c.id,
            _MESSAGES.c.run_id,
            _RUNS.c.name.label("campaign"),
            _RUNS.c.purpose,
            _MESSAGES.c.kind,
            _MESSAGES.c.sender,
            _MESSAGES.c.text,
            _MESSAGES.c.state,
            _MESSAGES.c.status,
            _MESSAGES.c.reason,
            _MESSAGES.c.rule,
            _MESSAGES.c.gateway,
            _MESSAGES.c.gateway_message_id,
            _MESSAGES.c.submitted_at,
            _MESSAGES.c.final_at,
        )
        .join(_RUNS, _RUNS.c.id == _MESSAGES.c.run_id, isouter=True)
        .where(or_(_MESSAGES.c.number_key == key, _MESSAGES.c.recipient == e164))
        .order_by(_MESSAGES.c.submitted_at, _MESSAGES.c.id)
    )
    replies = (
        select(
            *(
                _REPLIES.c[name]
                for name in ("id", "received_at", "gateway", "text", "kind", "why", "review")
            )
        )
        .where(or_(_REPLIES.c.number_key == key, _REPLIES.c.sender == e164))
        .order_by(_REPLIES.c.id)
    )
    with reading() as connection:
        found = {
            "consent_events": select(*fields)
            .where(_EVENTS.c.number_key == key)
            .order_by(_EVENTS.c.id),
            "messages": sent,
            "replies": replies,
        }
        return {
            name: [dict(row._mapping) for row in connection.execute(statement)]
            for name, statement in found.items()
        }


# ------------------------------------------------------------------ erase


def forget(e164: str) -> Forgotten:
    """Clear the personal columns of a number everywhere, in one transaction.

    What waits to be sent is suppressed. Erasing again changes nothing but what has come since.
    Raises `ForgetError` where a message to the number is being sent at this moment.
    """
    (key,) = number_keys([e164])
    with writing() as connection:
        ids = _lock_messages(connection, e164, key)
        suppressed = _suppress(connection, ids)
        # Before its recipient is cleared: reports and results are found by the message too.
        reports = _clear_reports(connection, e164, ids)
        _clear_results(connection, e164, ids)
        messages = _clear_messages(connection, e164, key, ids)
        exclusions = connection.execute(
            update(_EXCLUSIONS)
            .where(_EXCLUSIONS.c.recipient == e164)
            .values(recipient="", detail="")
        ).rowcount
        replies = _clear_replies(connection, e164, key)
        events = _clear_events(connection, e164, key)
        unreported = connection.execute(
            select(func.count()).where(
                _MESSAGES.c.id.in_(ids),
                or_(
                    _MESSAGES.c.state == IN_DOUBT,
                    (_MESSAGES.c.state == ACCEPTED) & (_MESSAGES.c.status_rank < FINAL),
                ),
            )
        ).scalar_one()
        return Forgotten(
            events, messages, suppressed, exclusions, reports, replies, int(unreported)
        )


def _lock_messages(connection: Connection, e164: str, key: str) -> list[str]:
    """The ids of the number's messages, none of which can be claimed from now on."""
    of_number = or_(_MESSAGES.c.number_key == key, _MESSAGES.c.recipient == e164)
    rows = connection.execute(
        select(_MESSAGES.c.id, _MESSAGES.c.state, _MESSAGES.c.run_id)
        .where(of_number)
        .order_by(_MESSAGES.c.id)
        .with_for_update()
    ).all()
    for row in rows:
        if row.state == SENDING:
            raise ForgetError(
                f"a message to this number is being sent at this moment (run {row.run_id}):"
                " nothing was erased; try again in a minute, and if this stays, run `sms reconcile`"
            )
    return [row.id for row in rows]


def _suppress(connection: Connection, ids: list[str]) -> int:
    waits = _MESSAGES.c.id.in_(ids) & _MESSAGES.c.state.in_((QUEUED, DEFERRED))
    of_runs = select(_MESSAGES.c.run_id).where(waits).distinct()
    for run_id in connection.execute(of_runs).scalars().all():
        deferral.end_resending(connection, run_id, waits)
    return connection.execute(
        update(_MESSAGES)
        .where(waits)
        .values(state="suppressed", reason="opted_out", rule="opt_out", final_at=now())
    ).rowcount


def _clear_reports(connection: Connection, e164: str, ids: list[str]) -> int:
    # The raw text of one that was never matched may be all that names the number.
    named = or_(
        _REPORTS.c.message_id.in_(ids),
        _REPORTS.c.recipient == e164,
        _REPORTS.c.raw.contains(e164.removeprefix("+")),
    )
    left = _REPORTS.c.recipient.is_not(None) | (_REPORTS.c.raw != "")
    return connection.execute(
        update(_REPORTS).where(named, left).values(recipient=None, raw="")
    ).rowcount


def _clear_results(connection: Connection, e164: str, ids: list[str]) -> None:
    connection.execute(
        update(_RESULTS)
        .where(or_(_RESULTS.c.recipient == e164, _RESULTS.c.message_id.in_(ids)))
        .values(recipient="")
    )
    ended = select(_MESSAGES.c.id).where(_MESSAGES.c.id.in_(ids), _MESSAGES.c.state == "suppressed")
    connection.execute(
        update(_RESULTS)
        .where(_RESULTS.c.message_id.in_(ended), _RESULTS.c.outcome.in_(("pending", "deferred")))
        .values(outcome="suppressed", reason="opted_out", rule="opt_out", final_at=now())
    )


def _clear_messages(connection: Connection, e164: str, key: str, ids: list[str]) -> int:
    return connection.execute(
        update(_MESSAGES)
        .where(_MESSAGES.c.id.in_(ids), or_(_MESSAGES.c.recipient != "", _MESSAGES.c.text != ""))
        .values(
            recipient="",
            text="",
            # A plan has one message for each of them: the fingerprint keeps it so.
            request_key=func.replace(_MESSAGES.c.request_key, e164, key),
        )
    ).rowcount


def _clear_replies(connection: Connection, e164: str, key: str) -> int:
    of_number = or_(_REPLIES.c.number_key == key, _REPLIES.c.sender == e164)
    # Nobody can read it any more, and the opt-out that follows is the most it can have meant.
    connection.execute(
        update(_REPLIES)
        .where(of_number, _REPLIES.c.review == "open")
        .values(review="opt_out", reviewed_by=ERASURE, reviewed_at=now())
    )
    left = or_(_REPLIES.c.sender != "", _REPLIES.c.text != "", _REPLIES.c.raw != "")
    return connection.execute(
        update(_REPLIES).where(of_number, left).values(sender="", text="", raw="", number_key=key)
    ).rowcount


def _clear_events(connection: Connection, e164: str, key: str) -> int:
    of_number = _EVENTS.c.number_key == key
    left = of_number & _EVENTS.c.erased_at.is_(None)
    consent_chain.renew(connection, key)
    cleared = connection.execute(select(func.count()).where(left)).scalar_one()
    erasures = select(func.count()).where(of_number, _EVENTS.c.method == ERASURE)
    if cleared or not connection.execute(erasures).scalar_one():
        consent_ledger.append(connection, _erasure(e164))
    connection.execute(
        update(_EVENTS).where(left).values(recipient=None, evidence={}, erased_at=now())
    )
    return int(cleared)


def _erasure(e164: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "type": ["opt_out"],
            "recipient": [e164],
            "scope": [consent_ledger.ALL_SCOPES],
            "basis": [""],
            "occurred_at": [pd.Timestamp(now())],
            "source": ["sms consent forget"],
            "method": [ERASURE],
        }
    )
