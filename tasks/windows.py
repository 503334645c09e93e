"""Hours: when a local wall-time window is open in every time zone that a number may be in.

Here: instants and zones. Not here: which window applies to whom (data.rules, tasks.consent).
An instant is open in a zone when the clock on the wall there shows a time inside the window, so
skipped local times open with the first time that exists, and repeated ones open twice.
"""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import tzdata  # type: ignore[import-untyped]  # the package is data and one constant

from data.errors import SmsError
from data.rules import Windows

# zoneinfo prefers the system's copy, which can be a year old: on 1 December 2026 a copy of 2025
# is an hour wrong in Vancouver. Only the pinned PyPI package counts, and runs store its version.
# The cache may already hold zones that others made from the system's copy.
zoneinfo.reset_tzpath(to=())
zoneinfo.ZoneInfo.clear_cache()

_HOUR, _DAY, _WEEK = 3600, 86_400, 7 * 86_400
_SEARCH_DAYS = 8
# What is computed and kept at one time: the day of the question, the days searched, and room for
# the opening found last to end in.
_KEPT_DAYS = _SEARCH_DAYS + 4

Interval = tuple[int, int]
"""Half-open, in seconds of Unix time (or of local time where it says so)."""


class ZoneError(SmsError):
    """A time zone that the installed tzdata does not know."""


class Span(NamedTuple):
    """A common opening: from `opens_at` until before `closes_at`, both UTC."""

    opens_at: datetime
    closes_at: datetime


def tzdata_version() -> str:
    """Return the IANA version of the time zone data in force, such as `2026f`."""
    return str(tzdata.IANA_VERSION)


@lru_cache(maxsize=4096)
def zones_known(zones: str) -> bool:
    """Whether a comma-joined list names at least one zone, and only zones that exist."""
    try:
        return bool([_zone(name) for name in zones.split(",")])
    except ZoneError:
        return False


def open_span(zones: str, at: datetime, windows: Windows) -> Span | None:
    """Return the earliest opening at or after `at` that every zone shares, or None.

    `zones` is joined by commas; `at` has a time zone; None means that nothing opens within eight
    days. `closes_at` is the end of that opening, or an instant more than eight days after `at`
    where it lasts longer. Raises `ZoneError` for a zone that tzdata does not know, ValueError for
    an `at` without a zone.
    """
    if at.tzinfo is None:
        raise ValueError("hours can only be judged at an instant with a time zone")
    moment = at.timestamp()
    day = int(moment // _DAY)
    for start, end in _common(zones, windows, day):
        if end <= moment:
            continue
        if start > moment + _SEARCH_DAYS * _DAY:
            break
        opens_at = at.astimezone(UTC) if start <= moment else datetime.fromtimestamp(start, UTC)
        return Span(opens_at, datetime.fromtimestamp(end, UTC))
    return None


@lru_cache(maxsize=1024)
def intersection(one: Windows, other: Windows) -> Windows:
    """Return the windows that are open where both are."""
    # A week is a circle: the second list is laid out over three turns of it.
    turns = [
        (start + turn, end + turn) for turn in (-10_080, 0, 10_080) for start, end in _week(other)
    ]
    both = _intersect(_merge(_week(one)), _merge(turns))
    days: list[list[Interval]] = [[] for _ in range(7)]
    for start, end in both:
        # Cut at midnights: a window may reach into the day after its own, not further.
        for day in range(start // 1440, (end - 1) // 1440 + 1):
            begin = max(start - day * 1440, 0)
            days[day % 7].append((begin, min(end - day * 1440, 1440)))
    return tuple(tuple(sorted(pairs)) for pairs in days)


def _week(windows: Windows) -> list[Interval]:
    """The windows in minutes from Monday's midnight."""
    return [
        (day * 1440 + start, day * 1440 + end)
        for day, pairs in enumerate(windows)
        for start, end in pairs
    ]


@lru_cache(maxsize=4096)
def _common(zones: str, windows: Windows, day: int) -> tuple[Interval, ...]:
    """The openings that every zone shares, from the UTC day `day` (since 1970) on."""
    names = zones.split(",")
    shared = _openings(names[0], windows, day)
    for name in names[1:]:
        shared = tuple(_intersect(shared, _openings(name, windows, day)))
    return shared


@lru_cache(maxsize=4096)
def _openings(name: str, windows: Windows, day: int) -> tuple[Interval, ...]:
    """The openings of one zone over the days kept, in order."""
    found: list[Interval] = []
    for start, end, offset in _offsets(name, day):
        # Between two changes of the clock, local time is UTC and a constant.
        for opens, closes in _local(windows, start + offset, end + offset):
            clipped = max(opens - offset, start), min(closes - offset, end)
            if clipped[0] < clipped[1]:
                found.append(clipped)
    return tuple(_merge(found))


def _local(windows: Windows, start: int, end: int) -> Iterator[Interval]:
    """The windows that touch a stretch of local time, both in local seconds since 1970."""
    for date in range(start // _DAY - 1, end // _DAY + 1):
        # 1970-01-01 was a Thursday.
        for opens, closes in windows[(date + 3) % 7]:
            yield date * _DAY + opens * 60, date * _DAY + closes * 60


@lru_cache(maxsize=4096)
def _offsets(name: str, day: int) -> tuple[tuple[int, int, int], ...]:
    """The stretches of constant UTC offset over the days kept: start, end, offset in seconds."""
    zone = _zone(name)

    def offset(moment: int) -> int:
        distance = datetime.fromtimestamp(moment, zone).utcoffset() or timedelta()
        return int(distance.total_seconds())

    begin, finish = day * _DAY, (day + _KEPT_DAYS) * _DAY
    stretches = []
    start, here = begin, offset(begin)
    # zoneinfo does not tell its transitions; no zone has two of them within six hours.
    for probe in range(begin, finish, 6 * _HOUR):
        later = probe + 6 * _HOUR
        if offset(later) == here:
            continue
        low, high = probe, later
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == here else (low, middle)
        stretches.append((start, high, here))
        start, here = high, offset(high)
    return (*stretches, (start, finish, here))


# zoneinfo's own cache keeps eight zones and reads the file of every other one anew.
@lru_cache(maxsize=1024)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ZoneError(
            f"{name[:40]!r} is no time zone of tzdata {tzdata_version()}: use a name such as "
            "America/New_York"
        ) from None


def _merge(intervals: list[Interval]) -> list[Interval]:
    """Sort intervals and join those that overlap or touch."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _intersect(
    one: tuple[Interval, ...] | list[Interval], other: tuple[Interval, ...] | list[Interval]
) -> list[Interval]:
    """The parts that two sorted lists of separate intervals share."""
    shared = []
    left, right = iter(one), iter(other)
    a, b = next(left, None), next(right, None)
    while a and b:
        start, end = max(a[0], b[0]), min(a[1], b[1])
        if start < end:
            shared.append((start, end))
        if a[1] < b[1]:
            a = next(left, None)
        else:
            b = next(right, None)
    return shared
