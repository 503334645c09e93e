"""Hours as people write them in a campaign. What hours mean in a time zone is in tasks.windows."""

import re
from itertools import pairwise

from data.rules import WEEKDAYS, Windows, parse_windows

_TIME = r"(?:[01]?\d|2[0-4]):[0-5]\d"
_HOURS = re.compile(rf"(?P<days>[a-z ,-]*?)\s*(?P<start>{_TIME})\s*[-–]\s*(?P<end>{_TIME})")


def parse_hours(text: str) -> Windows | None:
    """Read `09:00-18:00` or `mon-fri 09:00-18:00, sat 10:00-14:00`; None where it is blank.

    Weekdays that are not named are closed; hours without weekdays are those of every day. Raises
    ValueError, in words.
    """
    if not text.strip():
        return None
    days: dict[str, list[list[str]]] = {}
    for part in re.split(r"(?<=\d)\s*[,;\n]\s*", text.strip().casefold()):
        found = _HOURS.fullmatch(part)
        if found is None:
            raise ValueError(
                f"{part!r} is not understood: write 09:00-18:00, or"
                " mon-fri 09:00-18:00, sat 10:00-14:00"
            )
        pair = [clock.zfill(5) for clock in (found["start"], found["end"])]
        for day in _weekdays(found["days"]):
            days.setdefault(day, []).append(pair)
    windows = parse_windows(days)
    for day, of_day in zip(WEEKDAYS, windows, strict=True):
        ordered = sorted(of_day)
        if any(end > start for (_, end), (start, _) in pairwise(ordered)):
            raise ValueError(f"its hours of {day} overlap: make them one")
    return tuple(tuple(sorted(of_day)) for of_day in windows)


def _weekdays(text: str) -> list[str]:
    if not text.strip():
        return list(WEEKDAYS)
    named: list[str] = []
    for part in re.split(r"[\s,]+", re.sub(r"\s*-\s*", "-", text.strip())):
        first, _, last = part.partition("-")
        ends = [day[:3] for day in (first, last or first)]
        if unknown := [day for day in ends if day not in WEEKDAYS]:
            raise ValueError(f"{unknown[0]!r} is no weekday: use {', '.join(WEEKDAYS)}")
        begin, end = (WEEKDAYS.index(day) for day in ends)
        named += [WEEKDAYS[at % 7] for at in range(begin, end + 1 + 7 * (end < begin))]
    return named
