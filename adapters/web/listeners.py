"""Standing binds: `listen` of every gateway that has one, beside the routes of the receiver.

One task a gateway, so that one which fails takes no other along. Not here: the connection itself
(the adapters), and how reports are stored (`inbox`).
"""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from adapters.gateways.base import Gateway, Inbound, Listener, Report
from adapters.web.inbox import Inbox
from adapters.web.receiver import rows

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between looks at which gateways there are; they are in memory."""
AGAIN_AFTER = 10.0
"""Seconds until a `listen` that ended, which none should, is begun again."""


class Listeners:
    """Keeps one `listen` for each gateway that `gateways` names and that is a `Listener`.

    A gateway that has become another object under its name has new settings: it is begun anew.
    """

    def __init__(self, gateways: Callable[[], Mapping[str, Gateway]], inbox: Inbox) -> None:
        self._gateways = gateways
        self._inbox = inbox
        self._running: dict[str, tuple[Listener, asyncio.Task[None]]] = {}

    def start(self) -> None:
        """Begin; call it once, inside the event loop."""
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End every bind; what was not acknowledged by then comes again."""
        await _ended([self._following])
        await _ended([task for _, task in self._running.values()])

    def down(self) -> list[str]:
        """The gateways that nothing can be received from at this moment."""
        return sorted(name for name, (gateway, _) in self._running.items() if gateway.bind_problem)

    async def _follow(self) -> None:
        while True:
            wanted: dict[str, Listener] = {
                name: gateway
                for name, gateway in self._gateways().items()
                if isinstance(gateway, Listener)
            }
            gone = [name for name, (old, _) in self._running.items() if wanted.get(name) is not old]
            # First the end of the old bind: an SMSC may allow one.
            await _ended([self._running.pop(name)[1] for name in gone])
            for name in wanted.keys() - self._running.keys():
                task = asyncio.create_task(self._listen(name, wanted[name]))
                self._running[name] = wanted[name], task
            await asyncio.sleep(LOOK_EVERY)

    async def _listen(self, name: str, gateway: Listener) -> None:
        while True:
            try:
                await gateway.listen(self._storing(name))
                why = "it ended"
            except Exception as error:  # noqa: BLE001 - its text may hold what nobody may read
                at = traceback.extract_tb(error.__traceback__)[-1]
                why = f"{type(error).__name__} at {at.filename}:{at.lineno}"
            log.error("receiver: the bind of gateway %s: %s; again in a while", name, why)
            await asyncio.sleep(AGAIN_AFTER)

    def _storing(
        self, name: str
    ) -> Callable[[Sequence[Report], Sequence[Inbound], str], Awaitable[bool]]:
        async def store(reports: Sequence[Report], inbound: Sequence[Inbound], raw: str) -> bool:
            return await self._inbox.store(*rows(name, raw, reports, inbound))

        return store


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
