"""The spacing of messages inside a window: each leaves in its own slot of the lane, never early.

Slots are reserved in the ledger (`data.pace`). Where one could not be used in time, those after it
move with it, or it is given up: catching up would be a burst. Does not import Prefect.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from data import pace

_LATE = pace.HEADROOM
"""Seconds that a message may leave after its slot."""
_TELL_EVERY = 0.25
"""Seconds between two writes: where requests are slower than the lane, each of them is late."""
_LOOK_EVERY = 1.0
"""Seconds between two looks at a lane that is full or held."""


class Pacer:
    """The slots of one sender on one lane. Times are of the monotonic clock, in seconds."""

    def __init__(self, lane: str) -> None:
        self._lane = lane
        self._slots = pace.Slots(0)
        self._left = 0.0
        self._next = 0.0
        self._moved = 0.0
        """Seconds that slots have moved since the ledger was last told."""
        self._told = 0.0
        self._followed = False
        """Whether another sender is known to have reserved what follows."""

    @property
    def starts_at(self) -> float:
        """When the next slot begins."""
        return self._next

    async def reserve(self, units: float) -> bool:
        """Reserve slots for so many messages or segments.

        Where the lane is full or held, waits for it (a second at most) and returns False.
        """
        asked = time.monotonic()
        # In a thread: requests in flight must not wait for the database.
        slots = await asyncio.to_thread(pace.reserve, self._lane, units)
        if not slots.reserved:
            await asyncio.sleep(min(slots.wait, _LOOK_EVERY))
            return False
        self._slots, self._left, self._followed = slots, units, False
        # Its clock was read soon after it was asked; where the answer took long, nobody knows when.
        transit = time.monotonic() - asked
        self._moved = transit if transit > _LATE else 0
        self._next = asked + self._moved + slots.wait
        return True

    async def turn(self, units: float, rest: float, goes_on: Callable[[], bool]) -> bool:
        """Wait for the slot of a message; False where it must not leave any more.

        `units` are the message's own, `rest` those of it and all after it in the window.
        `goes_on` is asked whenever new slots are needed, which may take long.
        """
        while True:
            self._move()
            await self._tell(at_once=units >= rest)
            # Used up early where some had passed, or where segments were underestimated.
            while self._left < units - 1e-6:
                if not goes_on():
                    return False
                await self.reserve(rest)
            wait = self._next - time.monotonic()
            await asyncio.sleep(wait)
            # A sleep may be too long, in a process that does other things besides.
            if wait <= 0 or time.monotonic() - self._next <= _LATE:
                break
        self._next += units * self._slots.spacing
        self._left -= units
        return True

    def _move(self) -> None:
        """Move the slots that are left to the present, where the next one has passed."""
        late = time.monotonic() - self._next
        if late > _LATE:
            self._next += late
            self._moved += late

    async def _tell(self, *, at_once: bool = False) -> None:
        """Tell the ledger how far slots have moved, or give up as many as have passed."""
        if not self._moved or (time.monotonic() - self._told < _TELL_EVERY and not at_once):
            return
        end = None
        if not self._followed:
            end = await asyncio.to_thread(pace.extend, self._lane, self._slots.end, self._moved)
            self._told = time.monotonic()
        if end is None:
            # Another sender's slots begin where these end.
            self._followed = True
            self._left -= self._moved / self._slots.spacing
        else:
            self._slots = replace(self._slots, end=end)
        self._moved = 0
