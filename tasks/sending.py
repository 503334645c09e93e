"""The send loop: pace, claim, submit, record, one window after the other.

Policy only: what an answer means for a message and its run. Statements are in `data.ledger`, wire
formats in the adapters. Does not import Prefect; `flows` gives the batches their names there.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pandas as pd

from adapters.gateways.base import UNREACHABLE, Answer, ErrorClass, Gateway, Outgoing, Suspect
from data import consent_ledger, doubts, ledger, pace, runs
from data.database import now, writing
from data.ledger import Claimed, Settled
from data.senders import this_sender
from data.settings import settings
from data.tables import CampaignRun
from tasks.consent import hours

try:
    from uvloop import new_event_loop
except ImportError:  # there is none for Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

WINDOW_MESSAGES = 500
WINDOW_SECONDS = 1.0
GIVE_UP_SECONDS = 300.0
"""How long a gateway may be unreachable, with nothing accepted, before the run is paused."""
CONTENT_STOP = 20
"""So many refusals of the text or sender, with nothing accepted, stop the run: all would fail."""

_NOT_STARTED = "not_started"
MakeGateway = Callable[[], Gateway]


@dataclass
class Tally:
    """What became of the messages of one batch in this call."""

    counts: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    """Why the batch ended before its messages did; empty when it ran to its end."""


def send_batch(run_id: str, batch: int, make_gateway: MakeGateway, rate: float) -> Tally:
    """Send what is queued of one batch; safe to call again at any time, for any reason.

    `rate` is in messages a second, shared through the ledger by all senders of the run's gateway
    and sender. Returns when the batch is empty, or the run is no longer sending.
    """
    run = runs.get_run(run_id)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_Batch(run, batch, rate).send(make_gateway()))


class _Batch:
    """One batch while it is being sent."""

    def __init__(self, run: CampaignRun, batch: int, rate: float) -> None:
        self.run = run
        self.batch = batch
        self.rate = rate
        self.sender = this_sender()
        self.lease = timedelta(seconds=settings().lease_seconds)
        self.tally = Tally()
        self.progress_at = time.monotonic()
        self.slots = asyncio.Semaphore(settings().requests_in_flight)

    async def send(self, gateway: Gateway) -> Tally:
        async with gateway:
            while not self.tally.stopped:
                waiting, ready = ledger.queued(self.run.id, self.batch)
                if not waiting:
                    break
                claimed = await self._next_window(ready) if ready else []
                if claimed:
                    await self._send_window(gateway, claimed)
                elif not await self._why_nothing():
                    break
        return self.tally

    async def _next_window(self, ready: int) -> list[Claimed]:
        """Reserve pace, wait for it, and claim as much as was reserved."""
        size = min(ready, WINDOW_MESSAGES, max(1, int(self.rate * WINDOW_SECONDS)))
        lane = f"{self.run.gateway}|{self.run.sender}"
        self.starts_at = pace.reserve(lane, size, self.rate, time.time())
        await _sleep_until(self.starts_at)
        return ledger.claim(self.run, self.batch, sender=self.sender, lease=self.lease, limit=size)

    async def _why_nothing(self) -> bool:
        """Sort out a claim that found nothing; return whether to try again."""
        state = runs.get_run(self.run.id).state
        if state != runs.SENDING:
            self.tally.stopped = f"the run is {state}"
            return False
        put_aside(self.run, self.batch)
        again = ledger.next_retry(self.run.id, self.batch)
        if again is not None:
            # Looked at every second, so that a pause or an opt-out is not slept through.
            await asyncio.sleep(min(1.0, max(0.05, (again - now()).total_seconds())))
        return True

    async def _send_window(self, gateway: Gateway, claimed: Sequence[Claimed]) -> None:
        """Submit a claimed window, spaced at the lane's rate, and record every answer."""
        # No request may start so late that its answer could come after the lease.
        lease_ends = min(message.lease_until for message in claimed)
        last_start = lease_ends.timestamp() - settings().request_timeout
        answers = await asyncio.gather(
            *(
                self._submit(gateway, message, self.starts_at + place / self.rate, last_start)
                for place, message in enumerate(claimed)
            )
        )
        attempts = {message.id: message for message in claimed}
        settled = [self._settle(answer, attempts[answer.id]) for answer in answers]
        opted_out = [a for a in answers if a.error_class is ErrorClass.OPTOUT]
        with writing() as connection:
            ledger.record(connection, self.sender, settled)
            if opted_out:
                numbers = [attempts[answer.id].recipient for answer in opted_out]
                consent_ledger.append(connection, gateway_opt_outs(numbers, self.run.gateway))
        self.tally.counts.update(item.state for item in settled)
        self._judge(answers)

    async def _submit(
        self, gateway: Gateway, message: Claimed, at: float, last_start: float
    ) -> Answer:
        await _sleep_until(at)
        # Waiting for a slot counts against the lease, so the clock is read after it.
        async with self.slots:
            outgoing = self._outgoing(message)
            too_late = outgoing.deadline is not None and outgoing.deadline <= now()
            if too_late or time.time() > last_start:
                return _not_started(message.id)
            (answer,) = await gateway.submit([outgoing])
        return answer

    def _outgoing(self, message: Claimed) -> Outgoing:
        ends = [instant for instant in (self.run.not_after, message.closes_at) if instant]
        return Outgoing(
            id=message.id,
            to=message.recipient,
            text=message.text,
            sender=message.sender,
            encoding=message.encoding,
            segments=message.segments,
            deadline=min(ends, default=None),
        )

    def _settle(self, answer: Answer, message: Claimed) -> Settled:
        """Say what an answer means for its message."""
        state, reason = _meaning(answer)
        delay = answer.retry_after
        if delay is None:
            delay = min(30.0, 0.5 * 2 ** min(message.attempt, 6))
        return Settled(
            id=message.id,
            attempt=message.attempt,
            state=state,
            reason=reason,
            gateway_message_id=answer.gateway_message_id,
            error_code=answer.error_code,
            retry_at=now() + timedelta(seconds=delay) if state == ledger.QUEUED else None,
            segments=answer.segments,
            price=None if answer.price is None else format(answer.price, "f"),
            currency=answer.currency,
        )

    def _judge(self, answers: Sequence[Answer]) -> None:
        """Stop the run where going on could only make it worse."""
        if any(answer.outcome == "accepted" for answer in answers):
            self.progress_at = time.monotonic()
            return
        account = [a for a in answers if a.error_class is ErrorClass.ACCOUNT]
        content = [a for a in answers if a.error_class is ErrorClass.CONTENT]
        unreachable = [a for a in answers if a.error_code == UNREACHABLE]
        if account:
            self._stop(account[0], "cannot send from this account")
        elif len(content) == len(answers) and self._nothing_but_content():
            self._stop(content[0], "refuses this text or sender for everybody")
        elif unreachable and time.monotonic() - self.progress_at > GIVE_UP_SECONDS:
            self._stop(unreachable[0], "cannot be reached")

    def _nothing_but_content(self) -> bool:
        counts = self.tally.counts
        return counts["rejected"] >= CONTENT_STOP and not counts[ledger.ACCEPTED]

    def _stop(self, answer: Answer, what: str) -> None:
        said = f"{answer.error_code or ''} {answer.error_text}".strip()
        note = (
            f"the gateway {self.run.gateway} {what} ({said}): mend it,"
            f" then run `sms resume {self.run.id}`"
        )
        runs.move(self.run.id, runs.PAUSED, note=note)
        self.tally.stopped = note


def _not_started(message_id: str) -> Answer:
    return Answer(
        message_id,
        "refused",
        error_class=ErrorClass.RETRY,
        error_code=_NOT_STARTED,
        retry_after=0,
    )


def _meaning(answer: Answer) -> tuple[str, str]:
    """The state and reason that an answer puts its message in."""
    if answer.outcome == "accepted":
        return ledger.ACCEPTED, ""
    if answer.outcome == "unknown":
        return ledger.IN_DOUBT, "no_clear_answer"
    code = f"gateway_{answer.error_code}" if answer.error_code else "gateway_refused"
    match answer.error_class:
        case ErrorClass.RETRY | ErrorClass.ACCOUNT:
            return ledger.QUEUED, code
        case ErrorClass.OPTOUT:
            return "suppressed", "gateway_opted_out"
        case _:
            return "rejected", code


async def _sleep_until(instant: float) -> None:
    wait = instant - time.time()
    if wait > 0:
        await asyncio.sleep(wait)


def put_aside(run: CampaignRun, batch: int | None = None) -> None:
    """Settle what can no longer be claimed, and defer what lies outside its hours."""
    ended = ledger.put_aside(run, batch)
    if not ended:
        return
    # A window takes a second to leave: what closes within it is closed.
    at = now() + timedelta(seconds=WINDOW_SECONDS)
    openings = {
        (country, zones): hours(country, zones, purpose=run.purpose, at=at, not_after=run.not_after)
        for country, zones in ended
    }
    ledger.defer(run, openings)


def gateway_opt_outs(numbers: Sequence[str], gateway: str) -> pd.DataFrame:
    """Opt-outs that a gateway told us of, as consent events."""
    return pd.DataFrame(
        {
            "type": "opt_out",
            "recipient": list(numbers),
            "scope": "*",
            "basis": "",
            "occurred_at": pd.Timestamp(datetime.now(UTC)),
            "source": f"gateway {gateway}",
            "method": "gateway_block",
        }
    )


def resolve_doubts(run_id: str, make_gateway: MakeGateway) -> Counter[str]:
    """Ask the gateway about everything in doubt; return how many were accepted, absent, open.

    What it cannot say stays in doubt until a delivery report settles it. Nothing is sent.
    """
    doubts.strand(run_id)
    open_ones = doubts.doubted(run_id)
    if not open_ones:
        return Counter()
    known = doubts.known_ids({message.number_key for message in open_ones})
    suspects = [
        Suspect(
            id=message.id,
            to=message.recipient,
            text=message.text,
            sender=message.sender,
            submitted_after=message.submitted_at or now(),
            lease_until=message.lease_until or now(),
            known=known.get(message.number_key, frozenset()),
        )
        for message in open_ones
    ]
    gateway = make_gateway()

    async def ask() -> dict[str, tuple[str, str | None]]:
        async with gateway:
            findings = await gateway.recover(suspects)
        return {found.id: (found.outcome, found.gateway_message_id) for found in findings}

    found = asyncio.run(ask())
    accepted = {key: gid for key, (outcome, gid) in found.items() if outcome == "accepted"}
    absent = [key for key, (outcome, _) in found.items() if outcome == "absent"]
    doubts.settle(accepted, absent)
    return Counter(accepted=len(accepted), absent=len(absent), open=len(suspects) - len(found))
