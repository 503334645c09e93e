"""A slow call made in a thread, once for all who ask while it runs.

Not here: what is asked (the database's health, Prefect's gateways).
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class Shared:
    """Runs one function in a thread; nobody can have it run many times side by side."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._running: asyncio.Future[Exception | None] | None = None

    async def __call__(self, seconds: float) -> None:
        """Wait for the call that is under way, or begin one; raises what it raised.

        Raises `TimeoutError` after so many seconds; the thread goes on until it is through.
        """
        if self._running is None or self._running.done():
            self._running = self._begin()
        async with asyncio.timeout(seconds):
            error = await asyncio.shield(self._running)
        if error is not None:
            raise error

    def _begin(self) -> "asyncio.Future[Exception | None]":
        loop = asyncio.get_running_loop()
        through: asyncio.Future[Exception | None] = loop.create_future()

        def run() -> None:
            outcome = None
            try:
                self._call()
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                outcome = error
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(through.set_result, outcome)

        # A daemon: the process must be able to end while the other side does not answer.
        threading.Thread(target=run, daemon=True, name="receiver-shared").start()
        return through
