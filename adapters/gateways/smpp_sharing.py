"""The bind as transmitter that all senders of a process share.

An SMSC allows an account few binds, and a process sends several batches at one time, each in an
event loop of its own. So binds live in a loop of their own, in a thread. Not here: what is written
(`smpp`), and the connection itself (`smpp_session`).
"""

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

from adapters.gateways.base import Timeouts
from adapters.gateways.http import NotSentError
from adapters.gateways.smpp_session import BIND_TRANSMITTER, SUBMIT_SM, Login, Session

T = TypeVar("T")
_LEAST = 0.05
"""Seconds that an answer takes at least, when the window has been waited for."""

_lock = threading.Lock()
_shared: "dict[tuple[Login, int, Timeouts], Transmitter]" = {}


class Transmitter:
    """A bind at one SMSC, made when it is needed; safe to use from any event loop.

    `window` is how many requests may wait for their answers at one time.
    """

    def __init__(self, login: Login, window: int, timeouts: Timeouts) -> None:
        self.users = 0
        self._login = login
        self._timeouts = timeouts
        self._window = asyncio.Semaphore(window)
        self._session: Session | None = None
        self._binding: asyncio.Task[Session] | None = None

    async def submit(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        """Write a submit_sm once; return the command_status and the body of its answer.

        Within so many seconds, a bind included where there is none. Raises `NotSentError` (of which
        `BindRefusedError` is one) and `NoAnswerError`.
        """
        return await _there(self._submit(body, seconds))

    async def close(self) -> None:
        """Unbind."""
        await _there(self._close())

    async def _submit(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        until = asyncio.get_running_loop().time() + seconds
        try:
            # What is written at the last moment gets no answer in time.
            async with asyncio.timeout_at(until - _LEAST):
                await self._window.acquire()
        except TimeoutError:
            raise NotSentError(
                f"the SMSC at {self._login.address} answers so slowly that its window stays full"
            ) from None
        try:
            session = await self._bound(until)
            return await session.request(SUBMIT_SM, body, until)
        finally:
            self._window.release()

    async def _bound(self, until: float) -> Session:
        """The present bind, or a new one, the same for all who wait."""
        if self._session is not None and self._session.usable:
            return self._session
        if self._binding is None or self._binding.done():
            self._binding = asyncio.create_task(self._bind())
        try:
            async with asyncio.timeout_at(until):
                return await asyncio.shield(self._binding)
        except TimeoutError:
            raise NotSentError(f"no bind at the SMSC {self._login.address} in time") from None

    async def _bind(self) -> Session:
        self._session = await Session.bind(self._login, BIND_TRANSMITTER, self._timeouts)
        return self._session

    async def _close(self) -> None:
        if self._binding is not None:
            self._binding.cancel()
        if self._session is not None:
            await self._session.close()


def join(login: Login, window: int, timeouts: Timeouts) -> Transmitter:
    """Return this process' bind for these settings; `leave` it when done."""
    with _lock:
        found = _shared.setdefault((login, window, timeouts), Transmitter(login, window, timeouts))
        found.users += 1
        return found


async def leave(transmitter: Transmitter) -> None:
    """End one use of a bind; with the last one it is unbound."""
    with _lock:
        transmitter.users -= 1
        unused = transmitter.users == 0
        for key in [key for key, found in _shared.items() if unused and found is transmitter]:
            del _shared[key]
    if unused:
        await transmitter.close()


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
    return loop
