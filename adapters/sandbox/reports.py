"""Delivery reports: signed callbacks, `sent` and then the final status, each at its time.

A report is tried again on a 5xx answer or a broken connection, and dropped after the last try, as
gateways do. Not here: what the final status is (faults.py) and how a report looks (twilio.py).
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote_plus

from adapters.sandbox.callbacks import Callbacks
from adapters.sandbox.faults import Outcomes, Rule
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.twilio import report_form, signature

BACK_OFF = (0.25, 1.0, 4.0)
"""Seconds before the second, third and last try."""
_CONCURRENCY = 32


class Step(NamedTuple):
    """One report to hand over."""

    after: float
    """Seconds from acceptance."""
    status: str
    error_code: int | None


@dataclass(slots=True)
class Errand:
    """The reports of one message; the next starts when the one before it is through."""

    message: Message
    steps: list[Step]
    done: int = 0
    tries: int = 0


class Reporter:
    """Hands reports over in the background, at most 32 at one time, on kept-alive connections."""

    def __init__(
        self, journal: Journal, outcomes: Outcomes, *, account_sid: str, auth_token: str
    ) -> None:
        self.sent = 0
        self.failed = 0
        self.waiting = 0
        """Messages whose reports are still owed."""
        self._journal = journal
        self._outcomes = outcomes
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._due: asyncio.Queue[Errand] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._callbacks = Callbacks()

    async def start(self) -> None:
        """Start the workers, and take up what an earlier process still owed."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(_CONCURRENCY)]
        for message in self._journal.unreported():
            self.schedule(message, {})

    async def stop(self) -> None:
        """End at once; what is still owed is taken up by the next start."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._callbacks.close()

    def schedule(self, message: Message, ordered: dict[str, Rule]) -> None:
        """Arrange the reports of a message, misbehaving as `ordered`."""
        steps = self._plan(message, ordered)
        if not message.reference:
            return
        if steps:
            self.waiting += 1
            self._wait_for(Errand(message, steps))
        else:
            self._journal.record_report(message, "never", None, handed_over=False, last=True)

    async def report_now(self, message: Message, ordered: dict[str, Rule]) -> None:
        """Try every report once, before this returns."""
        steps = self._plan(message, ordered) if message.reference else []
        for step in steps:
            handed_over = await self._report(message, step) < 300
            self._count(message, step, handed_over=handed_over, last=step is steps[-1])

    async def post(self, url: str, form: dict[str, str]) -> int:
        """POST a signed form and return the HTTP status; OSError where there was no answer."""
        headers = {
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
            "X-Twilio-Signature": signature(self._auth_token, url, form),
        }
        return await self._callbacks.post(url, _encode(form), headers)

    def _plan(self, message: Message, ordered: dict[str, Rule]) -> list[Step]:
        fate = self._outcomes.fate(message.to)
        if "never" in ordered:
            return []
        statuses: list[tuple[str, int | None]] = [("sent", None)]
        if fate.status != "sent":
            statuses.append((fate.status, fate.error_code))
        if "shuffled" in ordered:
            statuses.reverse()
        if "contradict" in ordered:
            denied = ("failed", 30008) if fate.status == "delivered" else ("delivered", None)
            statuses.append(denied)
        if "double" in ordered:
            statuses = [status for status in statuses for _ in range(2)]
        late = ordered["late"].seconds if "late" in ordered else 0
        times = [fate.sent_after] + [fate.final_after] * (len(statuses) - 1)
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
            step = errand.steps[errand.done]
            status = await self._report(errand.message, step)
            if status >= 500 and errand.tries < len(BACK_OFF):
                errand.tries += 1
                self._put_after(BACK_OFF[errand.tries - 1], errand)
                continue
            errand.done, errand.tries = errand.done + 1, 0
            last = errand.done == len(errand.steps)
            self._count(errand.message, step, handed_over=status < 300, last=last)
            if last:
                self.waiting -= 1
            else:
                self._wait_for(errand)

    async def _report(self, message: Message, step: Step) -> int:
        """Return the answer's status; 599 where there was none."""
        form = report_form(message, step.status, step.error_code, self._account_sid, time.time())
        try:
            return await self.post(message.reference, form)
        except OSError:
            return 599

    def _count(self, message: Message, step: Step, *, handed_over: bool, last: bool) -> None:
        self.sent += handed_over
        self.failed += not handed_over
        self._journal.record_report(
            message, step.status, step.error_code, handed_over=handed_over, last=last
        )


def _encode(form: Mapping[str, str]) -> bytes:
    # Most values are letters and digits, and quoting those was a quarter of a callback's cost.
    return "&".join(
        f"{name}={value if value.isascii() and value.isalnum() else quote_plus(value)}"
        for name, value in form.items()
    ).encode()
