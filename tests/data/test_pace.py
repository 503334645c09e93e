"""Sending time is reserved, idle time is not saved up, and the rate may change at any moment."""

from datetime import UTC, datetime

import pytest

from data import pace
from data.pace import HEADROOM, Slots, extend, hold, reserve, set_rate

Clock = list[float]


@pytest.fixture
def at(database: str, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The database's clock, in seconds; a test sets it."""
    instant = [1000.0]
    monkeypatch.setattr(pace, "clock", lambda _: datetime.fromtimestamp(instant[0], UTC))
    return instant


def spacing(rate: float) -> float:
    return 1 / (rate * (1 - HEADROOM))


def test_reservations_follow_one_another_at_the_rate(at: Clock) -> None:
    set_rate("main|A", 100)
    starts = [reserve("main|A", 20).wait for _ in range(2)]
    assert starts == pytest.approx([0, 20 * spacing(100)])


def test_little_can_be_reserved_ahead(at: Clock) -> None:
    set_rate("main|A", 100)
    reserve("main|A", 300)
    full = reserve("main|A", 100)
    assert not full.reserved
    assert full.wait == pytest.approx(300 * spacing(100) - pace.HORIZON)
    at[0] += full.wait + 0.001
    assert reserve("main|A", 100).reserved


def test_a_lane_never_opens_with_a_burst(at: Clock) -> None:
    set_rate("main|A", 100)
    reserve("main|A", 100)
    at[0] = 5000
    starts = [reserve("main|A", 20).wait for _ in range(2)]
    assert starts == pytest.approx([0, 20 * spacing(100)])


def test_lanes_do_not_wait_for_each_other(at: Clock) -> None:
    set_rate("main|A", 1)
    set_rate("main|B", 1)
    reserve("main|A", 100)
    assert reserve("main|B", 100).wait == 0


def test_a_new_rate_counts_from_the_next_reservation(at: Clock) -> None:
    set_rate("main|A", 10)
    reserve("main|A", 2)
    set_rate("main|A", 50)
    assert reserve("main|A", 1).spacing == pytest.approx(spacing(50))


def test_a_slow_lane_takes_a_new_rate_without_waiting_for_its_next_slot(at: Clock) -> None:
    set_rate("main|A", 0.01)
    reserve("main|A", 1)
    set_rate("main|A", 50)
    at[0] += 1.01
    assert reserve("main|A", 1).reserved


@pytest.mark.parametrize("rate", [0, None], ids=["a rate of 0", "no rate yet"])
def test_without_a_rate_nothing_leaves(at: Clock, rate: float | None) -> None:
    if rate is not None:
        set_rate("main|A", rate)
    assert reserve("main|A", 1) == Slots(pace.HELD_WAIT)


def test_a_lane_that_is_held_opens_when_the_time_is_over(at: Clock) -> None:
    set_rate("main|A", 100)
    hold("main|A", 30)
    assert not reserve("main|A", 1).reserved
    at[0] += 30
    assert reserve("main|A", 1).wait == 0


def test_holding_never_shortens_what_is_reserved(at: Clock) -> None:
    set_rate("main|A", 1)
    reserve("main|A", 20)
    hold("main|A", 5)
    assert reserve("main|A", 1).wait == pytest.approx(20 * spacing(1) - pace.HORIZON)


def test_a_lane_does_not_wait_for_a_clock_that_was_set_back(at: Clock) -> None:
    set_rate("main|A", 10)
    reserve("main|A", 1)
    at[0] -= 3600
    assert reserve("main|A", 1).wait == 0


def test_the_end_of_a_reservation_moves_with_its_late_sender(at: Clock) -> None:
    set_rate("main|A", 100)
    first = reserve("main|A", 10)
    assert extend("main|A", first.end, 0.1) == pytest.approx(first.end + 0.1)
    assert reserve("main|A", 1).wait == pytest.approx(10 * spacing(100) + 0.1)


def test_it_does_not_move_into_what_another_sender_has_reserved(at: Clock) -> None:
    set_rate("main|A", 100)
    first, second = reserve("main|A", 10), reserve("main|A", 10)
    assert extend("main|A", first.end, 0.1) is None
    assert reserve("main|A", 1).wait == pytest.approx(second.wait + 10 * spacing(100))
