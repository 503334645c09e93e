"""A sending process to be disturbed: what `sms resume` does after the approval, without Prefect.

And the process that reconciles beside it. Both mirror `flows/stages.py`. Not here: when they are
started and killed (`bare.py`).
"""

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import event

from adapters.gateways.base import Addresses, Answer, Finding, Outgoing, Suspect, Timeouts
from adapters.gateways.twilio import Twilio
from adapters.gateways.values import objects
from data import batches, database, doubts, ledger, runs
from data.settings import settings
from tasks import asking, deferring, sending
from tasks.reconciliation import reconcile
from tests.chaos import mutations
from tests.chaos.processes import SENDER, Controls, twilio


@dataclass(frozen=True, slots=True)
class Work:
    """What a sender has to know."""

    run_id: str
    gateway_url: str
    receiver_url: str
    in_flight: int
    witness: Path
    """Where the ids of requests without a clear answer are written down."""
    proves_absence: bool = False
    mutation: str = ""
    busy: float | None = None
    """Seconds to wait for SQLite's lock; None: as many as the product does."""


class Witnessed(Twilio):
    """The gateway, writing down which requests got no clear answer before anybody hears of it."""

    witness: Path

    async def submit(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Submit, and witness."""
        answers = await super().submit(messages)
        for answer in answers:
            if answer.outcome == "unknown":
                with self.witness.open("a") as file:
                    file.write(answer.id + "\n")
        return answers


class AskedByReference(Witnessed):
    """A gateway that can prove absence, once no request can come any more.

    What it finds is the sandbox's list by number: no two messages of a trial share one.
    """

    async def recover(self, suspects: Sequence[Suspect]) -> list[Finding]:
        """Look up, and say of what is nowhere that it is absent."""
        findings = await super().recover(suspects)
        found = {finding.id for finding in findings}
        ends = timedelta(seconds=self.timeouts.request)
        for suspect in suspects:
            if suspect.id not in found and suspect.lease_until + ends < datetime.now(UTC):
                query = urlencode({"To": suspect.to, "PageSize": "1000"})
                listed = await self.http.look_up(f"{self._account}/Messages.json?{query}")
                if listed is not None and not list(objects(listed.get("messages"))):
                    findings.append(Finding(suspect.id, "absent"))
        return findings


def gateway(work: Work) -> Twilio:
    """Make the gateway of a trial."""
    adapter = AskedByReference if work.proves_absence else Witnessed
    made = adapter(
        twilio(work.gateway_url),
        Addresses("sandbox", work.receiver_url),
        Timeouts(request=settings().request_timeout),
        settings().requests_in_flight,
    )
    made.witness = work.witness
    return made


def send(work: Work, controls: Controls) -> None:
    """Send a run to its end, or until it stops."""
    _obey(controls, work.busy)
    mutations.take_out(work.mutation)
    run = runs.get_run(work.run_id)
    if run.state in (runs.RECONCILING, runs.PAUSED):
        runs.move(run.id, runs.SENDING, note="")

    def make(_: str) -> Twilio:
        return gateway(work)

    asking.resolve_doubts(run.id, make)
    deferring.release(run)
    sending.put_aside(run)
    while True:
        _send_batches(work)
        state = runs.get_run(run.id).state
        if state == runs.RECONCILING and ledger.is_unsent(run.id):
            runs.move(run.id, runs.SENDING)
            continue
        if state != runs.SENDING:
            return
        doubts.strand(run.id)
        if ledger.is_unsent(run.id):
            time.sleep(0.05)
            continue
        asking.resolve_doubts(run.id, make)
        if not ledger.is_unsent(run.id):
            break
    runs.all_sent(run.id)


def help_to_send(work: Work, controls: Controls) -> None:
    """Send batches of a run until there is none left, as `flows/send_shard.py` does."""
    _obey(controls, work.busy)
    _send_batches(work)


def _send_batches(work: Work) -> None:
    running: set[Future[Any]] = set()
    with ThreadPoolExecutor(work.in_flight) as pool:
        while True:
            free = len(running) < work.in_flight
            sends = runs.get_run(work.run_id).state == runs.SENDING
            if free and sends and (held := batches.take(work.run_id)):
                running.add(pool.submit(sending.send_batch, held, lambda _: gateway(work)))
                continue
            if not running:
                return
            done, running = wait(running, timeout=0.05, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()


def reconcile_for_ever(run_id: str) -> None:
    """Reconcile again and again, as the deployment does every two minutes."""
    while True:
        try:
            reconcile(lambda _: None, run_ids=[run_id])
        except database.UNAVAILABLE as error:
            sys.stderr.write(f"reconciling: {error}\n")
        time.sleep(0.1)


def _obey(controls: Controls, busy: float | None) -> None:
    """Let the shared memory set this process's clock and fill its disk."""
    os.environ["PGAPPNAME"] = SENDER
    real = time.time

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=controls.clock_offset)

    time.time = lambda: real() + controls.clock_offset
    database.datetime = Clock  # type: ignore[attr-defined]
    if busy is not None:
        database._BUSY_SECONDS = busy  # type: ignore[assignment]
    database._engine.cache_clear()
    engine = database.engine()
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "checkout")
        def limit(connection: Any, *_: Any) -> None:
            # 1 means: not one page more than there are. SQLite answers "database or disk is full".
            connection.execute(f"PRAGMA max_page_count = {1 if controls.disk_is_full else 2**30}")
