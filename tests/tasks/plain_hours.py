"""The second evaluation of hours: looks at the clock on the wall, one instant at a time.

Here: whether one instant is open, as simply as it can be said. It shares no code with
tasks.windows and tasks.calendars, and is slow.
"""

import csv
import zoneinfo
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Protocol

import holidays

PRODUCT_LIST = Path(__file__).parents[2] / "data" / "rules" / "holidays.csv"
Days = tuple[tuple[tuple[int, int], ...], ...]


class Rows(Protocol):
    """Windows by weekday, the calendar they close on, and the time they are in force."""

    windows: Days
    calendar: str | None
    begins: datetime | None
    ends: datetime | None


@cache
def clock(zone: str) -> zoneinfo.ZoneInfo:
    """The zone from the file of the tzdata package, whatever the path is set to."""
    with resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file, key=zone)


@cache
def closed(calendar: str) -> frozenset[date]:
    """The holidays of 2025 to 2028, with what the product's own list says."""
    country, _, subdivision = calendar.partition("-")
    days = set(
        holidays.country_holidays(
            country, subdiv=subdivision or None, years=[2024, 2025, 2026, 2027, 2028, 2029]
        )
    )
    with PRODUCT_LIST.open(newline="") as file:
        for row in csv.DictReader(file):
            day = date.fromisoformat(row["date"])
            if row["calendar"] == calendar and row["closed"] == "no":
                days.remove(day)
            elif row["calendar"] in (calendar, country) and row["closed"] == "yes":
                days.add(day)
    return frozenset(days)


def in_window(wall: datetime, windows: Days, holidays_kept: frozenset[date]) -> bool:
    """Whether what a wall clock and calendar show lies in a window of today or yesterday."""
    today = wall.date()
    yesterday = today - timedelta(days=1)
    minute = wall.hour * 60 + wall.minute
    if today not in holidays_kept:
        for start, end in windows[today.weekday()]:
            if start <= minute < end:
                return True
    if yesterday not in holidays_kept:
        for start, end in windows[yesterday.weekday()]:
            if start <= minute + 24 * 60 < end:
                return True
    return False


def is_open(zones: str, at: datetime, hours: Iterable[Rows]) -> bool:
    """Whether an instant is open in every zone, by every row that is in force then."""
    for row in hours:
        if row.begins is not None and at < row.begins:
            continue
        if row.ends is not None and at >= row.ends:
            continue
        kept = closed(row.calendar) if row.calendar else frozenset()
        for zone in zones.split(","):
            if not in_window(at.astimezone(clock(zone)), row.windows, kept):
                return False
    return True


def edges(zone: str, windows: Days, year: int) -> list[datetime]:
    """The instants of a year around which a window may open or close, and a second beside each."""
    found = set()
    day = date(year, 1, 1)
    while day.year == year:
        for edge in {edge for pair in windows[day.weekday()] for edge in pair}:
            wall = datetime(day.year, day.month, day.day) + timedelta(minutes=edge)
            for fold in (0, 1):
                at = wall.replace(tzinfo=clock(zone), fold=fold).astimezone(UTC)
                found |= {at + timedelta(seconds=beside) for beside in (-1, 0, 1)}
        day += timedelta(days=1)
    return sorted(found)
