"""Sends what waits in standing runs: the answers to replies. Does not import Prefect.

A thread of the receiver. Each message goes the way of every other one: its own claim, the lane's
pace, the gateway's adapter. Not here: what is said (`answering`), statements
(`data.standing_runs`), and the sending itself (`sending`).
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import date
from functools import partial

from adapters.gateways.base import Gateway
from data import batches, pace, runs, standing_runs
from data.batches import Held
from data.database import now
from data.errors import SmsError
from data.privacy import mask_text
from data.standing_runs import Open
from tasks import asking, judging, routing, sending

LOOK_EVERY = 1.0
"""Seconds between two looks at what waits, when nobody wakes it: others add to the runs, too."""
COMMITTED = 0.05
"""Seconds from a wake to the commit of what it was woken for."""
SETTLE_EVERY = 30.0
"""Seconds between two questions to the gateways about what got no clear answer."""
PAUSE = 30.0
"""Seconds until a run goes on that a gateway has stopped, or a batch that could not be sent: more
than one of these within the five minutes of a confirmation, and less than a flood of requests."""
AT_ONCE = 8
"""Gateways that send at one time."""
_ENDING = 5.0
_BY_HAND = (runs.PAUSED_BY_HAND, runs.PAUSED_IN_UI)

_log = logging.getLogger("sms.responder")


class Responder:
    """Sends standing runs until it is stopped; several processes may do so at one time.

    `make_gateway` makes a gateway anew by its name; `rate` says how many messages (or segments) a
    second may leave by a gateway and sender, or None where the lane is to stay as it is.
    """

    def __init__(
        self,
        make_gateway: Callable[[str], Gateway],
        rate: Callable[[str, str], float | None],
    ) -> None:
        self._make = make_gateway
        self._rate = rate
        self._awake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="responder")
        self._working: dict[str, list[threading.Thread]] = {}
        self._due: dict[tuple[str, str], float] = {}
        """When something is to be done again, by the monotonic clock."""
        self._trouble = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have it look at once: something is being stored for it."""
        self._awake.set()

    def stop(self) -> None:
        """Let the windows that are on their way end, and send no other."""
        self._over.set()
        self._awake.set()
        sending.halted.update(self._working)
        ends = time.monotonic() + _ENDING
        for thread in [
            self._thread,
            *(one for threads in self._working.values() for one in threads),
        ]:
            thread.join(max(0.0, ends - time.monotonic()))
        sending.halted.difference_update(self._working)

    def _run(self) -> None:
        while not self._over.is_set():
            if self._awake.wait(LOOK_EVERY):
                self._awake.clear()
                self._over.wait(COMMITTED)
            try:
                self.look()
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - its end would be the end of all answers
                told = _told(error)
                if told != self._trouble:
                    _log.error("answers to replies are not sent at present: %s", told)
                self._trouble = told

    def look(self) -> None:
        """Begin to send what waits, end what is late, and close what is over."""
        for run in standing_runs.open_runs():
            if self._over.is_set():
                return
            if run.late:
                late = standing_runs.end_late(run.id)
                _log.warning("run %s: %d answers came too late and are not sent", run.id, late)
            if run.state == runs.PAUSED:
                self._go_on(run)
            elif run.state == runs.SENDING:
                self._send_waiting(run)
                if run.unclear and self._is_due("settle", run.id, SETTLE_EVERY):
                    self._work(run.id, partial(self._settle, run.id))
                if run.day < _today() and not run.queued:
                    standing_runs.close(run.id)

    def _send_waiting(self, run: Open) -> None:
        while run.queued > run.late and self._busy() < AT_ONCE and not self._over.is_set():
            held = batches.take(run.id)
            if held is None:
                return
            self._work(run.id, partial(self._send, held))

    def _send(self, held: Held) -> None:
        try:
            self._set_rates(held.run_id)
            tally = sending.send_batch(held, self._make)
        except Exception as error:  # noqa: BLE001 - other gateways go on
            _log.error("run %s: answers are not sent at present: %s", held.run_id, _told(error))
            standing_runs.put_off(held.run_id, held.batch, PAUSE)
            batches.give_back(held)
            return
        if tally.stopped:
            _log.warning("run %s: %s", held.run_id, mask_text(tally.stopped))

    def _set_rates(self, run_id: str) -> None:
        """Have the lanes of a run go at the rate that is set for them now."""
        for gateway, sender in routing.route_of(runs.get_run(run_id)).senders.items():
            lane = pace.lane_of(gateway, sender)
            if self._is_due("rate", lane, PAUSE):
                rate = self._rate(gateway, sender)
                if rate is not None:
                    pace.set_rate(lane, rate)

    def _settle(self, run_id: str) -> None:
        found = asking.resolve_doubts(run_id, self._make)
        if found:
            _log.info("run %s: answers in doubt: %s", run_id, dict(found))

    def _go_on(self, run: Open) -> None:
        """Take up a run that a gateway's trouble has paused; what a person paused stays so."""
        if run.note in _BY_HAND:
            return
        if ("pause", run.id) not in self._due:
            self._due["pause", run.id] = time.monotonic() + PAUSE
        elif self._is_due("pause", run.id, PAUSE):
            del self._due["pause", run.id]
            judging.forget(run.id)
            runs.move(run.id, runs.SENDING, note="")

    def _is_due(self, what: str, of: str, every: float) -> bool:
        if time.monotonic() < self._due.get((what, of), 0):
            return False
        self._due[what, of] = time.monotonic() + every
        return True

    def _work(self, run_id: str, work: Callable[[], None]) -> None:
        def safely() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the next look tries again
                _log.error("run %s: %s", run_id, _told(error))

        thread = threading.Thread(target=safely, daemon=True, name=f"answers-{run_id}")
        self._working.setdefault(run_id, []).append(thread)
        thread.start()

    def _busy(self) -> int:
        living = {
            run_id: alive
            for run_id, threads in self._working.items()
            if (alive := [thread for thread in threads if thread.is_alive()])
        }
        self._working = living
        return sum(map(len, living.values()))


def _today() -> date:
    return now().date()


def _told(error: Exception) -> str:
    return mask_text(str(error)) if isinstance(error, SmsError) else type(error).__name__
