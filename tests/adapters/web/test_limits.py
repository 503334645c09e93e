"""What those may take who have proven nothing: refused requests, and lines in the log."""

import logging

import pytest

from adapters.web import limits
from adapters.web.limits import Refusals, Sparing, network


class Clock:
    """A clock that stands until it is moved."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "monotonic", clock)
    return clock


def refuse(refusals: Refusals, address: str, times: int) -> None:
    for _ in range(times):
        refusals.count(address)


def test_an_address_has_a_burst_and_then_one_a_second(clock: Clock) -> None:
    refusals = Refusals()
    refuse(refusals, "192.0.2.1", limits.BURST - 1)
    assert refusals.wait("192.0.2.1") == 0
    refuse(refusals, "192.0.2.1", 1)
    assert refusals.wait("192.0.2.1") == 1
    assert refusals.wait("192.0.2.2") == 0
    clock.now += 1
    assert refusals.wait("192.0.2.1") == 0
    refuse(refusals, "192.0.2.1", 1)
    assert refusals.wait("192.0.2.1") == 1
    clock.now += 3_600
    refuse(refusals, "192.0.2.1", limits.BURST - 1)
    assert refusals.wait("192.0.2.1") == 0


def test_an_address_with_signed_callbacks_is_never_limited(clock: Clock) -> None:
    refusals = Refusals()
    refuse(refusals, "192.0.2.1", 100)
    assert refusals.wait("192.0.2.1") > 0
    refusals.trust("192.0.2.1")
    refuse(refusals, "192.0.2.1", 100)
    assert refusals.wait("192.0.2.1") == 0


def test_the_table_of_addresses_is_bounded_and_forgets_the_oldest(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_ADDRESSES", 100)
    refusals = Refusals()
    refuse(refusals, "192.0.2.1", 100)
    for place in range(99):
        refusals.count(f"198.51.100.{place}")
        refusals.trust(f"203.0.113.{place}")
    refusals.count("192.0.2.1")
    for place in range(99):
        refusals.count(f"198.51.101.{place}")
        refusals.trust(f"203.0.114.{place}")
    assert (len(refusals._whole_at), len(refusals._signed)) == (100, 100)
    assert refusals.wait("192.0.2.1") > 0, "the one that goes on was forgotten"


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("x" * 9_000, "x" * 64),
    ],
)
def test_one_caller_is_an_address_or_a_network(address: str, counted: str) -> None:
    assert network(address) == counted


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("adapters.web", logging.WARNING, "", 0, text, args, None)


def test_a_repeated_line_is_kept_back_and_counted(clock: Clock) -> None:
    sparing = Sparing()
    flood = [sparing.filter(record("gateway %s: unsigned", "main")) for _ in range(1_000)]
    assert flood == [True] * 5 + [False] * 995
    assert sparing.filter(record("another"))
    clock.now += 61
    later = record("gateway %s: unsigned", "main")
    assert sparing.filter(later)
    assert later.getMessage() == "gateway main: unsigned (and 995 more like it)"
    clock.now += 61
    last = record("gateway %s: unsigned", "main")
    assert sparing.filter(last)
    assert last.getMessage() == "gateway main: unsigned"


def test_the_kinds_of_lines_that_are_remembered_are_bounded(clock: Clock) -> None:
    sparing = Sparing()
    for place in range(5_000):
        sparing.filter(record(f"line {place}"))
    assert len(sparing._seen) <= 1_000
