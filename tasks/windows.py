"""Hours: when local wall-time windows are all open in every time zone that a number may be in.

Here: instants and zones. Not here: which windows apply to whom (data.rules, tasks.consent), which
days are holidays (tasks.calendars).
An instant is open in a zone when the clock on the wall there shows a time inside the window, so
skipped local times open with the first time that exists, and repeated ones open twice.
"""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from math import ceil, floor, inf
from typing import NamedTuple

import tzdata  # type: ignore[import-untyped]  # the package is data and one constant

from data.errors import SmsError
from data.rules import Windows
from tasks.calendars import closed_days

# zoneinfo prefers the system's copy, which can be a year old: on 1 December 2026 a copy of 2025
# is an hour wrong in Vancouver. Only the pinned PyPI package counts, and runs store its version.
# The cache may already hold zones that others made from the system's copy.
zoneinfo.reset_tzpath(to=())
zoneinfo.ZoneInfo.clear_cache()

_HOUR, _DAY = 3600, 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_SEARCH_DAYS = 60
# How many days are laid out at one time. Nearly always the first few are enough; the last stretch
# has the day of the question, the days searched, and room for the opening found last to end in.
_STRETCHES = (8, _SEARCH_DAYS + 4)

Interval = tuple[int, int]
"""Half-open, in seconds of Unix time (or of local time where it says so)."""


class ZoneError(SmsError):
    """A time zone that the installed tzdata does not know."""


class Hours(NamedTuple):
    """Local wall-time windows, as one rule or one campaign has them.

    A window belongs to the date it starts on: none starts on a holiday of `calendar`, and one
    that started before runs on into it. Outside [begins, ends) nothing is restricted.
    """

    windows: Windows
    calendar: str | None = None
    begins: datetime | None = None
    ends: datetime | None = None


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


def open_span(zones: str, at: datetime, hours: tuple[Hours, ...]) -> Span | None:
    """Return the earliest opening at or after `at` that every zone and every Hours shares, or None.

    `zones` is joined by commas; `at` has a time zone; None means that nothing opens within sixty
    days. `closes_at` is the end of that opening, or an instant more than sixty days after `at`
    where it lasts longer. Raises `ZoneError` for a zone that tzdata does not know, `RulesError`
    for an unknown calendar, ValueError for an `at` without a zone.
    """
    moment = _seconds(at)
    day = int(moment // _DAY)
    for days in _STRETCHES:
        finish = (day + days) * _DAY
        plain = tuple(_plain(one, day, days) for one in hours)
        for start, end in _common(zones, plain, day, days):
            if end <= moment:
                continue
            if start > moment + _SEARCH_DAYS * _DAY:
                return None
            if end == finish and days != _STRETCHES[-1]:
                break
            opens_at = at.astimezone(UTC) if start <= moment else datetime.fromtimestamp(start, UTC)
            return Span(opens_at, datetime.fromtimestamp(end, UTC))
    return None


def is_closed_day(zones: str, at: datetime, hours: tuple[Hours, ...]) -> bool:
    """Whether at `at`, in some zone, it is a weekday or holiday without any window of some Hours.

    Raises as `open_span` does.
    """
    moment = _seconds(at)
    day = int(moment // _DAY)
    for one in (_plain(one, day, 1) for one in hours):
        if not one.begins <= moment < one.ends:
            continue
        for name in zones.split(","):
            local = at.astimezone(_zone(name)).toordinal()
            # The proleptic 0001-01-01, ordinal 1, was a Monday.
            if local in one.closed or not one.windows[(local - 1) % 7]:
                return True
    return False


class _Plain(NamedTuple):
    """Hours as far as a stretch of days needs them, so that what is kept rests on nothing else."""

    windows: Windows
    closed: frozenset[int]
    """Ordinals of holidays."""
    begins: float
    ends: float


def _plain(hours: Hours, day: int, days: int) -> _Plain:
    closed: frozenset[int] = frozenset()
    if hours.calendar is not None:
        # Local dates are up to a day off, and a window may have started the day before.
        first = date.fromordinal(_EPOCH + day - 2)
        found = closed_days(hours.calendar, first, first + timedelta(days=days + 4))
        closed = frozenset(holiday.toordinal() for holiday in found)
    begins = -inf if hours.begins is None else _seconds(hours.begins)
    ends = inf if hours.ends is None else _seconds(hours.ends)
    return _Plain(hours.windows, closed, begins, ends)


def _seconds(at: datetime) -> float:
    if at.tzinfo is None:
        raise ValueError("hours can only be judged at an instant with a time zone")
    return at.timestamp()


@lru_cache(maxsize=4096)
def _common(zones: str, hours: tuple[_Plain, ...], day: int, days: int) -> tuple[Interval, ...]:
    """The openings that all share over some days from the UTC day `day` (since 1970) on."""
    shared = [(day * _DAY, (day + days) * _DAY)]
    for name in zones.split(","):
        _zone(name)
        for one in hours:
            shared = _intersect(shared, _openings(name, one, day, days))
    return tuple(shared)


@lru_cache(maxsize=4096)
def _openings(name: str, hours: _Plain, day: int, days: int) -> tuple[Interval, ...]:
    """The openings of one zone over those days, in order."""
    first, last = day * _DAY, (day + days) * _DAY
    # Outside its dates it does not restrict: the whole of that time is open.
    found: list[Interval] = [
        (first, min(last, floor(max(hours.begins, first)))),
        (max(first, ceil(min(hours.ends, last))), last),
    ]
    for start, end, offset in _offsets(name, day, days):
        # Between two changes of the clock, local time is UTC and a constant.
        for opens, closes in _local(hours, start + offset, end + offset):
            found.append((max(opens - offset, start), min(closes - offset, end)))
    return tuple(_merge([(start, end) for start, end in found if start < end]))


def _local(hours: _Plain, start: int, end: int) -> Iterator[Interval]:
    """The windows that may touch a stretch of local time, both in local seconds since 1970."""
    for local in range(start // _DAY - 1, end // _DAY + 1):
        if local + _EPOCH in hours.closed:
            continue
        # 1970-01-01 was a Thursday.
        for opens, closes in hours.windows[(local + 3) % 7]:
            yield local * _DAY + opens * 60, local * _DAY + closes * 60


@lru_cache(maxsize=4096)
def _offsets(name: str, day: int, days: int) -> tuple[tuple[int, int, int], ...]:
    """The stretches of constant UTC offset over those days: start, end, offset in seconds."""
    zone = _zone(name)

    def offset(moment: int) -> int:
        distance = datetime.fromtimestamp(moment, zone).utcoffset() or timedelta()
        return int(distance.total_seconds())

    begin, finish = day * _DAY, (day + days) * _DAY
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
