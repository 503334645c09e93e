"""What the harness is tested with: the product with one of its safeguards taken out.

Done inside a forked sender, so that nothing of it comes back. A harness that finds no duplicates
then could not find any.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from threading import Lock
from typing import Any

from sqlalchemy import Connection, select, update
from sqlmodel import col

from adapters.gateways.base import Answer
from data import doubts, ledger
from data.database import now, writing
from data.ledger import Claimed, Settled
from data.tables import CampaignRun, Message
from tasks import sending, settling


def take_out(name: str) -> None:
    """Take a safeguard out of this process; an empty name takes out none."""
    if name:
        _MUTATIONS[name]()


def _no_claim() -> None:
    """Send first and write it down afterwards, as the naive sender does."""
    taken: set[str] = set()
    lock = Lock()
    record = ledger.record

    def claim(
        run: CampaignRun, batch: int, *, sender: str, lease: timedelta, limit: int, **_: Any
    ) -> list[Claimed]:
        with lock, writing() as connection:
            columns = [col(getattr(Message, name)) for name in Claimed.__slots__]
            mine = (*ledger.queued_of(run.id, batch), *ledger._claimable(run, now()))
            window = select(*columns).where(*mine, col(Message.id).not_in(taken)).limit(limit)
            rows = [dict(row) for row in connection.execute(window).mappings()]
            ids = [row["id"] for row in rows]
            owned = {"owner": sender, "attempt": col(Message.attempt) + 1}
            connection.execute(update(Message).where(col(Message.id).in_(ids)).values(**owned))
            taken.update(ids)
        if not rows:
            time.sleep(0.02)
        ends = now() + lease
        return [
            Claimed(**{**row, "attempt": row["attempt"] + 1, "lease_until": ends}) for row in rows
        ]

    def recorded(connection: Connection, sender: str, settled: Sequence[Settled]) -> None:
        ids = [item.id for item in settled]
        mine = (col(Message.id).in_(ids), col(Message.state) == ledger.QUEUED)
        connection.execute(update(Message).where(*mine).values(state=ledger.SENDING))
        record(connection, sender, settled)
        taken.difference_update(ids)

    ledger.claim, ledger.record = claim, recorded


def _no_lease() -> None:
    """Begin requests whenever the process happens to run, however old its claim is."""

    def always(self: sending._Batch) -> bool:
        return True

    sending._Batch._is_leased = always  # type: ignore[method-assign]


def _unknown_is_queued() -> None:
    """Take a request without a clear answer for one that failed."""
    meaning = settling._meaning

    def naive(answer: Answer) -> tuple[str, str]:
        return (ledger.QUEUED, "") if answer.outcome == "unknown" else meaning(answer)

    settling._meaning = naive


def _stranded_is_queued() -> None:
    """Take what a dead sender held for what it had not sent."""
    strand = doubts.strand

    def naive(run_id: str) -> int:
        stranded = strand(run_id)
        died: list[Any] = [
            col(Message.run_id) == run_id,
            col(Message.state) == ledger.IN_DOUBT,
            col(Message.reason) == "sender_died",
        ]
        with writing() as connection:
            connection.execute(update(Message).where(*died).values(state=ledger.QUEUED, reason=""))
        return stranded

    doubts.strand = naive


_MUTATIONS = {
    "claim": _no_claim,
    "lease": _no_lease,
    "unknown rule": _unknown_is_queued,
    "stranding": _stranded_is_queued,
}
NAMES = tuple(_MUTATIONS)
