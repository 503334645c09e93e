"""Holiday calendars: on which dates a country or a subdivision of one is closed.

Here: the `holidays` package, and the days that a list beside the rules adds or takes away. Not
here: which rule keeps which calendar (data.rules), hours in time zones (tasks.windows).
"""

import csv
import re
from datetime import date
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import holidays

from data.rule_files import RulesError
from data.settings import PROJECT, settings

PRODUCT_LIST = PROJECT / "data" / "rules" / "holidays.csv"
COMPANY_LIST = "holidays.csv"
"""Name of the company's own list, in the folder that SMS_RULES names."""
COLUMNS = ("calendar", "date", "closed", "name", "source")

_CALENDAR = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


class Override(NamedTuple):
    """A day that a list adds to a calendar, or takes from it."""

    calendar: str
    day: date
    closed: bool


def library_version() -> str:
    """Return the version of the `holidays` package in force, such as `0.109`."""
    return metadata.version("holidays")


def closed_days(calendar: str, first: date, last: date) -> frozenset[date]:
    """Return the holidays from `first` to `last`, both included, observed days among them.

    `calendar` is a country (`FR`) or a subdivision (`US-LA`, which has the country's days as well).
    A company's list outweighs the product's, and both outweigh the package. Raises `RulesError`
    for a calendar that the package does not know, and for a line of a list that cannot be meant.
    """
    company = settings().rules
    return frozenset(
        day
        for year in range(first.year, last.year + 1)
        for day in _of_year(calendar, year, company)
        if first <= day <= last
    )


@lru_cache(maxsize=1024)
def _of_year(calendar: str, year: int, company: Path | None) -> frozenset[date]:
    days = _of_package(calendar, year)
    country = calendar.partition("-")[0]
    for override in _overrides(company):
        # What closes a country closes its subdivisions; what opens it says nothing of them.
        concerned = (calendar, country) if override.closed else (calendar,)
        if override.calendar in concerned and override.day.year == year:
            (days.add if override.closed else days.discard)(override.day)
    return frozenset(days)


def _of_package(calendar: str, year: int) -> set[date]:
    country, _, subdivision = calendar.partition("-")
    try:
        # Observed days are those of the year they lie in, not of their holiday's.
        found = holidays.country_holidays(country, subdiv=subdivision or None, years=year)
    except NotImplementedError:
        raise RulesError(
            f"{calendar}: the holidays package {library_version()} has no such calendar; use a "
            "country such as FR or a subdivision such as US-LA"
        ) from None
    return set(found)


@lru_cache(maxsize=8)
def _overrides(company: Path | None) -> tuple[Override, ...]:
    """The lines of the product's list, then those of the company's, which have the last word."""
    lists = [PRODUCT_LIST]
    if company is not None and (own := company / COMPANY_LIST).is_file():
        lists.append(own)
    return tuple(override for path in lists for override in read_list(path))


def read_list(path: Path) -> list[Override]:
    """Return the lines of a list with the columns calendar, date, closed (yes, no), name, source.

    Raises `RulesError`, with the file and the line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    reader = csv.reader(text.splitlines(), strict=True)
    found: dict[tuple[str, date], Override] = {}
    try:
        if tuple(next(reader, ())) != COLUMNS:
            raise ValueError(f"the first line must be {','.join(COLUMNS)}")
        for cells in reader:
            if not cells:
                continue
            override = _override(cells)
            if found.setdefault(override[:2], override) is not override:
                raise ValueError(f"{override.calendar} {override.day} is given twice; remove one")
    except (ValueError, csv.Error, RulesError) as error:
        raise RulesError(f"{path}, line {max(reader.line_num, 1)}: {error}") from None
    return list(found.values())


def _override(cells: list[str]) -> Override:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} cells instead of {len(COLUMNS)}: {','.join(COLUMNS)}")
    calendar, day, closed, name, source = (cell.strip() for cell in cells)
    if not _CALENDAR.fullmatch(calendar):
        raise ValueError(f"calendar: {calendar!r} is none; write a country (FR) or part (US-LA)")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
        raise ValueError(f"date: {day!r} is none; write it as 2026-12-24")
    if closed not in ("yes", "no"):
        raise ValueError(f"closed: {closed!r} is neither yes nor no")
    for column, cell in (("name", name), ("source", source)):
        if not cell:
            raise ValueError(f"{column}: is empty; say what day it is and where that is written")
    try:
        found = date.fromisoformat(day)
    except ValueError as error:
        raise ValueError(f"date: {day}: {error}") from None
    _of_package(calendar, found.year)
    return Override(calendar, found, closed == "yes")
