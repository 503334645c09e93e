"""Sending time is reserved, and idle time is not saved up."""

from data.pace import reserve


def test_reservations_follow_one_another_at_the_rate(database: str) -> None:
    starts = [reserve("main|A", 50, rate=100, now=1000.0) for _ in range(3)]
    assert starts == [1000.0, 1000.5, 1001.0]


def test_a_lane_never_opens_with_a_burst(database: str) -> None:
    reserve("main|A", 100, rate=100, now=1000.0)
    assert reserve("main|A", 100, rate=100, now=5000.0) == 5000.0


def test_lanes_do_not_wait_for_each_other(database: str) -> None:
    reserve("main|A", 100, rate=1, now=1000.0)
    assert reserve("main|B", 100, rate=1, now=1000.0) == 1000.0
