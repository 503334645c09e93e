"""Runs and messages written straight into the ledger, for tests that begin after the planning."""

import itertools
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import select

from adapters.gateways.base import Gateway
from data import batches, pace, plan, runs
from data.database import now, reading, writing
from data.identity import message_ids, number_keys
from data.tables import CampaignRun, Exclusion, InboundMessage, Message
from tasks import sending


def open_run(key: str = "sale", *, state: str = runs.SENDING, **fields: Any) -> CampaignRun:
    """A run of transactional messages by the gateway `sandbox`, moved to `state`."""
    facts = {name: fields.pop(name) for name in ("subject", "caps") if name in fields}
    values = {
        "key": key,
        "name": key,
        "purpose": "transactional",
        "parameters": {},
        "gateway": "sandbox",
        "sender": "+15005550006",
        "not_after": None,
        "flow_run_id": None,
        **fields,
    }
    run = runs.open_run(**values)
    if facts:
        runs.store(run.id, **facts)
    if state != runs.PREPARING:
        runs.move(run.id, state)
    return runs.get_run(run.id)


def send(
    run: CampaignRun, make_gateway: Callable[[], Gateway], rate: float = 1000
) -> sending.Tally:
    """Send the first batch that there is, as a worker does; the tally is empty where none is."""
    pace.set_rate(pace.lane_of(run.gateway, run.sender), rate)
    held = batches.take(run.id)
    return sending.send_batch(held, lambda _: make_gateway()) if held else sending.Tally()


SPECIAL = ("1610", "1611", "1614", "2610", "3000", "3003", "3005", "3006", "3008")
"""How numbers end of which the sandbox makes something else than a delivered message."""


def numbers(count: int) -> list[str]:
    """So many numbers that nothing is special about at the sandbox."""
    plain = (f"+1202{line:07d}" for line in itertools.count(2_000_000))
    ordinary = (number for number in plain if not number.endswith(SPECIAL))
    return list(itertools.islice(ordinary, count))


def add_messages(run: CampaignRun, recipients: list[str], **columns: Any) -> list[str]:
    """Plan one queued message to each recipient; return their ids."""
    ids = message_ids(run.id, "campaign", recipients)
    frame = pd.DataFrame(
        {
            "id": ids,
            "run_id": run.id,
            "kind": "campaign",
            "request_key": recipients,
            "row": range(1, len(recipients) + 1),
            "batch": 0,
            "recipient": recipients,
            "number_key": number_keys(recipients),
            "country": "US",
            "subdivisions": "DC",
            "zones": "America/New_York",
            "text": "Hello",
            "encoding": "GSM-7",
            "segments": 1,
            "sender": run.sender,
            "gateway": run.gateway,
            "state": "queued",
            "reason": "",
            "rule": "",
            "attempt": 0,
            "status_rank": 0,
            "conflict": False,
        }
    ).assign(**columns)
    plan.add_to_plan(frame, pd.DataFrame(columns=list(Exclusion.model_fields)))
    runs.store(run.id, records_read=len(recipients), planned=True)
    return ids


def messages(run: CampaignRun) -> dict[str, Message]:
    """The messages of a run, by recipient."""
    table = Message.__table__
    with reading() as connection:
        rows = connection.execute(select(table).where(table.c.run_id == run.id)).mappings()
        return {row["recipient"]: Message(**row) for row in rows}


def states(run: CampaignRun) -> list[str]:
    """The states of a run's messages, by row."""
    return [m.state for m in sorted(messages(run).values(), key=lambda m: m.row or 0)]


def change(message_id: str, **columns: Any) -> None:
    """Change columns of one message, as time or another process would have."""
    table = Message.__table__
    with writing() as connection:
        connection.execute(table.update().where(table.c.id == message_id).values(**columns))


def opt_out(recipient: str, at: datetime) -> None:
    """Append an opt-out of everything to the consent ledger."""
    consent_event("opt_out", recipient, at)


def consent_event(kind: str, recipient: str, at: datetime, **fields: Any) -> None:
    """Append what a person said in a reply, or a carrier did, to the consent ledger."""
    from data import consent_ledger

    event = {
        "type": kind,
        "recipient": recipient,
        "scope": "*",
        "basis": "",
        "occurred_at": pd.Timestamp(at),
        "source": "test",
        "method": "reply",
        **fields,
    }
    with writing() as connection:
        consent_ledger.append(connection, pd.DataFrame([event]))


def unclear_reply(recipient: str) -> None:
    """Store a reply that waits for a person."""
    (key,) = number_keys([recipient])
    with writing() as connection:
        connection.execute(
            InboundMessage.__table__.insert().values(
                gateway="sandbox",
                gateway_message_id="SM1",
                sender=recipient,
                recipient="+15005550006",
                text="hm",
                number_key=key,
                kind="review",
                review="open",
                received_at=now(),
                raw="",
            )
        )


def cap(
    most: int = 1, *, rule: str = "us-fl/cap", hours: float = 24, scope: str = "same_subject"
) -> dict[str, Any]:
    """A frequency cap as a run stores it."""
    return {"rule": rule, "max": most, "seconds": int(hours * 3600), "scope": scope}
