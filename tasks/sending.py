"""The send loop: pace, claim, submit, record, one window after the other.

Policy only, and what answers mean for a run; for a message it is said in `settling`. Statements are
in `data.ledger`, wire formats in the adapters. Does not import Prefect.
"""

import asyncio
import gc
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from adapters.gateways.base import Answer, ErrorClass, Gateway, Outgoing
from data import batches, consent_ledger, deliveries, ledger, pace, runs, switches
from data.batches import Held
from data.database import PATIENCE, UNAVAILABLE, clock, now, patiently, writing
from data.ledger import Claimed, Queue, Settled
from data.privacy import impersonal
from data.senders import this_sender
from data.settings import settings
from data.tables import CampaignRun
from tasks import judging, routing
from tasks.deferring import put_aside
from tasks.grouping import groups
from tasks.pacing import Pacer
from tasks.settling import NOT_STARTED, gateway_opt_outs, not_started, part_events, settle

try:
    from uvloop import new_event_loop
except ImportError:  # there is none for Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

WINDOW_MESSAGES = 500
LEAD_SECONDS = 0.2
"""A window is claimed so long before its first slot, so that the claim does not eat the slot."""
STAY_SECONDS = 5.0
"""A batch whose messages all wait longer for their retry is given back."""
halted: set[str] = set()
"""Runs that this process is to send no further window of; it is about to end."""

MakeGateway = Callable[[str], Gateway]
"""Makes a gateway from its name."""


@dataclass
class Tally:
    """What became of the messages of one batch in this call."""

    counts: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    """Why the batch ended before its messages did; empty when it ran to its end."""
    switched: list[str] = field(default_factory=list)
    """Gateways that were taken out meanwhile, and why."""


@impersonal
def send_batch(held: Held, make_gateway: MakeGateway) -> Tally:
    """Send what is queued of a batch that was taken; safe to call again at any time.

    Returns, with the batch given back, when nothing of it can go soon, or the run is no longer
    sending. The pace is that of the lanes of the run's gateways (`data.pace.set_rate`).
    """
    run = runs.get_run(held.run_id)
    tally = Tally()
    tried: set[str] = set()
    _freeze_memory()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            while not tally.stopped and (gateway := _next_gateway(run, held, tried, tally)):
                tried.add(gateway)
                batch = _Batch(run, held, gateway, tally)
                runner.run(batch.send(make_gateway(gateway)))
                if batch.switched:
                    tried = {gateway}
    finally:
        patiently(lambda: batches.give_back(held))
    return tally


def _next_gateway(run: CampaignRun, held: Held, tried: set[str], tally: Tally) -> str | None:
    """Return a gateway that messages of a batch wait for; those that are out have been left."""
    for moved in (False, True):
        waiting = patiently(lambda: switches.waiting_gateway(run.id, held.batch, tried))
        if waiting is None or waiting not in switches.out(run.id):
            return waiting
        if not moved:
            patiently(lambda: routing.move_waiting(run))
    # It was the last one of its route, and gave some back after it was taken out.
    tally.stopped = f"no gateway of the route {run.gateway} is left for some messages"
    _pause(run, f"{tally.stopped}: mend one, then run `sms resume {run.id}`")
    return None


def _pause(run: CampaignRun, note: str) -> None:
    with suppress(runs.RunError):  # somebody has ended it meanwhile
        runs.move(run.id, runs.PAUSED, note=note)


@cache
def _freeze_memory() -> None:
    # A collection that walks all that was imported takes a tenth of a second, out of every slot.
    gc.freeze()


class _Batch:
    """What one gateway sends of a batch, while it does."""

    def __init__(self, run: CampaignRun, held: Held, gateway: str, tally: Tally) -> None:
        self.run = run
        self.held = held
        self.gateway = gateway
        self.switched = False
        """Whether the gateway was taken out, and others send what is left."""
        # Of this call alone: what it claimed and does not know of was never submitted.
        self.sender = this_sender()
        self.lease = timedelta(seconds=settings().lease_seconds)
        self.lane = pace.lane_of(gateway, routing.route_of(run).senders.get(gateway, run.sender))
        self.pacer = Pacer(self.lane)
        self.tally = tally
        self.slots = asyncio.Semaphore(settings().requests_in_flight)

    async def send(self, gateway: Gateway) -> None:
        self.can = gateway.capabilities
        self.by_segments = self.can.rate_unit == "segments"
        async with gateway:
            while not self.switched and not self.tally.stopped:
                if not await self._stored(self._goes_on):
                    break
                queue = await self._stored(
                    lambda: ledger.queued(self.run.id, self.held.batch, self.gateway)
                )
                if not queue.ready:
                    if not await self._wait_for_retry():
                        break
                elif await self._reserve(queue) and (claimed := await self._claim()):
                    await self._send_window(gateway, claimed)

    def _goes_on(self) -> bool:
        if self.run.id in halted:
            self.tally.stopped = "its process was told to end"
            return False
        state = runs.get_run(self.run.id).state
        if state != runs.SENDING:
            self.tally.stopped = f"the run is {state}"
        elif self.gateway in switches.out(self.run.id):
            self.switched = True
            return False
        return state == runs.SENDING

    async def _wait_for_retry(self) -> bool:
        """Sit out a short delay of the gateway's; False: others may have the batch meanwhile."""
        again = ledger.next_retry(self.run.id, self.held.batch, self.gateway)
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
                self.run,
                self.held.batch,
                gateway=self.gateway,
                sender=self.sender,
                lease=self.lease,
                limit=self.size,
                submission=secrets.token_hex(16) if self.can.reference == "submission" else None,
            )
        except UNAVAILABLE:
            # It may have been committed all the same; nothing of it has been submitted.
            await self._stored(lambda: ledger.unclaim(self.sender))
            return []
        if not claimed:
            # They opted out since they were planned, their hours ended, a cap is full, …
            put_aside(self.run, self.held.batch)
        return claimed

    async def _send_window(self, gateway: Gateway, claimed: Sequence[Claimed]) -> None:
        """Submit a claimed window, spaced at the lane's rate, and record every answer."""
        requests = await self._submit_all(gateway, claimed)
        answers = [answer for request in requests for answer in request]
        attempts = {message.id: message for message in claimed}
        opted_out = [a for a in answers if a.error_class is ErrorClass.OPTOUT]

        def store() -> tuple[list[Settled], bool]:
            with writing() as connection:
                at = clock(connection)
                settled = [settle(answer, attempts[answer.id], at) for answer in answers]
                ledger.record(connection, self.sender, settled)
                deliveries.append(connection, part_events(answers, self.gateway, at))
                if opted_out:
                    numbers = [attempts[answer.id].recipient for answer in opted_out]
                    consent_ledger.append(connection, gateway_opt_outs(numbers, self.gateway))
                return settled, batches.renew(connection, self.held)

        settled, goes_on = await self._stored(store)
        if not goes_on:
            self.tally.stopped = "another sender has taken the batch"
        self.tally.counts.update(item.state for item in settled)
        self._slow_down(answers)
        self._judge(requests)

    async def _submit_all(self, gateway: Gateway, claimed: Sequence[Claimed]) -> list[list[Answer]]:
        """Submit a window; return the answers to each of its requests."""
        outgoing = [self._outgoing(message) for message in claimed]
        rest = self._units(outgoing)
        requests: list[asyncio.Task[list[Answer]]] = []
        leaves = True
        for group in groups(outgoing, self.can):
            # A slot first: waiting for one would spend the time that was reserved.
            await self.slots.acquire()
            own = self._units(group)
            leaves = leaves and await self._turn(own, rest)
            rest -= own
            requests.append(asyncio.create_task(self._submit(gateway, group, leaves)))
        return await asyncio.gather(*requests)

    def _units(self, messages: Sequence[Outgoing]) -> float:
        """What messages take of the lane."""
        return float(sum(m.segments for m in messages) if self.by_segments else len(messages))

    async def _turn(self, own: float, rest: float) -> bool:
        """Wait for a message's slot; False where it, and those after it, must not leave now."""
        try:
            return await self.pacer.turn(own, rest, self._in_time)
        except UNAVAILABLE:
            # The rest goes back to the queue with the answers, when the database is there again.
            return False

    async def _submit(
        self, gateway: Gateway, group: Sequence[Outgoing], leaves: bool
    ) -> list[Answer]:
        """Make one request; return one answer for each message that it was to carry."""
        try:
            going = [m for m in group if m.deadline is None or m.deadline > now()]
            if not leaves or not self._is_leased():
                going = []
            answers = {answer.id: answer for answer in await gateway.submit(going)} if going else {}
            # What an adapter says nothing of may have been taken.
            answers |= {m.id: Answer(m.id, "unknown") for m in going if m.id not in answers}
            return [answers.get(message.id) or not_started(message.id) for message in group]
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
            submission=message.submission or "",
        )

    def _judge(self, requests: Sequence[Sequence[Answer]]) -> None:
        """Go on by another gateway, or stop the run, where going on could only make it worse."""
        trouble = judging.judge(self.run.id, self.gateway, requests)
        if trouble is None:
            return
        reason = f"{trouble.what} ({_said(trouble.answer)})"
        if trouble.switches and routing.switch(self.run, self.gateway, reason):
            self.switched = True
            self.tally.switched.append(f"gateway {self.gateway} is taken out: it {reason}")
        elif trouble.stops:
            self.tally.stopped = (
                f"the gateway {self.gateway} {reason}: mend it, then run `sms resume {self.run.id}`"
            )
            _pause(self.run, self.tally.stopped)

    def _slow_down(self, answers: Sequence[Answer]) -> None:
        """Hold the lane where a whole window was throttled: the others would be, too."""
        delays = [a.retry_after for a in answers if a.retry_after and a.error_code != NOT_STARTED]
        if delays and len(delays) == len(answers):
            pace.hold(self.lane, min(delays))


def _said(answer: Answer) -> str:
    return f"{answer.error_code or ''} {answer.error_text}".strip() or "no clear answer"
