"""Delivery reports: `sent` and then the final status, each at its time, as the dialect writes them.

A report is tried again on a 5xx answer or a broken connection, and dropped after the last try, as
gateways do. Not here: what the final status is (faults.py) and how a report looks (a dialect).
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from adapters.sandbox.callbacks import Callbacks
from adapters.sandbox.dialect import Dialect, Post
from adapters.sandbox.faults import Fate, Outcomes, Rule, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import count_segments

BACK_OFF = (0.25, 1.0, 4.0)
"""Seconds before the second, third and last try."""
NO_ANSWER = 599
_CONCURRENCY = 32
_log = logging.getLogger("sms.sandbox")


class Step(NamedTuple):
    """One report to hand over."""

    after: float
    """Seconds from acceptance."""
    status: str
    why: Why | None
    part: int


@dataclass(slots=True)
class Errand:
    """The reports of one message; the next starts when the one before it is through."""

    message: Message
    steps: list[Step]
    done: int = 0
    posts: int = 0
    """Callbacks of the present step that are through; most reports are one callback."""
    failed: int = 0
    """Those of them that were given up."""
    tries: int = 0


class Reporter:
    """Hands reports over in the background, at most 32 at one time, on kept-alive connections."""

    def __init__(
        self, journal: Journal, outcomes: Outcomes, dialects: Mapping[str, Dialect]
    ) -> None:
        self.sent = 0
        self.failed = 0
        self.waiting = 0
        """Messages whose reports are still owed."""
        self._journal = journal
        self._outcomes = outcomes
        self._dialects = dialects
        self._due: asyncio.Queue[Errand] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._callbacks = Callbacks()

    async def start(self) -> None:
        """Start the workers, and take up what an earlier process still owed."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(_CONCURRENCY)]
        for message in self._journal.unreported():
            if message.kind in self._dialects:
                self.schedule(message, {})

    async def stop(self) -> None:
        """End at once; what is still owed is taken up by the next start."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._callbacks.close()

    def schedule(self, message: Message, ordered: Mapping[str, Rule]) -> None:
        """Arrange the reports of a message, misbehaving as `ordered`."""
        if not message.callback:
            return
        steps = self._plan(message, ordered)
        if steps:
            self.waiting += 1
            self._wait_for(Errand(message, steps))
        else:
            self._journal.record_report(message, "never", None, handed_over=False, last=True)

    async def report_now(self, message: Message, ordered: Mapping[str, Rule]) -> None:
        """Try every report once, before this returns."""
        if not message.callback:
            return
        errand = Errand(message, self._plan(message, ordered))
        for step in errand.steps:
            for post in self._posts(message, step):
                errand.failed += await self.send(post) >= 300
                errand.posts += 1
            self._conclude(errand)

    async def send(self, post: Post) -> int:
        """Make a callback and return the HTTP status; `NO_ANSWER` where there was none."""
        try:
            return await self._callbacks.send(post)
        except OSError:
            return NO_ANSWER

    def _plan(self, message: Message, ordered: Mapping[str, Rule]) -> list[Step]:
        if "never" in ordered:
            return []
        fate = self._outcomes.fate(message.to)
        with_parts = self._dialects[message.kind].parts
        parts = count_segments(message.body) if with_parts else 1
        statuses: list[tuple[str, Why | None, int]] = [("sent", None, n) for n in range(parts)]
        if fate.status != "sent":
            statuses += _final(fate, parts, fails="part_fails" in ordered and parts > 1)
        if "shuffled" in ordered:
            statuses.reverse()
        if "contradict" in ordered:
            denied = ("failed", Why.OTHER) if fate.status == "delivered" else ("delivered", None)
            statuses += [(*denied, n) for n in range(parts)]
        if "double" in ordered:
            statuses = [status for status in statuses for _ in range(2)]
        late = ordered["late"].seconds if "late" in ordered else 0
        times = [fate.sent_after] * parts + [fate.final_after] * (len(statuses) - parts)
        return [Step(at + late, *status) for at, status in zip(times, statuses, strict=True)]

    def _wait_for(self, errand: Errand) -> None:
        step = errand.steps[errand.done]
        delay = errand.message.time + step.after - time.time()
        self._put_after(delay, errand)

    def _put_after(self, delay: float, errand: Errand) -> None:
        if delay <= 0:
            self._due.put_nowait(errand)
        else:
            asyncio.get_running_loop().call_later(delay, self._due.put_nowait, errand)

    async def _work(self) -> None:
        while True:
            errand = await self._due.get()
            if not await self._hand_over(errand):
                errand.tries += 1
                self._put_after(BACK_OFF[errand.tries - 1], errand)
                continue
            self._conclude(errand)
            if errand.done == len(errand.steps):
                self.waiting -= 1
            else:
                self._wait_for(errand)

    async def _hand_over(self, errand: Errand) -> bool:
        """Make the callbacks of the present step; whether it is through, handed over or given up.

        Written anew at each try: what is signed may carry the time.
        """
        posts = self._posts(errand.message, errand.steps[errand.done])
        for post in posts[errand.posts :]:
            status = await self.send(post)
            if status >= 500 and errand.tries < len(BACK_OFF):
                return False
            errand.failed += status >= 300
            errand.posts, errand.tries = errand.posts + 1, 0
        return True

    def _posts(self, message: Message, step: Step) -> list[Post]:
        dialect = self._dialects[message.kind]
        try:
            return dialect.reports(message, step.status, step.why, step.part)
        except Exception:  # noqa: BLE001 - a mistake in one dialect must not end all reports
            _log.exception("the %s dialect wrote no report", message.kind)
            return []

    def _conclude(self, errand: Errand) -> None:
        step = errand.steps[errand.done]
        self.sent += errand.posts - errand.failed
        self.failed += errand.failed
        handed_over = errand.posts > 0 and not errand.failed
        errand.done, errand.posts, errand.failed = errand.done + 1, 0, 0
        self._journal.record_report(
            errand.message,
            step.status,
            step.why,
            handed_over=handed_over,
            last=errand.done == len(errand.steps),
            part=step.part,
        )


def _final(fate: Fate, parts: int, *, fails: bool) -> list[tuple[str, Why | None, int]]:
    """Return the final status of each part; where one `fails`, it is the last one."""
    if not fails:
        return [(fate.status, fate.why, part) for part in range(parts)]
    whole: list[tuple[str, Why | None, int]] = [("delivered", None, n) for n in range(parts - 1)]
    return [*whole, ("undelivered", Why.UNREACHABLE, parts - 1)]
