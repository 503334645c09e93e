"""The inbox of the receiver: one thread that stores callbacks, many in one commit.

Nothing is acknowledged that is not stored, and nobody is left waiting: whoever cannot be told that
his callback is committed is told in time that it is not. Not here: HTTP (`receiver`).
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from data import deliveries
from data.database import UNAVAILABLE, DatabaseError, writing

log = logging.getLogger(__name__)

OnInbound = Callable[[Connection, list[dict[str, Any]]], None]
"""What to make of replies: it may fill the `kind` of each (keys as in `InboundMessage`), and
writes by the connection in whose transaction the replies are stored after it returns."""

PATIENCE = 8.0
"""Seconds that a callback waits for its commit. Twilio gives up after 15
(twilio.com/docs/usage/webhooks/webhooks-faq); a reply must be on its way before."""

_GROUP = 500  # events in one commit
_GATHER = 0.010  # seconds that a commit waits for more of them
_HELD = 32 * 2**20  # bytes of callbacks that are not settled; more are refused
_ROW = 2_000  # bytes that an event takes in memory beside its payload
# Trouble of the database as a whole: to try each callback alone would not help any of them.
_TROUBLE = (*UNAVAILABLE, PoolTimeoutError)


@dataclass(slots=True)
class _Entry:
    """One callback on its way into the database."""

    reports: list[dict[str, Any]]
    inbound: list[dict[str, Any]]
    size: int
    stored: "asyncio.Future[bool]"


class Inbox:
    """Stores callbacks from one thread, many in one commit, and tells each when it is safe."""

    def __init__(self, on_inbound: OnInbound | None = None) -> None:
        self._on_inbound = on_inbound
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="receiver-inbox", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held = 0  # read and written by the event loop alone
        self._closed = False
        self._writing_since: float | None = None

    def start(self) -> None:
        """Start the thread; call it once, inside the event loop that serves the requests."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Store what has arrived, and end the thread.

        A database that does not answer is not waited for: what it lacks was not acknowledged.
        """
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, PATIENCE)

    def problem(self) -> str | None:
        """Say what keeps callbacks from being stored at this moment; None: nothing is known to."""
        if not self._thread.is_alive():
            return "reports are not stored: restart the receiver"
        since = self._writing_since
        if since is not None and time.monotonic() - since > PATIENCE:
            return "the database does not take what is written"
        return None

    async def store(
        self, reports: list[dict[str, Any]], inbound: list[dict[str, Any]] | None = None
    ) -> bool:
        """Return whether the events are committed; False: the caller is to try again.

        False may come before a commit that succeeds later: twice stored is harmless.
        """
        rows = [*reports, *(inbound or ())]
        size = sum(_ROW + len(row.get("raw", "")) for row in rows)
        if self._closed or not self._thread.is_alive():
            return False
        if self._held and self._held + size > _HELD:
            log.error("receiver: too many callbacks wait for the database; refusing more")
            return False
        loop = asyncio.get_running_loop()
        entry = _Entry(reports, inbound or [], size, loop.create_future())
        self._held += size
        self._queue.put(entry)
        # Half the cost of asyncio.timeout(), once for every callback.
        late = loop.call_later(PATIENCE, _give_up, entry)
        try:
            return await entry.stored
        finally:
            late.cancel()

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            group: list[_Entry] = []
            try:
                goes_on = self._gather(group)
                self._writing_since = time.monotonic()
                stored = self._write(group)
            except BaseException as error:  # noqa: BLE001 - the thread's end would be everybody's
                log.error("receiver: the inbox failed (%s) and goes on", type(error).__name__)
                stored = [False] * len(group)
            self._writing_since = None
            self._tell(group, stored)

    def _gather(self, group: list[_Entry]) -> bool:
        """Take what arrives within a moment of the first; return whether more is to come."""
        events, until = 0, 0.0
        while events < _GROUP:
            try:
                if not group:
                    entry = self._queue.get()
                    until = time.monotonic() + _GATHER
                else:
                    entry = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if entry is None:
                return False
            group.append(entry)
            events += len(entry.reports) + len(entry.inbound)
        return True

    def _write(self, group: Sequence[_Entry]) -> list[bool]:
        if not group:
            return []
        try:
            self._commit(group)
        except _TROUBLE as error:
            told = error if isinstance(error, DatabaseError) else type(error).__name__
            log.error("receiver: %d callbacks not stored: %s", len(group), told)
            return [False] * len(group)
        except Exception as error:  # noqa: BLE001 - one bad callback must not take the rest along
            if half := len(group) // 2:
                return self._write(group[:half]) + self._write(group[half:])
            log.error("receiver: a callback cannot be stored (%s)", type(error).__name__)
            return [False]
        return [True] * len(group)

    def _commit(self, group: Sequence[_Entry]) -> None:
        reports = [report for entry in group for report in entry.reports]
        inbound = [message for entry in group for message in entry.inbound]
        with writing() as connection:
            deliveries.append(connection, reports)
            if inbound:
                # Copies: what the policy writes into them must not outlive a rolled-back attempt.
                inbound = [*map(dict, deliveries.unseen(connection, inbound))]
            if inbound:
                if self._on_inbound is not None:
                    self._on_inbound(connection, inbound)
                deliveries.append_inbound(connection, inbound)

    def _tell(self, group: Sequence[_Entry], stored: Sequence[bool]) -> None:
        def settle() -> None:
            for entry, success in zip(group, stored, strict=True):
                self._held -= entry.size
                if not entry.stored.done():
                    entry.stored.set_result(success)

        if self._loop is not None:
            # A closed loop: nobody waits any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(settle)


def _give_up(entry: _Entry) -> None:
    if not entry.stored.done():
        log.error("receiver: a callback has waited %.0f s for the database", PATIENCE)
        entry.stored.set_result(False)
