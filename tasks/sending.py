"""The send loop: pace, claim, submit, record, one window after the other.

Policy only: what an answer means for a message and its run. Statements are in `data.ledger`, wire
formats in the adapters. Does not import Prefect; `flows` gives the batches their names there.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pandas as pd

from adapters.gateways.base import UNREACHABLE, Answer, ErrorClass, Gateway, Outgoing, Suspect
from data import batches, consent_ledger, doubts, ledger, pace, runs
from data.batches import Held
from data.database import PATIENCE, UNAVAILABLE, clock, now, patiently, writing
from data.ledger import Claimed, Queue, Settled
from data.privacy import impersonal
from data.senders import this_sender
from data.settings import settings
from data.tables import CampaignRun, Message
from tasks.consent import hours
from tasks.pacing import Pacer

try:
    from uvloop import new_event_loop
except ImportError:  # there is none for Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

WINDOW_MESSAGES = 500
LEAD_SECONDS = 0.2
"""A window is claimed so long before its first slot, so that the claim does not eat the slot."""
STAY_SECONDS = 5.0
"""A batch whose messages all wait longer for their retry is given back."""
DOUBTS_ASKED = 1_000
"""Messages in doubt that are asked about at one time."""
GIVE_UP_SECONDS = 300.0
"""How long a gateway may be unreachable, with nothing accepted, before the run is paused."""
CONTENT_STOP = 20
"""So many refusals of the text or sender, with nothing accepted, stop the run: all would fail."""

halted: set[str] = set()
"""Runs that this process is to send no further window of; it is about to end."""

_NOT_STARTED = "not_started"
MakeGateway = Callable[[], Gateway]


@dataclass
class Tally:
    """What became of the messages of one batch in this call."""

    counts: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    """Why the batch ended before its messages did; empty when it ran to its end."""


@impersonal
def send_batch(held: Held, make_gateway: MakeGateway) -> Tally:
    """Send what is queued of a batch that was taken; safe to call again at any time.

    Returns, with the batch given back, when nothing of it can go soon, or the run is no longer
    sending. The pace is that of the lane of the run's gateway and sender (`data.pace.set_rate`).
    """
    run = runs.get_run(held.run_id)
    _freeze_memory()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        tally = runner.run(_Batch(run, held).send(make_gateway()))
    batches.give_back(held)
    return tally


@cache
def _freeze_memory() -> None:
    # A collection that walks all that was imported takes a tenth of a second, out of every slot.
    gc.freeze()


class _Batch:
    """One batch while it is being sent."""

    def __init__(self, run: CampaignRun, held: Held) -> None:
        self.run = run
        self.held = held
        # Of this call alone: what it claimed and does not know of was never submitted.
        self.sender = this_sender()
        self.lease = timedelta(seconds=settings().lease_seconds)
        self.lane = pace.lane_of(run.gateway, run.sender)
        self.pacer = Pacer(self.lane)
        self.tally = Tally()
        self.progress_at = time.monotonic()
        self.slots = asyncio.Semaphore(settings().requests_in_flight)

    async def send(self, gateway: Gateway) -> Tally:
        self.by_segments = gateway.capabilities.rate_unit == "segments"
        async with gateway:
            while not self.tally.stopped and await self._stored(self._goes_on):
                queue = await self._stored(lambda: ledger.queued(self.run.id, self.held.batch))
                if not queue.ready:
                    if not await self._wait_for_retry():
                        break
                elif await self._reserve(queue) and (claimed := await self._claim()):
                    await self._send_window(gateway, claimed)
        return self.tally

    def _goes_on(self) -> bool:
        if self.run.id in halted:
            self.tally.stopped = "its process was told to end"
            return False
        state = runs.get_run(self.run.id).state
        if state != runs.SENDING:
            self.tally.stopped = f"the run is {state}"
        return state == runs.SENDING

    async def _wait_for_retry(self) -> bool:
        """Sit out a short delay of the gateway's; False: others may have the batch meanwhile."""
        again = ledger.next_retry(self.run.id, self.held.batch)
        wait = STAY_SECONDS + 1 if again is None else (again - now()).total_seconds()
        if wait > STAY_SECONDS:
            return False
        # Looked at every second, so that a pause is not slept through.
        await asyncio.sleep(min(1.0, max(0.05, wait)))
        return True

    async def _reserve(self, queue: Queue) -> bool:
        """Reserve the pace of a window of what is queued; False: the lane is full at present."""
        each = queue.segments / queue.ready if self.by_segments else 1.0
        rate = await self._stored(lambda: pace.rate_of(self.lane))
        self.size = min(queue.ready, WINDOW_MESSAGES, max(1, int(rate * pace.WINDOW / each)))
        try:
            return await self.pacer.reserve(self.size * each)
        except UNAVAILABLE:
            await asyncio.sleep(0.5)
            return False

    async def _claim(self) -> list[Claimed]:
        """Claim as much as was reserved, when its time has nearly come."""
        await asyncio.sleep(self.pacer.starts_at - LEAD_SECONDS - time.monotonic())
        self.claimed_at = time.monotonic()
        try:
            claimed = ledger.claim(
                self.run, self.held.batch, sender=self.sender, lease=self.lease, limit=self.size
            )
        except UNAVAILABLE:
            # It may have been committed all the same; nothing of it has been submitted.
            await self._stored(lambda: ledger.unclaim(self.sender))
            return []
        if not claimed:
            # They were opted out, or their hours ended, since they were planned.
            put_aside(self.run, self.held.batch)
        return claimed

    async def _send_window(self, gateway: Gateway, claimed: Sequence[Claimed]) -> None:
        """Submit a claimed window, spaced at the lane's rate, and record every answer."""
        answers = await self._submit_all(gateway, claimed)
        attempts = {message.id: message for message in claimed}
        opted_out = [a for a in answers if a.error_class is ErrorClass.OPTOUT]

        def store() -> tuple[list[Settled], bool]:
            with writing() as connection:
                at = clock(connection)
                settled = [self._settle(answer, attempts[answer.id], at) for answer in answers]
                ledger.record(connection, self.sender, settled)
                if opted_out:
                    numbers = [attempts[answer.id].recipient for answer in opted_out]
                    consent_ledger.append(connection, gateway_opt_outs(numbers, self.run.gateway))
                return settled, batches.renew(connection, self.held)

        settled, goes_on = await self._stored(store)
        if not goes_on:
            self.tally.stopped = "another sender has taken the batch"
        self.tally.counts.update(item.state for item in settled)
        self._judge(answers)

    async def _submit_all(self, gateway: Gateway, claimed: Sequence[Claimed]) -> list[Answer]:
        units = [float(m.segments) if self.by_segments else 1.0 for m in claimed]
        rest = sum(units)
        requests: list[asyncio.Task[Answer]] = []
        leaves = True
        for message, own in zip(claimed, units, strict=True):
            # A slot first: waiting for one would spend the time that was reserved.
            await self.slots.acquire()
            leaves = leaves and await self._turn(own, rest)
            rest -= own
            submitting = self._submit(gateway, message, leaves)
            requests.append(asyncio.create_task(submitting))
        return await asyncio.gather(*requests)

    async def _turn(self, own: float, rest: float) -> bool:
        """Wait for a message's slot; False where it, and those after it, must not leave now."""
        try:
            return await self.pacer.turn(own, rest, self._in_time)
        except UNAVAILABLE:
            # The rest goes back to the queue with the answers, when the database is there again.
            return False

    async def _submit(self, gateway: Gateway, message: Claimed, leaves: bool) -> Answer:
        try:
            outgoing = self._outgoing(message)
            closed = outgoing.deadline is not None and outgoing.deadline <= now()
            if not leaves or closed or not self._is_leased():
                return _not_started(message.id)
            (answer,) = await gateway.submit([outgoing])
            return answer
        finally:
            self.slots.release()

    def _in_time(self) -> bool:
        return self._is_leased() and self._goes_on()

    def _is_leased(self) -> bool:
        """Whether a request may begin: its answer must come before the lease ends.

        By the monotonic clock, counted from before the claim: the other one may be set.
        """
        spent = time.monotonic() - self.claimed_at
        return spent < self.lease.total_seconds() - settings().request_timeout

    async def _stored(self, write: Callable[[], Any]) -> Any:
        """Read or write in spite of a database that is away: answers are known here alone."""
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                return write()
            except UNAVAILABLE:
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(0.5)

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

    def _settle(self, answer: Answer, message: Claimed, at: datetime) -> Settled:
        """Say what an answer means for its message. `at` is the present."""
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
            retry_at=at + timedelta(seconds=delay) if state == ledger.QUEUED else None,
            segments=answer.segments,
            price=None if answer.price is None else format(answer.price, "f"),
            currency=answer.currency,
        )

    def _judge(self, answers: Sequence[Answer]) -> None:
        """Stop the run where going on could only make it worse."""
        if any(answer.outcome == "accepted" for answer in answers):
            self.progress_at = time.monotonic()
            return
        self._slow_down(answers)
        account = [a for a in answers if a.error_class is ErrorClass.ACCOUNT]
        content = [a for a in answers if a.error_class is ErrorClass.CONTENT]
        unreachable = [a for a in answers if a.error_code == UNREACHABLE]
        if account:
            self._stop(account[0], "cannot send from this account")
        elif len(content) == len(answers) and self._nothing_but_content():
            self._stop(content[0], "refuses this text or sender for everybody")
        elif unreachable and time.monotonic() - self.progress_at > GIVE_UP_SECONDS:
            self._stop(unreachable[0], "cannot be reached")

    def _slow_down(self, answers: Sequence[Answer]) -> None:
        """Hold the lane where a whole window was throttled: the others would be, too."""
        delays = [a.retry_after for a in answers if a.retry_after and a.error_code != _NOT_STARTED]
        if delays and len(delays) == len(answers):
            pace.hold(self.lane, min(delays))

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


@impersonal
def put_aside(run: CampaignRun, batch: int | None = None) -> None:
    """Settle what can no longer be claimed, and defer what lies outside its hours."""
    ended = patiently(lambda: ledger.put_aside(run, batch))
    if not ended:
        return
    # A window takes a second to leave: what closes within it is closed.
    at = now() + timedelta(seconds=pace.WINDOW)
    openings = {
        (country, zones): hours(country, zones, purpose=run.purpose, at=at, not_after=run.not_after)
        for country, zones in ended
    }
    patiently(lambda: ledger.defer(run, openings))


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


@impersonal
def resolve_doubts(run_id: str, make_gateway: MakeGateway) -> Counter[str]:
    """Ask the gateway about everything in doubt; return how many were accepted, absent, open.

    What it cannot say stays in doubt until a delivery report settles it. Nothing is sent.
    """
    # Two processes that do this at one time may lock each other out: the database ends one of them.
    patiently(lambda: doubts.strand(run_id))
    tally: Counter[str] = Counter()
    after = ""
    while page := doubts.doubted(run_id, after, DOUBTS_ASKED):
        tally.update(_ask_about(page, make_gateway()))
        after = page[-1].id
    return tally


def _ask_about(messages: Sequence[Message], gateway: Gateway) -> Counter[str]:
    known = doubts.known_ids({message.number_key for message in messages})
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
        for message in messages
    ]

    async def ask() -> dict[str, tuple[str, str | None]]:
        async with gateway:
            findings = await gateway.recover(suspects)
        return {found.id: (found.outcome, found.gateway_message_id) for found in findings}

    found = asyncio.run(ask())
    accepted = {key: gid for key, (outcome, gid) in found.items() if outcome == "accepted"}
    absent = [key for key, (outcome, _) in found.items() if outcome == "absent"]
    patiently(lambda: doubts.settle(accepted, absent))
    return Counter(accepted=len(accepted), absent=len(absent), open=len(suspects) - len(found))
