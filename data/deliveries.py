"""The inbox of delivery reports (DLR): append, match to messages, and apply to them.

Set-based, never row by row. Not here: reading a gateway's wire format (`adapters/gateways`), when
any of this happens (`tasks/reconciliation`), and what a run makes of it (`data/results`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    false,
    insert,
    select,
    text,
)
from sqlalchemy.schema import CreateTable
from sqlmodel import col

from data.database import insert_frame, is_sqlite
from data.tables import DeliveryEvent, InboundMessage, UtcDateTime

RANK = {
    "accepted": 1,
    "queued": 2,
    "unknown": 3,
    "sent": 4,
    "delivered": 5,
    "undelivered": 5,
    "failed": 5,
    "expired": 5,
    "rejected": 5,
}
"""The lattice of delivery statuses: a message goes up in it, never down. `unknown` is a report
whose status says nothing: more than being queued, less than being sent.

Of two finals the one that was applied first stands, of those applied together the one received
first; the other is kept in `delivery_event` and sets `message.conflict`. A gateway's own `expired`
is such a final. Our expiry is no report: it is a `message.state`, leaves the status as it was, and
gives way to any final report.
"""
FINAL = RANK["delivered"]

_LOCK = 7_735_002  # any number: PostgreSQL's advisory lock that every matching process takes
_INBOUND_LOCK = 7_735_003  # likewise, of every process that stores inbound messages
_SAME_REPLY = ("gateway", "gateway_message_id", "sender", "text")
_ABOVE_IDS = 2**40
_HIGHER = "folded.level > message.status_rank"

# Temporary tables, so that one page is matched once and its statements stay set-based. No index:
# SQLite would walk through every message, and look for each in the index here.
_MATCHED = Table(
    "matched_event",
    MetaData(),
    Column("event_id", BigInteger, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("error_class", Text),
    # Delivered is a part of a message of which other parts are not.
    Column("held", Boolean, nullable=False, server_default=false()),
    prefixes=["TEMPORARY"],
)
_FOLDED = Table(
    "folded_event",
    MetaData(),
    Column("message_id", Text, nullable=False),
    Column("level", Integer),
    Column("status", Text),
    Column("error_code", Text),
    Column("happened_at", UtcDateTime),
    Column("gateway", Text),
    Column("gateway_message_id", Text),
    Column("one_end", Text),
    Column("other_end", Text),
    Column("first_seen", UtcDateTime),
    Column("price", Text),
    Column("currency", Text),
    prefixes=["TEMPORARY"],
)

_BLANK: dict[str, Any] = dict.fromkeys(
    (
        "reference",
        "gateway_message_id",
        "batch_id",
        "submission",
        "part",
        "recipient",
        "error_code",
        "error_class",
        "price",
        "currency",
        "occurred_at",
    )
) | {"raw": ""}


@dataclass(frozen=True, slots=True)
class Matched:
    """What one call of `match` looked at."""

    scanned: int
    """Open events looked at; fewer than the limit: there are no more."""
    matched: int
    last: int
    """The highest event id looked at: where the next page begins."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What one call of `apply` changed."""

    runs: frozenset[str]
    """Run ids of the messages."""
    opt_outs: pd.DataFrame
    """Columns recipient (E.164), reason, gateway, occurred_at (UTC): one row a recipient that a
    gateway reported as opted out, once a message, however often it does. Of several messages the
    latest counts: an opt-in may have come in between."""


def append(connection: Connection, events: Sequence[Mapping[str, Any]] | pd.DataFrame) -> None:
    """Append events to the inbox; keys or columns are those of `DeliveryEvent`.

    Needed are gateway, source, status and received_at; prices are `Decimal` in mappings and text
    in a frame.
    """
    if isinstance(events, pd.DataFrame):
        raw = {} if "raw" in events else {"raw": ""}
        insert_frame(connection, "delivery_event", events.assign(**raw))
    elif events:
        connection.execute(insert(DeliveryEvent), [{**_BLANK, **event} for event in events])


def unseen(
    connection: Connection, messages: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the inbound messages that are not stored yet, each once; nobody stores one meanwhile.

    Gateways send again what they got no answer to, and a captured callback may be sent by others.
    Sender and text count beside the gateway's id, because an SMSC may use an id again.
    """
    if not is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _INBOUND_LOCK})
    ids = {message["gateway_message_id"] for message in messages} - {""}
    stored = select(*(getattr(InboundMessage, name) for name in _SAME_REPLY)).where(
        col(InboundMessage.gateway_message_id).in_(ids)
    )
    seen = {tuple(row) for row in connection.execute(stored)}
    found = []
    for message in messages:
        same = tuple(message[name] for name in _SAME_REPLY)
        if same not in seen:
            found.append(message)
        if message["gateway_message_id"]:
            seen.add(same)
    return found


def append_inbound(connection: Connection, messages: Sequence[Mapping[str, Any]]) -> None:
    """Append inbound messages (MO); keys are those of `InboundMessage`, all but the id."""
    if messages:
        connection.execute(insert(InboundMessage), [dict(message) for message in messages])


def match(
    connection: Connection, *, since: datetime, after: int = 0, limit: int = 50_000
) -> Matched:
    """Find the messages of up to `limit` open events with an id above `after`, oldest first.

    By our reference, where a number that is told agrees; else by the reference of the window and
    the recipient; else by the gateway's id of the message, or of one of its parts; else by its id
    of the request and the recipient. Always of the gateway that the message went to. Two messages
    that fit are none: the event stays open, as does one whose message is not known yet. Events
    received before `since` are left alone. `apply` takes what this matched, in the same
    transaction, so that no crash parts them.
    """
    if not is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    _temporary(connection, _MATCHED)
    page = connection.execute(_PAGE, {"after": after, "limit": limit, "since": since}).one()
    if not page.scanned:
        return Matched(0, 0, after)
    bounds = {"after": after, "last": page.last, "since": since}
    matched = sum(connection.execute(way, bounds).rowcount for way in _WAYS)
    if not is_sqlite(connection):
        # In the order of ids, as whoever records answers does: no two wait for each other.
        connection.execute(_LOCK_MESSAGES)
    connection.execute(_BIND)
    return Matched(page.scanned, matched, page.last)


def apply(connection: Connection) -> Applied:
    """Bring the messages of the events that `match` just matched to what those events say.

    Any report proves that the gateway took the message: whatever state it was left in by a sender
    that got no clear answer becomes `accepted`. A report never makes a message be sent again.
    """
    _temporary(connection, _FOLDED)
    for statement in (_HOLD_PARTS, _FOLD, _ACCEPT, _NAME, _RISE):
        connection.execute(statement)
    runs = frozenset(connection.execute(_RUNS).scalars())
    columns = ["recipient", "reason", "gateway", "occurred_at"]
    opt_outs = pd.DataFrame([tuple(row) for row in connection.execute(_OPT_OUTS)], columns=columns)
    opt_outs["occurred_at"] = pd.to_datetime(opt_outs["occurred_at"], utc=True)
    return Applied(runs, opt_outs)


def _temporary(connection: Connection, table: Table) -> None:
    """Have an empty temporary table; this connection alone sees it."""
    connection.execute(CreateTable(table, if_not_exists=True))
    connection.execute(table.delete())


def _since(statement: str) -> Any:
    return text(statement).bindparams(bindparam("since", type_=UtcDateTime()))


_PAGE = _since("""
    SELECT COUNT(*) AS scanned, MAX(id) AS last FROM (
        SELECT id FROM delivery_event
        WHERE message_id IS NULL AND id > :after AND received_at >= :since
        ORDER BY id LIMIT :limit
    ) AS page
""")

_OPEN = """
    e.message_id IS NULL AND e.id > :after AND e.id <= :last AND e.received_at >= :since
    AND e.id NOT IN (SELECT event_id FROM matched_event)
"""

_WAYS = [
    _since(f"""
        INSERT INTO matched_event (event_id, message_id, run_id, error_class)
        SELECT e.id, MIN(message.id), MIN(message.run_id), MIN(e.error_class)
        FROM delivery_event AS e JOIN {fits}
        WHERE {_OPEN} GROUP BY e.id HAVING COUNT(*) = 1
    """)  # noqa: S608 - the conditions are those below
    for fits in (
        # After a restored backup nobody knows which gateway of a route has sent it.
        "message ON message.id = e.reference"
        " AND (message.gateway = e.gateway OR message.reason = 'restored')"
        " AND (e.recipient IS NULL OR e.recipient = message.recipient)",
        "message ON message.submission = e.submission AND message.recipient = e.recipient"
        " AND message.gateway = e.gateway",
        "message ON message.gateway = e.gateway"
        " AND message.gateway_message_id = e.gateway_message_id",
        # The last one: an SMSC counts anew one day, and an answer may be stored twice.
        "delivery_event AS told ON told.id = ("
        "SELECT MAX(id) FROM delivery_event WHERE source = 'answer' AND gateway = e.gateway"
        " AND gateway_message_id = e.gateway_message_id)"
        " JOIN message ON message.id = told.reference",
        "message ON message.gateway = e.gateway AND message.gateway_message_id = e.batch_id"
        " AND message.recipient = e.recipient",
    )
]

_LOCK_MESSAGES = text("""
    SELECT COUNT(*) FROM (
        SELECT 1 FROM message WHERE id IN (SELECT message_id FROM matched_event)
        ORDER BY id FOR UPDATE
    ) AS locked
""")

_BIND = text("""
    UPDATE delivery_event SET message_id = matched_event.message_id
    FROM matched_event WHERE delivery_event.id = matched_event.event_id
""")

# Delivered are as many parts as the message has, whatever order they are reported in.
_HOLD_PARTS = text("""
    UPDATE matched_event SET held = TRUE WHERE event_id IN (
        SELECT e.id FROM matched_event AS matched
        JOIN delivery_event AS e ON e.id = matched.event_id
        JOIN message ON message.id = matched.message_id
        WHERE e.part IS NOT NULL AND e.status = 'delivered' AND message.segments > (
            SELECT COUNT(DISTINCT told.part) FROM delivery_event AS told
            WHERE told.message_id = message.id AND told.status = 'delivered'
        )
    )
""")

_LEVEL = " ".join(f"WHEN '{status}' THEN {rank}" for status, rank in RANK.items())
_LEVEL = f"""CASE WHEN matched_event.held THEN {RANK["sent"]} ELSE
    CASE e.status {_LEVEL} ELSE {RANK["unknown"]} END END"""
_END = f"CASE WHEN {_LEVEL} = {FINAL} THEN e.status END"

_BEST = f"(best.rank_and_id + {_ABOVE_IDS} - 1) / {_ABOVE_IDS}"

# One row a message. The highest level and, in it, the lowest event id are found as one number,
# level * 2^40 - id: half the time of window functions. GROUP BY puts the rows in the order of
# message ids, in which the updates below are several times faster than in that of arrival.
_FOLD = text(f"""
    INSERT INTO folded_event
    SELECT best.message_id, {_BEST}, CASE WHEN {_BEST} = {FINAL} OR e.status <> 'delivered'
        THEN e.status ELSE 'sent' END, e.error_code,
        COALESCE(e.occurred_at, e.received_at), e.gateway, e.gateway_message_id,
        best.one_end, best.other_end, best.first_seen, priced.price, priced.currency
    FROM (
        SELECT matched_event.message_id, MAX({_LEVEL} * {_ABOVE_IDS} - e.id) AS rank_and_id,
            MIN({_END}) AS one_end, MAX({_END}) AS other_end, MIN(e.received_at) AS first_seen,
            MAX(CASE WHEN e.price IS NOT NULL THEN e.id END) AS priced_id
        FROM matched_event JOIN delivery_event AS e ON e.id = matched_event.event_id
        GROUP BY matched_event.message_id
    ) AS best
    JOIN delivery_event AS e ON e.id = {_ABOVE_IDS} - best.rank_and_id % {_ABOVE_IDS}
    LEFT JOIN delivery_event AS priced ON priced.id = best.priced_id
    ORDER BY best.message_id
""")  # noqa: S608 - the parts are above

# A message that was never claimed has left nowhere, so no report can speak of it.
_ACCEPT = text(f"""
    UPDATE message SET state = 'accepted', reason = '', rule = '', retry_at = NULL,
        gateway = CASE WHEN message.reason = 'restored' THEN folded.gateway
            ELSE message.gateway END,
        submitted_at = COALESCE(message.submitted_at, folded.first_seen), final_at = NULL
    FROM folded_event AS folded WHERE message.id = folded.message_id
        AND message.state <> 'accepted' AND message.attempt > 0
        AND (message.reason <> 'no_report' OR folded.level = {FINAL})
""")  # noqa: S608 - a number

_NAME = text("""
    UPDATE message SET gateway_message_id = folded.gateway_message_id
    FROM folded_event AS folded WHERE message.id = folded.message_id
        AND message.gateway_message_id IS NULL AND message.gateway = folded.gateway
        AND folded.gateway_message_id IS NOT NULL
""")

# No indexed column here: SQLite rewrites the index of every column that a statement names.
_RISE = text(f"""
    UPDATE message SET
        status = CASE WHEN {_HIGHER} THEN folded.status ELSE message.status END,
        status_rank = CASE WHEN {_HIGHER} THEN folded.level ELSE message.status_rank END,
        error_code = CASE WHEN {_HIGHER} THEN folded.error_code ELSE message.error_code END,
        final_at = CASE WHEN {_HIGHER} AND folded.level = {FINAL} THEN folded.happened_at
            ELSE message.final_at END,
        conflict = message.conflict OR COALESCE(folded.one_end <> folded.other_end, FALSE)
            OR (message.status_rank = {FINAL}
                AND COALESCE(folded.one_end <> message.status, FALSE)),
        price = COALESCE(folded.price, message.price),
        currency = CASE WHEN folded.price IS NULL THEN message.currency ELSE folded.currency END
    FROM folded_event AS folded WHERE message.id = folded.message_id
        AND ({_HIGHER} OR folded.one_end IS NOT NULL OR folded.price IS NOT NULL)
""")  # noqa: S608 - the parts are above

_RUNS = text("SELECT DISTINCT run_id FROM matched_event")

_OPT_OUTS = text("""
    SELECT recipient, reason, gateway, occurred_at FROM (
        SELECT message.recipient, 'gateway_' || COALESCE(e.error_code, 'optout') AS reason,
            e.gateway, COALESCE(e.occurred_at, e.received_at) AS occurred_at,
            ROW_NUMBER() OVER (
                PARTITION BY message.recipient
                ORDER BY COALESCE(e.occurred_at, e.received_at) DESC, e.id
            ) AS place
        FROM matched_event
        JOIN delivery_event AS e ON e.id = matched_event.event_id
        JOIN message ON message.id = matched_event.message_id
        WHERE matched_event.error_class = 'optout' AND NOT EXISTS (
            SELECT 1 FROM delivery_event AS told
            WHERE told.message_id = message.id AND told.error_class = 'optout'
                AND told.id NOT IN (SELECT event_id FROM matched_event)
        )
    ) AS optouts WHERE place = 1
""").columns(occurred_at=UtcDateTime())
