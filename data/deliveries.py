"""The inbox of delivery reports (DLR): append, match to messages, and apply to them.

Set-based, never row by row. Not here: reading a gateway's wire format (`adapters/gateways`), when
any of this happens (`tasks/reconciliation`), and what a run makes of it (`data/results`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, bindparam, insert, text

from data.database import insert_frame, is_sqlite
from data.tables import DeliveryEvent, InboundMessage, UtcDateTime

FINAL = 4
RANK = {
    "accepted": 1,
    "queued": 2,
    "sent": 3,
    "unknown": 3,
    "delivered": FINAL,
    "undelivered": FINAL,
    "failed": FINAL,
    "expired": FINAL,
    "rejected": FINAL,
}
"""The lattice of delivery statuses. A message goes up in it, never down.

Of two that rank alike and are not final the first by name stays, whichever came first. Of two
finals the first that was applied stays; the other is kept in `delivery_event` and sets
`message.conflict`. That holds for a gateway's own `expired` too. Our expiry is no report: it is a
`message.state`, leaves the status as it was, and gives way to any final report.
"""

_LOCK = 7_735_002  # any number: PostgreSQL's advisory lock that every matching process takes
_BLANK: dict[str, Any] = dict.fromkeys(
    (
        "reference",
        "gateway_message_id",
        "batch_id",
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

    messages: int
    runs: frozenset[str]
    """Run ids of the messages."""
    opt_outs: pd.DataFrame
    """Columns recipient (E.164), reason, gateway, occurred_at (UTC): one row a recipient that a
    gateway reported as opted out, once, however often it does."""


def append(connection: Connection, events: Sequence[Mapping[str, Any]] | pd.DataFrame) -> None:
    """Append events to the inbox; keys or columns are those of `DeliveryEvent`.

    Needed are gateway, source, status and received_at; prices are `Decimal` in mappings and text
    in a frame.
    """
    if isinstance(events, pd.DataFrame):
        insert_frame(connection, "delivery_event", events)
    elif events:
        connection.execute(insert(DeliveryEvent), [{**_BLANK, **event} for event in events])


def append_inbound(connection: Connection, messages: Sequence[Mapping[str, Any]]) -> None:
    """Append inbound messages (MO); keys are those of `InboundMessage`, all but the id."""
    if messages:
        connection.execute(insert(InboundMessage), [dict(message) for message in messages])


def match(
    connection: Connection, *, since: datetime, after: int = 0, limit: int = 50_000
) -> Matched:
    """Find the messages of up to `limit` open events with an id above `after`, oldest first.

    By our reference; else by gateway and gateway message id; else by the batch's gateway id and
    the recipient. Two messages that fit are none: the event stays open, as does one whose message
    is not known yet. Events received before `since` are left alone. `apply` takes what this
    matched, in the same transaction, so that no crash parts them.
    """
    _prepare(connection)
    page = connection.execute(_PAGE, {"after": after, "limit": limit, "since": since}).one()
    if not page.scanned:
        return Matched(0, 0, after)
    bounds = {"after": after, "last": page.last, "since": since}
    matched = sum(connection.execute(way, bounds).rowcount for way in _WAYS)
    connection.execute(_BIND)
    return Matched(page.scanned, matched, page.last)


def apply(connection: Connection) -> Applied:
    """Bring the messages of the events that `match` just matched to what those events say.

    Any report proves that the gateway took the message: whatever state it was left in by a sender
    that got no clear answer becomes `accepted`. A report never makes a message be sent again.
    """
    messages = connection.execute(_APPLY).rowcount
    runs = frozenset(connection.execute(_RUNS).scalars())
    columns = ["recipient", "reason", "gateway", "occurred_at"]
    opt_outs = pd.DataFrame([tuple(row) for row in connection.execute(_OPT_OUTS)], columns=columns)
    opt_outs["occurred_at"] = pd.to_datetime(opt_outs["occurred_at"], utc=True)
    return Applied(messages, runs, opt_outs)


def _prepare(connection: Connection) -> None:
    if not is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    connection.execute(
        text(
            "CREATE TEMPORARY TABLE IF NOT EXISTS matched_event"
            " (event_id BIGINT PRIMARY KEY, message_id TEXT NOT NULL)"
        )
    )
    connection.execute(text("DELETE FROM matched_event"))


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
    AND NOT EXISTS (SELECT 1 FROM matched_event WHERE matched_event.event_id = e.id)
"""

_WAYS = [
    _since(f"""
        INSERT INTO matched_event (event_id, message_id)
        SELECT e.id, MIN(message.id) FROM delivery_event AS e JOIN message ON {fits}
        WHERE {_OPEN} GROUP BY e.id HAVING COUNT(*) = 1
    """)  # noqa: S608 - the conditions are the three below
    for fits in (
        "message.id = e.reference",
        "message.gateway = e.gateway AND message.gateway_message_id = e.gateway_message_id",
        "message.gateway = e.gateway AND message.gateway_message_id = e.batch_id"
        " AND message.recipient = e.recipient",
    )
]

_BIND = text("""
    UPDATE delivery_event SET message_id = matched_event.message_id
    FROM matched_event WHERE delivery_event.id = matched_event.event_id
""")

_RANKED = " ".join(f"WHEN '{status}' THEN {rank}" for status, rank in RANK.items())

# A report rises a message when it ranks higher, or alike, not final and earlier by name.
_RISES = f"""(
    fold.level > message.status_rank OR message.status IS NULL
    OR (fold.level = message.status_rank AND fold.level < {FINAL} AND fold.status < message.status)
)"""

# A message that was never claimed has left nowhere, so no report can speak of it.
_PROVES = f"""(
    message.attempt > 0 AND message.state <> 'accepted'
    AND NOT (
        message.state = 'expired' AND message.reason = 'no_report' AND fold.level < {FINAL}
    )
)"""

# The window's partition hands the messages over in the order of their ids, which makes the update
# several times faster than in the order of arrival.
_APPLY = text(f"""
    WITH seen AS (
        SELECT matched_event.message_id, e.id, e.status,
            CASE e.status {_RANKED} ELSE 0 END AS level,
            e.error_code, e.price, e.currency, e.gateway, e.gateway_message_id, e.received_at,
            COALESCE(e.occurred_at, e.received_at) AS happened_at
        FROM matched_event JOIN delivery_event AS e ON e.id = matched_event.event_id
    ), fold AS (
        SELECT seen.*,
            ROW_NUMBER() OVER (
                PARTITION BY message_id
                ORDER BY level DESC, CASE WHEN level = {FINAL} THEN '' ELSE status END, id
            ) AS place,
            MIN(CASE WHEN level = {FINAL} THEN status END) OVER whole AS one_end,
            MAX(CASE WHEN level = {FINAL} THEN status END) OVER whole AS other_end,
            MIN(received_at) OVER whole AS first_seen,
            FIRST_VALUE(price) OVER priced AS newest_price,
            FIRST_VALUE(currency) OVER priced AS newest_currency
        FROM seen
        WINDOW whole AS (PARTITION BY message_id),
            priced AS (
                PARTITION BY message_id ORDER BY CASE WHEN price IS NULL THEN 1 ELSE 0 END, id DESC
            )
    )
    UPDATE message SET
        status = CASE WHEN {_RISES} THEN fold.status ELSE message.status END,
        status_rank = CASE WHEN {_RISES} THEN fold.level ELSE message.status_rank END,
        error_code = CASE WHEN {_RISES} THEN fold.error_code ELSE message.error_code END,
        final_at = CASE WHEN {_RISES} AND fold.level = {FINAL} THEN fold.happened_at
            WHEN {_PROVES} AND message.status_rank < {FINAL} THEN NULL
            ELSE message.final_at END,
        conflict = message.conflict OR COALESCE(fold.one_end <> fold.other_end, FALSE)
            OR (message.status_rank = {FINAL} AND COALESCE(fold.one_end <> message.status, FALSE)),
        price = COALESCE(fold.newest_price, message.price),
        currency = CASE WHEN fold.newest_price IS NULL THEN message.currency
            ELSE fold.newest_currency END,
        gateway_message_id = CASE WHEN message.gateway_message_id IS NULL
            AND message.gateway = fold.gateway THEN fold.gateway_message_id
            ELSE message.gateway_message_id END,
        state = CASE WHEN {_PROVES} THEN 'accepted' ELSE message.state END,
        reason = CASE WHEN {_PROVES} THEN '' ELSE message.reason END,
        rule = CASE WHEN {_PROVES} THEN '' ELSE message.rule END,
        retry_at = CASE WHEN {_PROVES} THEN NULL ELSE message.retry_at END,
        submitted_at = CASE WHEN {_PROVES} THEN COALESCE(message.submitted_at, fold.first_seen)
            ELSE message.submitted_at END
    FROM fold WHERE message.id = fold.message_id AND fold.place = 1
""")  # noqa: S608 - the parts are above

_RUNS = text("""
    SELECT DISTINCT message.run_id
    FROM matched_event JOIN message ON message.id = matched_event.message_id
""")

_OPT_OUTS = text("""
    SELECT recipient, reason, gateway, occurred_at FROM (
        SELECT message.recipient, 'gateway_' || COALESCE(e.error_code, 'optout') AS reason,
            e.gateway, COALESCE(e.occurred_at, e.received_at) AS occurred_at,
            ROW_NUMBER() OVER (PARTITION BY message.recipient ORDER BY e.id) AS place
        FROM matched_event
        JOIN delivery_event AS e ON e.id = matched_event.event_id AND e.error_class = 'optout'
        JOIN message ON message.id = matched_event.message_id
        WHERE NOT EXISTS (
            SELECT 1 FROM delivery_event AS told
            WHERE told.message_id = message.id AND told.error_class = 'optout'
                AND told.id NOT IN (SELECT event_id FROM matched_event)
        )
    ) AS optouts WHERE place = 1
""").columns(occurred_at=UtcDateTime())
