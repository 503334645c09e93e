"""Gathering the evidence of a trial: from the gateway's journal and from the ledger.

The same for every kind of trial. Not here: what is concluded from it (`judge.py`).
"""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
from sqlalchemy import func, select
from sqlmodel import col

from adapters.gateways.base import Gateway
from data import consent_ledger, ledger, results, runs
from data.database import UNAVAILABLE, now, reading, writing
from data.errors import SmsError
from data.tables import CampaignRun, Message, Result
from tasks import reconciliation
from tests import plans
from tests.chaos.judge import Evidence

FINAL = ("delivered", "undelivered", "failed")
"""The statuses with which the sandbox ends a message."""
_LATER = reconciliation.POLL_AFTER + timedelta(seconds=10)
_DAYS_LATER = timedelta(days=4)


class Observer:
    """Looks at one run from outside while it is disturbed, and afterwards."""

    def __init__(self, run: CampaignRun, planned: Collection[str], window: float) -> None:
        self.run = run
        self.planned = planned
        self.window = window
        self.in_flight: set[str] = set()
        self.unclear = 0
        self.doubted: set[str] = set()
        self.opted_out: dict[str, float] = {}
        self.cancelled_at: float | None = None
        self.problems: list[str] = []

    def look(self, process: int | None = None) -> int:
        """Note what is being sent now, by anybody or by one process; return how many.

        Nothing is noted while the database is away.
        """
        held = select(col(Message.id)).where(col(Message.run_id) == self.run.id)
        sending = col(Message.state) == ledger.SENDING
        if process is None:
            held = held.where(sending)
        else:
            # What it held may have been stranded by another sender since it was killed.
            stranded = col(Message.reason) == "sender_died"
            held = held.where(col(Message.owner).contains(f"|{process}|"), sending | stranded)
        with suppress(*UNAVAILABLE), reading() as connection:
            ids = connection.execute(held).scalars().all()
            self.in_flight.update(ids)
            return len(ids)
        return 0

    def claimed(self) -> bool:
        """Whether any message of the run was ever claimed."""
        first = select(col(Message.id)).where(
            col(Message.run_id) == self.run.id, col(Message.attempt) > 0
        )
        with reading() as connection:
            return connection.execute(first.limit(1)).first() is not None

    def state(self) -> str:
        """The state of the run."""
        return runs.get_run(self.run.id).state

    def opt_out(self, share: float) -> None:
        """Let a share of the people opt out, those first who would be sent it last."""
        count = max(1, int(share * len(self.planned)))
        people = sorted(self.planned)[-count:]
        frame = pd.DataFrame(
            {
                "type": "opt_out",
                "recipient": people,
                "scope": "*",
                "basis": "",
                "occurred_at": pd.Timestamp(now()),
                "source": "chaos",
                "method": "reply",
            }
        )
        with writing() as connection:
            consent_ledger.append(connection, frame)
        self.opted_out |= dict.fromkeys(people, time.time())

    def doubt(self) -> set[str]:
        """The ids in doubt now."""
        in_doubt = select(col(Message.id)).where(
            col(Message.run_id) == self.run.id, col(Message.state) == ledger.IN_DOUBT
        )
        with reading() as connection:
            return set(connection.execute(in_doubt).scalars())

    def conclude(
        self, journal: Path, offset: int, gateway_of: Callable[[str], Gateway | None]
    ) -> Evidence:
        """Reconcile, poll, let the time for reports pass, and put together what there is to see.

        Everybody who sends must have ended, and every report must have been handed over.
        """
        self._reconcile(lambda _: None)
        if _unsettled(self.run):
            self._reconcile(gateway_of, _LATER)
        messages = plans.messages(self.run)
        listed = self._listed()
        self._reconcile(lambda _: None, _DAYS_LATER)
        self._account()
        entries, reported, finally_reported = _read(journal, offset)
        return Evidence(
            planned=self.planned,
            messages=messages,
            ended={key: message.state for key, message in plans.messages(self.run).items()},
            journal=entries,
            reported=reported,
            finally_reported=finally_reported,
            in_flight=self.in_flight,
            unclear=self.unclear,
            doubted=self.doubted,
            listed=listed,
            opted_out=self.opted_out,
            cancelled_at=self.cancelled_at,
            window=self.window,
            problems=self.problems,
        )

    def _reconcile(
        self, gateway_of: Callable[[str], Gateway | None], later: timedelta = timedelta()
    ) -> None:
        done = reconciliation.reconcile(gateway_of, run_ids=[self.run.id], now=now() + later)
        # Without a gateway nobody is polled, and that is said each time.
        self.problems += [problem for problem in done.problems if "not polled" not in problem]

    def _listed(self) -> int:
        in_doubt = (col(Result.run_id) == self.run.id, col(Result.outcome) == ledger.IN_DOUBT)
        with reading() as connection:
            count = connection.execute(select(func.count()).select_from(Result).where(*in_doubt))
            return int(count.scalar_one())

    def _account(self) -> None:
        state = self.state()
        if state not in (runs.FINISHED, runs.CANCELLED):
            self.problems.append(f"the run is {state} when everything about it is known")
        try:
            with reading() as connection:
                results.check(connection, self.run.id)
        except SmsError as error:
            self.problems.append(str(error))
        # A cancelled run is looked after for a week: a thousand trials need not wait for that.
        runs.store(self.run.id, finished_at=now() - timedelta(days=30))


def _unsettled(run: CampaignRun) -> bool:
    return any(
        message.state == ledger.ACCEPTED and message.status not in FINAL
        for message in plans.messages(run).values()
    )


def _read(journal: Path, offset: int) -> tuple[list[dict[str, Any]], set[str], set[str]]:
    """Return what was accepted, and the recipients with an acknowledged and a final report."""
    with journal.open("rb") as file:
        file.seek(offset)
        lines = [orjson.loads(line) for line in file if line.endswith(b"\n")]
    accepted = [line for line in lines if "body" in line]
    recipients = {line["sid"]: line["to"] for line in accepted}
    handed = [line for line in lines if line.get("handed_over") and line["sid"] in recipients]
    return (
        accepted,
        {recipients[line["sid"]] for line in handed},
        {recipients[line["sid"]] for line in handed if line["status"] in FINAL},
    )
