"""Statements on replies (inbound_message) that a person looks at: who is held, the queue, deciding.

Here: what a decision writes to the consent ledger. Not here: storing replies (data.deliveries),
what a reply asks for (tasks.replies), how the queue is shown (tasks.reviewing).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Row, exists, func, literal, or_, select, update
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.elements import SQLCoreOperations
from sqlalchemy.types import JSON

from data import consent_ledger
from data.consent_standing import SCOPES, fold, is_import
from data.database import is_sqlite, now, reading, writing
from data.errors import SmsError
from data.identity import number_keys as keys_of
from data.tables import ConsentEvent, InboundMessage

DECISIONS = ("opt_out", "opt_in", "none")
OPEN = "open"

_REPLIES = InboundMessage.metadata.tables["inbound_message"]
_EVENTS = ConsentEvent.metadata.tables["consent_event"]
_WAITS = (_REPLIES.c.review == OPEN) & _REPLIES.c.kind.in_(["review", "opt_out"])
_JUST_AFTER = timedelta(microseconds=1)


class InboundError(SmsError):
    """A reply that cannot be decided as asked."""


@dataclass(frozen=True)
class OpenReply:
    """A reply that waits for a person. `sender` and `text` are personal."""

    id: int
    received_at: datetime
    gateway: str
    sender: str
    kind: str
    """opt_out: acted on, to be confirmed; review: its sender is held"""
    why: str
    text: str


def is_held(number_key: SQLCoreOperations[str]) -> ColumnElement[bool]:
    """Return the SQL condition that a reply of this number waits for a person to understand it."""
    reply = _REPLIES.alias("held")
    return exists(
        select(1)
        .where(
            reply.c.number_key == number_key,
            reply.c.kind == "review",
            reply.c.review == OPEN,
        )
        .correlate_except(reply)
    )


def held(connection: Connection, number_keys: "pd.Series[str]") -> frozenset[str]:
    """Return those of these numbers (fingerprints) that get no marketing until a person decides."""
    # One bound value, whatever their count: databases limit the parameters of a statement.
    keys = literal(number_keys.dropna().unique().tolist(), JSON)
    each = func.json_each if is_sqlite(connection) else func.json_array_elements_text
    wanted = each(keys).table_valued("value")
    statement = select(_REPLIES.c.number_key).where(
        _REPLIES.c.number_key.in_(select(wanted.c.value)),
        _REPLIES.c.kind == "review",
        _REPLIES.c.review == OPEN,
    )
    return frozenset(connection.execute(statement.distinct()).scalars())


def queue(limit: int | None = None) -> list[OpenReply]:
    """Return the replies that wait for a person, oldest first."""
    columns = (_REPLIES.c[name] for name in OpenReply.__dataclass_fields__)
    statement = select(*columns).where(_WAITS).order_by(_REPLIES.c.id).limit(limit)
    with reading() as connection:
        return [OpenReply(*row) for row in connection.execute(statement)]


def count_open() -> int:
    """Return how many replies wait for a person."""
    with reading() as connection:
        return connection.execute(select(func.count()).where(_WAITS)).scalar_one()


def find(id: int) -> InboundMessage:
    """Return a reply. Raises `InboundError` where there is none of that id."""
    with reading() as connection:
        return InboundMessage(**_find(connection, id)._mapping)


def _find(connection: Connection, id: int) -> Row[Any]:
    row = connection.execute(select(_REPLIES).where(_REPLIES.c.id == id)).one_or_none()
    if row is None:
        raise InboundError(f"there is no reply {id}; `sms inbound review` lists those that wait")
    return row


def decide(id: int, decision: str, by: str) -> None:
    """Record what a person made of a reply, and what follows from it in the consent ledger.

    opt_out and opt_in write the event, dated as the reply. `none` on a reply that was acted on
    takes the suspected opt-out back: an opt-in that names both, just after it, with what the
    person had consented to before; nothing is taken back where another opt-out or a deactivation
    stood already. `none` on a held reply only releases its sender. Raises `InboundError`, also
    where somebody decided before.
    """
    by = by.strip()
    if decision not in DECISIONS:
        raise InboundError(f"{decision!r} is no decision: use one of " + ", ".join(DECISIONS))
    if not by or is_import("", by):
        raise InboundError(
            "a decision needs the name of the person who makes it, and no word that stands for a"
            " bulk of records, such as import or list"
        )
    with writing() as connection:
        reply = _find(connection, id)
        taken = connection.execute(
            update(_REPLIES)
            .where(_REPLIES.c.id == id, _WAITS)
            .values(review=decision, reviewed_by=by, reviewed_at=now())
        )
        if taken.rowcount != 1:
            _refuse(connection, id)
        events = _following(connection, reply, decision, by)
        if events:
            consent_ledger.append(connection, pd.DataFrame(events))


def _refuse(connection: Connection, id: int) -> None:
    reply = _find(connection, id)
    if not reply.reviewed_by:
        raise InboundError(f"reply {id} needs no decision: it was understood as {reply.kind}")
    raise InboundError(
        f"reply {id} was decided already: {reply.review}, by {reply.reviewed_by} at"
        f" {reply.reviewed_at:%Y-%m-%d %H:%M} UTC"
    )


def _following(
    connection: Connection, reply: Row[Any], decision: str, by: str
) -> list[dict[str, Any]]:
    """The events that a decision adds."""
    if decision == "none" and reply.kind == "review":
        return []
    suspected = _suspected(connection, reply) if reply.kind == "opt_out" else None
    if decision == "opt_out":
        return [] if suspected else [_event(reply, by, "opt_out")]
    if suspected:
        return _correction(connection, reply, suspected, by, decision)
    return [_event(reply, by, "opt_in", basis="express")] if decision == "opt_in" else []


def _event(reply: Row[Any], by: str, type: str, **more: Any) -> dict[str, Any]:
    evidence = {
        "reply": reply.gateway_message_id,
        "reply_id": reply.id,
        "gateway": reply.gateway,
        "decided_by": by,
    }
    return {
        "type": type,
        "recipient": _recipient(reply),
        "scope": "*",
        "basis": "",
        "occurred_at": reply.received_at,
        "source": "review",
        "method": f"review:{by}",
        **more,
        "evidence": evidence | more.get("evidence", {}),
    }


def _recipient(reply: Row[Any]) -> str:
    """The sender as the ledger knows it. Gateways write numbers with and without `+` or `00`."""
    digits = re.sub(r"\D", "", reply.sender)
    for number in (reply.sender, f"+{digits}", f"+{digits.lstrip('0')}"):
        if re.fullmatch(r"\+[1-9]\d{4,14}", number) and keys_of([number]) == [reply.number_key]:
            return number
    raise InboundError(
        f"the sender of reply {reply.id} is no telephone number, or was erased, so the ledger has"
        " nobody to write it to; only `none` can be decided"
    )


def _suspected(connection: Connection, reply: Row[Any]) -> Row[Any] | None:
    """The opt-out that was written when the reply came."""
    statement = select(_EVENTS).where(
        _EVENTS.c.number_key == reply.number_key, _EVENTS.c.type == "opt_out"
    )
    for event in connection.execute(statement.order_by(_EVENTS.c.id.desc())):
        told = dict(event.evidence or {})
        if reply.gateway_message_id and told.get("reply"):
            if (told["reply"], told.get("gateway")) == (reply.gateway_message_id, reply.gateway):
                return event
        elif event.occurred_at == reply.received_at:
            return event
    return None


def _correction(
    connection: Connection, reply: Row[Any], suspected: Row[Any], by: str, decision: str
) -> list[dict[str, Any]]:
    """Take a suspected opt-out back, and give back what the person had consented to."""
    _refuse_before_others(connection, reply)
    events = _events_before(connection, suspected)
    folded = {scope: fold(events, scope) for scope in SCOPES}
    people = folded["marketing"].people
    stopped = bool(people["opted_out_of_any"].any() or people["deactivated"].any())
    if stopped and decision == "none":
        return []
    at = (suspected.occurred_at or reply.received_at) + _JUST_AFTER
    evidence = {"corrects": suspected.id}
    # Of no basis of its own: it lifts the opt-out, and claims no consent that nobody gave.
    basis = "express" if decision == "opt_in" else ""
    lifting = _event(reply, by, "opt_in", occurred_at=at, basis=basis, evidence=evidence)
    had = [] if stopped else _bases(folded)
    return [
        lifting,
        *(lifting | {"scope": scope, "basis": basis} for scope, basis in had),
    ]


def _bases(folded: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Scope and basis of what was consented to; registry answers are no consent of the person."""
    return [
        (scope, basis)
        for scope, standing in folded.items()
        for basis in standing.consents["basis"]
        if basis and basis not in ("dnc_clear", "iys_onay")
    ]


def _events_before(connection: Connection, suspected: Row[Any]) -> pd.DataFrame:
    names = ["id", "number_key", "type", "scope", "basis", "occurred_at", "method", "evidence"]
    statement = select(*(_EVENTS.c[name] for name in names)).where(
        _EVENTS.c.number_key == suspected.number_key,
        _EVENTS.c.id != suspected.id,
        or_(
            _EVENTS.c.occurred_at.is_(None),
            _EVENTS.c.occurred_at <= suspected.occurred_at,
        ),
    )
    rows = connection.execute(statement).all()
    return pd.DataFrame(rows, columns=pd.Index(names))


def _refuse_before_others(connection: Connection, reply: Row[Any]) -> None:
    """What was suspected earlier looks like an opt-out that stands, until it is decided."""
    earlier = connection.execute(
        select(func.min(_REPLIES.c.id)).where(
            _REPLIES.c.number_key == reply.number_key,
            _WAITS,
            _REPLIES.c.kind == "opt_out",
            _REPLIES.c.id != reply.id,
            _REPLIES.c.received_at <= reply.received_at,
        )
    ).scalar_one()
    if earlier is not None:
        raise InboundError(
            f"reply {earlier} of the same number came before reply {reply.id} and waits as well;"
            " decide it first"
        )
