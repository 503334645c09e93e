"""Countries, their subdivisions, and the area codes of North America.

Here: what exists, from the tables beside this file. Not here: what a column of an audience says
(tasks.places, tasks.audience) or which rules hold where (data.rules).
"""

import csv
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["AreaCode", "area_codes", "country_codes", "read_subdivision", "subdivision_codes"]


class AreaCode(NamedTuple):
    """Where the numbers of a North American area code are from."""

    country: str
    subdivisions: frozenset[str]
    """ISO 3166-2 without the country; one code may serve two provinces."""
    zones: frozenset[str]
    """Every IANA time zone that the area reaches into."""


@cache
def area_codes() -> dict[str, AreaCode]:
    """Return `data/area_codes.csv` by its three digits."""
    return {
        row["area_code"]: AreaCode(
            row["country"],
            frozenset(filter(None, row["subdivision"].split("|"))),
            frozenset(row["zones"].split("|")),
        )
        for row in _table("area_codes.csv")
    }


@cache
def country_codes() -> frozenset[str]:
    """Return the ISO 3166-1 codes that exist, and XK, AC and TA, which have numbers too."""
    return frozenset(row["alpha2"] for row in _table("countries.csv"))


def subdivision_codes(country: str) -> frozenset[str]:
    """Return the codes that `data/subdivisions.csv` has of a country; none: it is not listed."""
    return frozenset(_readings().get(country, {}).values())


def read_subdivision(country: str, text: str) -> str | None:
    """Return the code of a written subdivision: `FL`, `us-fl` or `Florida`; None: it is none.

    Of a country that is not listed, whatever has the form of a code counts as one.
    """
    key = _key(text)
    known = _readings().get(country)
    local = key.removeprefix(f"{country.lower()} ")
    if known is None:
        return local.upper() if re.fullmatch(r"[a-z0-9]{1,3}", local) else None
    return known.get(key) or known.get(local)


@cache
def _readings() -> dict[str, dict[str, str]]:
    readings: dict[str, dict[str, str]] = {}
    for row in _table("subdivisions.csv"):
        forms = readings.setdefault(row["country"], {})
        for form in (row["code"], *row["names"].split("|")):
            forms[_key(form)] = row["code"]
    return readings


def _key(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text).replace(".", "").replace("-", " ").casefold()
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).split())


def _table(name: str) -> Iterator[dict[str, str]]:
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
