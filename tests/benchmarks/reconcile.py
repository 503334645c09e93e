"""Delivery reports onto messages, to a finished run with its results: sets, beside one by one."""

import random
from datetime import timedelta

import pandas as pd
from sqlmodel import Session, col, select

from data import deliveries, runs
from data.database import engine, now, reading, writing
from data.results import outcome_counts
from data.tables import DeliveryEvent, Message, Result
from tasks.reconciliation import reconcile
from tests import plans
from tests.benchmarks.bench import GATEWAY, Figure, Report, fresh_home, timed

CHUNK = 500


def run(reports: int = 100_000, sample: int = 2_000) -> Report:
    """Measure `tasks.reconciliation.reconcile` with a report in the inbox for every message."""
    with fresh_home():
        run_id = _accepted(reports)
        with timed() as ours:
            done = reconcile(lambda _: None)
        assert (done.matched, done.finished) == (reports, [run_id]), done
        with reading() as connection:
            assert outcome_counts(connection, run_id) == {"delivered": reports}
    with fresh_home():
        _accepted(sample)
        with timed() as plain:
            _one_by_one()
    return Report(
        "reconcile",
        "reports",
        20_000,
        Figure("tasks.reconciliation.reconcile", reports, ours),
        [Figure("ORM, report by report", sample, plain)],
    )


def _accepted(count: int) -> str:
    """A run whose messages were all accepted, and their reports, in no order, in the inbox."""
    campaign = plans.open_run(gateway=GATEWAY)
    numbers = plans.numbers(count)
    sids = [f"SM{place:032x}" for place in range(count)]
    at = pd.Timestamp(now() - timedelta(seconds=60))
    facts = {"state": "accepted", "status": "accepted", "attempt": 1, "submitted_at": at}
    ids = plans.add_messages(campaign, numbers, gateway_message_id=sids, **facts)
    runs.move(campaign.id, runs.RECONCILING)
    events = pd.DataFrame(
        {
            "gateway": GATEWAY,
            "source": "callback",
            "reference": ids,
            "gateway_message_id": sids,
            "recipient": numbers,
            "status": "delivered",
            "received_at": pd.Timestamp(now()),
            "raw": "MessageStatus=delivered",
        }
    )
    order = random.Random(1).sample(range(count), count)
    with writing() as connection:
        deliveries.append(connection, events.iloc[order])
    return campaign.id


def _one_by_one() -> None:
    """Reconcile as most people write it first: look up, change, add a result."""
    with Session(engine()) as session:
        events = session.exec(select(DeliveryEvent).where(col(DeliveryEvent.message_id).is_(None)))
        for place, event in enumerate(events.all(), start=1):
            message = session.get_one(Message, event.reference)
            message.status = event.status
            message.status_rank = deliveries.RANK[event.status]
            message.final_at = event.received_at
            event.message_id = message.id
            session.add(
                Result(
                    run_id=message.run_id,
                    row=message.row or 0,
                    recipient=message.recipient,
                    outcome=event.status,
                    message_id=message.id,
                    gateway=message.gateway,
                    gateway_message_id=message.gateway_message_id,
                    segments=message.segments,
                    attempts=message.attempt,
                    submitted_at=message.submitted_at,
                    final_at=event.received_at,
                )
            )
            if place % CHUNK == 0:
                session.commit()
        session.commit()
