"""Messages and reports about them, stored and settled as reconciliation does it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import insert, select

from data import deliveries
from data.database import reading, writing
from data.tables import DeliveryEvent, Message

AT = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MESSAGES = Message.__table__  # type: ignore[attr-defined]
EVENTS = DeliveryEvent.__table__  # type: ignore[attr-defined]


def message(**values: Any) -> dict[str, Any]:
    return {
        "id": "m1",
        "run_id": "run",
        "kind": "campaign",
        "request_key": values.get("id", "m1"),
        "row": 1,
        "batch": 0,
        "recipient": "+14155550100",
        "number_key": "key",
        "zones": "",
        "text": "Hello",
        "encoding": "GSM-7",
        "segments": 1,
        "sender": "+15005550006",
        "gateway": "main",
        "state": "accepted",
        "reason": "",
        "rule": "",
        "attempt": 1,
        "status_rank": 0,
        "conflict": False,
        "submitted_at": AT,
        "gateway_message_id": None,
    } | values


def event(**values: Any) -> dict[str, Any]:
    return {
        "gateway": "main",
        "source": "callback",
        "reference": "m1",
        "status": "delivered",
        "received_at": AT + timedelta(minutes=1),
    } | values


def store(*messages: dict[str, Any]) -> None:
    with writing() as connection:
        connection.execute(insert(MESSAGES), list(messages))


def settle(*events: dict[str, Any], limit: int = 50_000) -> list[pd.DataFrame]:
    """Append events, then match and apply page by page; return the opt-outs of each page."""
    with writing() as connection:
        deliveries.append(connection, events)
    opt_outs, after = [], 0
    while True:
        with writing() as connection:
            page = deliveries.match(
                connection, since=AT - timedelta(days=7), after=after, limit=limit
            )
            opt_outs.append(deliveries.apply(connection).opt_outs)
        after = page.last
        if page.scanned < limit:
            return opt_outs


def stored(of: str = "m1") -> Any:
    with reading() as connection:
        return connection.execute(select(MESSAGES).where(MESSAGES.c.id == of)).one()


def open_events() -> int:
    with reading() as connection:
        return len(connection.execute(select(EVENTS).where(EVENTS.c.message_id.is_(None))).all())
