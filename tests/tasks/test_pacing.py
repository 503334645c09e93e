"""Each message leaves in its own slot: never early, and never in a burst after a delay.

Time is the tests' own: a sleep passes it at once, so that nothing depends on the machine.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from itertools import chain, pairwise
from typing import Any

import pytest

from data import pace
from tasks.pacing import Pacer

LANE = "main|A"
RATE = 100
SPACING = 1 / (RATE * (1 - pace.HEADROOM))
ROOM = pace.HEADROOM + 1e-6
"""Seconds that a message may be late without those after it being put off."""


class _Instant(selectors.DefaultSelector):
    """Passes the time that it would wait."""

    now = 1_000_000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += max(timeout or 0, 0)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock only moves when everybody waits."""

    def __init__(self) -> None:
        self.instant = _Instant()
        super().__init__(self.instant)

    def time(self) -> float:
        return self.instant.now

    def stall(self, seconds: float) -> None:
        """Let time pass as when the process does something else."""
        self.instant.now += seconds


Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a coroutine on the lane, in the tests' own time."""
    loop = Loop()

    async def here(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr("tasks.pacing.time.monotonic", loop.time)
    monkeypatch.setattr("tasks.pacing.asyncio.to_thread", here)
    monkeypatch.setattr(pace, "clock", lambda _: datetime.fromtimestamp(loop.time(), UTC))
    pace.set_rate(LANE, RATE)

    def running(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return loop.run_until_complete(coroutine)

    return running


async def window(
    count: int, *, units: float = 1, reserved: float = 0, stall: tuple[int, float] = (-1, 0)
) -> list[float]:
    """When the messages of one window left. `stall`: before which one, and for how long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    pacer = Pacer(LANE)
    while not await pacer.reserve(reserved or count * units):
        pass
    left = []
    for place in range(count):
        if place == stall[0]:
            loop.stall(stall[1])
        assert await pacer.turn(units, (count - place) * units, lambda: True)
        left.append(loop.time())
    return left


def gaps_over(times: list[float], count: int) -> list[float]:
    """Seconds from each message to the one so many places later."""
    return [later - earlier for earlier, later in zip(times, times[count:], strict=False)]


def test_messages_leave_one_slot_apart(run: Run) -> None:
    left = run(window(30))
    assert min(gaps_over(left, 10)) >= 10 * SPACING - ROOM


def test_a_delay_is_not_caught_up_on(run: Run) -> None:
    left = run(window(30, stall=(10, 0.2)))
    assert left[10] - left[9] == pytest.approx(0.2)
    assert min(gaps_over(left, 5)) >= 5 * SPACING - ROOM


def test_a_late_sender_puts_off_who_comes_after_it(run: Run) -> None:
    first = run(window(20, stall=(10, 0.3)))
    second = run(window(5))
    assert second[0] - first[-1] >= SPACING - ROOM


def test_senders_that_share_a_lane_share_its_rate(run: Run) -> None:
    async def both() -> list[float]:
        return sorted(chain(*await asyncio.gather(*(window(20) for _ in range(3)))))

    assert min(gaps_over(run(both()), 20)) >= 20 * SPACING - ROOM


def test_a_late_sender_gives_up_the_slots_that_have_passed_where_others_follow(run: Run) -> None:
    async def both() -> list[float]:
        late = asyncio.create_task(window(30, stall=(25, 0.15)))
        await asyncio.sleep(0)
        return sorted(await late + await asyncio.create_task(window(20)))

    assert min(gaps_over(run(both()), 10)) >= 10 * SPACING - ROOM


def test_a_message_of_several_segments_takes_as_many_slots(run: Run) -> None:
    left = run(window(6, units=3))
    assert all(later - earlier >= 3 * SPACING - ROOM for earlier, later in pairwise(left))


def test_more_slots_are_reserved_where_segments_were_underestimated(run: Run) -> None:
    left = run(window(10, units=2, reserved=10))
    assert left[-1] - left[0] >= 18 * SPACING - ROOM


def test_a_message_does_not_wait_for_a_lane_that_is_held_once_its_run_is_over(run: Run) -> None:
    async def held() -> bool:
        pacer = Pacer(LANE)
        assert await pacer.reserve(1)
        assert await pacer.turn(1, 2, lambda: True)
        pace.set_rate(LANE, 0)
        asked: list[bool] = []
        return await pacer.turn(1, 1, lambda: not asked and not asked.append(True))

    assert run(held()) is False
