"""The bind as transmitter that all senders of a process share.

An SMSC allows an account few binds, and a process sends several batches at one time, each in an
event loop of its own. So binds live in a loop of their own, in a thread. Not here: what is written
(`smpp`), and the connection itself (`smpp_session`).
"""

import asyncio
import atexit
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from adapters.gateways.base import Timeouts
from adapters.gateways.http import NoAnswerError, NotSentError
from adapters.gateways.smpp_session import BIND_TRANSMITTER, SUBMIT_SM, Login, Session

T = TypeVar("T")
Result = tuple[int, bytes] | NotSentError | NoAnswerError
"""What became of a submit_sm: the command_status and the body of its answer, or why none came."""

ANSWER_SHARE = 0.5
"""Share of a request's time that is left for its answer, or it is not written."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds after a bind that failed until the next attempt; doubled with each."""
KEEP = 5.0
"""Seconds that a bind nobody uses is kept: the next batch of messages often comes at once."""
_LAST_GOODBYE = 1.0  # seconds that the end of the process waits for the SMSCs

_lock = threading.Lock()
_shared: "dict[tuple[Login, int, Timeouts], Transmitter]" = {}


class BusyError(NotSentError):
    """The window stayed full for so long that there was no time left for an answer."""


class Transmitter:
    """A bind at one SMSC, made when it is needed; safe to use from any event loop.

    `window` is how many requests may wait for their answers at one time.
    """

    def __init__(self, login: Login, window: int, timeouts: Timeouts) -> None:
        self.users = 0
        self.end: Future[None] | None = None
        """What ends a bind that nobody uses."""
        self._login = login
        self._timeouts = timeouts
        self._size = window
        self._window = asyncio.Semaphore(window)
        self._turn = asyncio.Lock()
        self._session: Session | None = None
        self._binding: asyncio.Task[Session] | None = None
        self._failure: NotSentError | None = None
        self._wait = FIRST_WAIT
        self._not_before = 0.0

    async def submit(self, bodies: Sequence[bytes], seconds: float) -> list[Result]:
        """Write a submit_sm for each body once; return what became of each.

        Within so many seconds, a bind included where there is none. As many as the window has are
        written together, or none of them: these are the parts of one message.
        """
        return await _there(self._submit(bodies, seconds))

    async def close(self) -> None:
        """Unbind; in the loop of the binds."""
        if self._binding is not None:
            self._binding.cancel()
        if self._session is not None:
            await self._session.close()

    async def retire(self) -> None:
        """Unbind when nobody has used the bind for some time; in the loop of the binds."""
        # Longer where a bind failed: the next batch is not to try at once.
        rest = max(0.0, self._not_before - asyncio.get_running_loop().time())
        await asyncio.sleep(KEEP + rest)
        with _lock:
            if self.users:
                return
            for key in [key for key, found in _shared.items() if found is self]:
                del _shared[key]
        await self.close()

    async def _submit(self, bodies: Sequence[bytes], seconds: float) -> list[Result]:
        until = asyncio.get_running_loop().time() + seconds
        results: list[Result] = []
        for start in range(0, len(bodies), self._size):
            together = bodies[start : start + self._size]
            try:
                results += await self._write(together, until)
            except NotSentError as error:
                results += [error] * len(together)
        return results

    async def _write(self, bodies: Sequence[bytes], until: float) -> list[Result]:
        """Write requests when the window has room for all of them."""
        latest = until - ANSWER_SHARE * self._timeouts.request
        # Before the window, too: an SMSC that takes no bind is not busy but away.
        await self._bound(latest)
        await self._take(len(bodies), latest)
        tasks = [asyncio.create_task(self._request(body, latest, until)) for body in bodies]
        for task in tasks:
            task.add_done_callback(lambda _: self._window.release())
        return await asyncio.gather(*tasks)

    async def _take(self, places: int, latest: float) -> None:
        """Take places in the window, all or none."""
        taken = 0
        try:
            # One message after the other: two that gather places would wait for each other.
            async with asyncio.timeout_at(latest), self._turn:
                if asyncio.get_running_loop().time() > latest:
                    raise TimeoutError  # what need not wait would not be stopped
                while taken < places:
                    await self._window.acquire()
                    taken += 1
        except BaseException as error:
            self._give_back(taken)
            if not isinstance(error, TimeoutError):
                raise
            raise BusyError(
                f"the SMSC at {self._login.address} answers so slowly that its window stays full"
            ) from None

    def _give_back(self, places: int) -> None:
        for _ in range(places):
            self._window.release()

    async def _request(self, body: bytes, latest: float, until: float) -> Result:
        try:
            session = await self._bound(latest)
            answer = await session.request(SUBMIT_SM, body, until)
        except (NotSentError, NoAnswerError) as error:
            return error
        self._wait = FIRST_WAIT
        return answer

    async def _bound(self, latest: float) -> Session:
        """The present bind, or a new one, the same for all who wait."""
        for _ in range(2):
            if self._session is not None and self._session.usable:
                return self._session
            session = await self._newly_bound(latest)
            # Others may have written to it, and found it lost, since it was made.
            if session.usable:
                return session
        raise self._failed(NotSentError(f"the SMSC at {self._login.address} ends binds at once"))

    async def _newly_bound(self, latest: float) -> Session:
        if self._binding is None or self._binding.done():
            if self._failure is not None and asyncio.get_running_loop().time() < self._not_before:
                raise self._failure.with_traceback(None)
            self._binding = asyncio.create_task(self._bind())
            # Where all have stopped waiting, nobody else asks for its exception.
            self._binding.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout_at(latest):
                return await asyncio.shield(self._binding)
        except TimeoutError:
            raise NotSentError(f"no bind at the SMSC {self._login.address} in time") from None

    async def _bind(self) -> Session:
        try:
            self._session = await Session.bind(self._login, BIND_TRANSMITTER, self._timeouts)
        except NotSentError as error:
            raise self._failed(error) from None
        return self._session

    def _failed(self, error: NotSentError) -> NotSentError:
        """Put the next attempt off; until then, `error` is the answer to all."""
        now = asyncio.get_running_loop().time()
        if now >= self._not_before:
            self._failure, self._not_before = error, now + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT)
        return error


def join(login: Login, window: int, timeouts: Timeouts) -> Transmitter:
    """Return this process' bind for these settings; `leave` it when done."""
    with _lock:
        found = _shared.setdefault((login, window, timeouts), Transmitter(login, window, timeouts))
        found.users += 1
        if found.end is not None:
            found.end.cancel()
        return found


def leave(transmitter: Transmitter) -> None:
    """End one use of a bind; when nobody has come back after `KEEP` seconds it is unbound."""
    with _lock:
        transmitter.users -= 1
        if not transmitter.users:
            transmitter.end = asyncio.run_coroutine_threadsafe(transmitter.retire(), _loop())


def unbind_all() -> None:
    """Unbind what is kept; at the end of the process, which does not wait long for it."""
    with _lock:
        kept = list(_shared.values())
        _shared.clear()

    async def close() -> None:
        await asyncio.gather(*(transmitter.close() for transmitter in kept))

    if kept:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(close(), _loop()).result(_LAST_GOODBYE)


async def _there(work: Coroutine[Any, Any, T]) -> T:
    """Have something done in the loop of the binds."""
    with _lock:
        loop = _loop()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # A daemon: a process that is told to end need not wait for an SMSC.
    threading.Thread(target=loop.run_forever, name="smpp", daemon=True).start()
    atexit.register(unbind_all)
    return loop
