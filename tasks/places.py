"""Where a number may be: its subdivisions and its time zones, a column at a time.

Here: what the area code and the address say, together. Not here: the tables (data.geography),
what phonenumbers knows of time zones (tasks.phones), or which rules follow (data.rules).
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from data.geography import area_codes, read_subdivision
from tasks import phones

UNREADABLE = "?"
"""Stands among subdivisions for an address value that is none of its country."""


def subdivisions(e164: pd.Series, region: pd.Series, address: pd.Series) -> pd.Series:
    """Return the subdivisions whose rules may apply: of the area code and of the address.

    `region` is the number's ISO country; `address` a code in any case (`FL`, `US-FL`) or the name
    (`Florida`), missing or blank where nobody knows. Each result is sorted and joined by commas:
    `AL,FL`; `?` stands for an address value that is no subdivision of the country, and nothing
    for no knowledge at all. ISO 3166-2 without the country.
    """
    of_address = _pairwise(region, address, _read)
    return _pairwise(_beginning(e164), of_address, _places).rename("subdivisions")


def candidate_zones(e164: pd.Series) -> pd.Series:
    """Return every IANA time zone a number may be in, sorted and joined by commas.

    Those of phonenumbers, and for the area codes of North America all that the area reaches into:
    phonenumbers names one for most codes that are split. Empty for missing and invalid numbers.
    """
    return _pairwise(_beginning(e164), phones.time_zones(e164), _zones).rename("zones")


def _beginning(e164: pd.Series) -> pd.Series:
    """What holds the area code of a North American number: `+1212`."""
    return e164.astype("str").str.slice(0, 5)


def _places(beginning: str, address: str) -> str:
    area = area_codes().get(beginning.removeprefix("+1"))
    return _united(area.subdivisions if area else (), address)


def _zones(beginning: str, zones: str) -> str:
    area = area_codes().get(beginning.removeprefix("+1"))
    return _united(area.zones if area and zones else (), zones)


def _read(country: str, text: str) -> str:
    if not text.strip():
        return ""
    return read_subdivision(country, text) or UNREADABLE


def _united(some: Iterable[str], joined: str) -> str:
    return ",".join(sorted({*some, *joined.split(",")} - {""}))


def _pairwise(left: pd.Series, right: pd.Series, answer: Callable[[str, str], str]) -> pd.Series:
    """Apply a function of two texts to two columns, once for each distinct pair."""
    left_codes, left_values = pd.factorize(left.astype("str").fillna(""))
    right_codes, right_values = pd.factorize(right.astype("str").fillna(""))
    places, pairs = pd.factorize(left_codes.astype(np.int64) * len(right_values) + right_codes)
    answers = [
        answer(left_values[pair // len(right_values)], right_values[pair % len(right_values)])
        for pair in pairs.tolist()
    ]
    return pd.Series(pd.array(answers, dtype="str").take(places), index=left.index)
