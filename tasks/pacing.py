"""The spacing of messages inside a window: each leaves in its own slot of the lane, never early.

Slots are reserved in the ledger (`data.pace`). Where one could not be used in time, those after it
move with it, or are reserved anew: catching up would be a burst. Does not import Prefect.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from data import pace

_LATE = pace.HEADROOM
"""Seconds that a message may leave after its slot."""
_TELL_EVERY = 0.05
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
        self._slots, self._left, self._moved = slots, units, 0
        self._next = asked + slots.wait
        return True

    async def turn(self, units: float, rest: float, goes_on: Callable[[], bool]) -> bool:
        """Wait for the slot of a message; False where it must not leave any more.

        `units` are the message's own, `rest` those of it and all after it in the window.
        `goes_on` is asked whenever new slots are needed, which may take long.
        """
        self._move()
        # Segments are estimated when they are reserved.
        used_up = self._left < units - 1e-6
        if used_up or (self._moved and not await self._tell()):
            while goes_on():
                if await self.reserve(rest):
                    break
            else:
                return False
        await asyncio.sleep(self._next - time.monotonic())
        self._next += units * self._slots.spacing
        self._left -= units
        return True

    def _move(self) -> None:
        """Move the slots that are left to the present, where the next one has passed."""
        late = time.monotonic() - self._next
        if late > _LATE:
            self._next += late
            self._moved += late

    async def _tell(self) -> bool:
        """Tell the ledger how far the slots have moved; False: the lane goes on without us."""
        if time.monotonic() - self._told < _TELL_EVERY:
            return True
        end = await asyncio.to_thread(pace.extend, self._lane, self._slots.end, self._moved)
        self._told = time.monotonic()
        if end is None:
            return False
        self._slots, self._moved = replace(self._slots, end=end), 0
        self._move()
        return True
