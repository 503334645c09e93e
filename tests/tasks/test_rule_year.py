"""A year of instants for every rule that has hours: two evaluations must agree on each of them."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from data.rules import Rule, Rules
from data.settings import PROJECT
from tasks.windows import Hours, Span, open_span
from tests.tasks.plain_hours import clock, closed, edges, in_window

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

# One or two zones of each place that has hours. A new rule needs its place here.
_EAST, _CENTRAL = "America/New_York", "America/Chicago"
ZONES: dict[str, tuple[str, ...]] = {
    # 45 minutes off; and clocks that the tzdata of 2025 still changes in late 2026.
    "*": ("Asia/Kathmandu", "Pacific/Chatham", "America/Vancouver", "Africa/Casablanca"),
    "US": (_EAST, "America/Los_Angeles", "Pacific/Honolulu"),
    "US-AL": (_CENTRAL,),
    "US-CT": (_EAST,),
    "US-FL": (_EAST, _CENTRAL),
    "US-KY": (_EAST, _CENTRAL),
    "US-LA": (_CENTRAL,),
    "US-MA": (_EAST,),
    "US-MD": (_EAST,),
    "US-MI": ("America/Detroit", "America/Menominee"),
    "US-MN": (_CENTRAL,),
    "US-MS": (_CENTRAL,),
    "US-NJ": (_EAST,),
    "US-NM": ("America/Denver",),
    "US-NV": ("America/Los_Angeles", "America/Boise"),
    "US-NY": (_EAST,),
    "US-OK": (_CENTRAL,),
    "US-PA": (_EAST,),
    "US-RI": (_EAST,),
    "US-TX": (_CENTRAL, "America/Denver"),
    "US-UT": ("America/Denver",),
    "US-VA": (_EAST,),
    "US-WA": ("America/Los_Angeles",),
    "PR": ("America/Puerto_Rico",),
    "VI": ("America/St_Thomas",),
    "GU": ("Pacific/Guam",),
    "AS": ("Pacific/Pago_Pago",),
    "MP": ("Pacific/Saipan",),
    "AE": ("Asia/Dubai",),
    "AU": ("Australia/Sydney", "Australia/Lord_Howe"),
    "BR": ("America/Sao_Paulo", "America/Rio_Branco"),
    "CA": ("America/St_Johns", "America/Vancouver"),
    "CN": ("Asia/Shanghai",),
    "FR": ("Europe/Paris",),
    "IN": ("Asia/Kolkata",),
    "IT": ("Europe/Rome",),
    "KE": ("Africa/Nairobi",),
    "MX": ("America/Mexico_City", "America/Tijuana"),
    "NG": ("Africa/Lagos",),
    "PH": ("Asia/Manila",),
    "SA": ("Asia/Riyadh",),
    "ZA": ("Africa/Johannesburg",),
}


@cache
def grid() -> tuple[datetime, ...]:
    """Every quarter of an hour of the year."""
    return tuple(BEGIN + timedelta(minutes=15 * number) for number in range(365 * 96))


@cache
def walls(zone: str) -> tuple[datetime, ...]:
    """What the clock on the wall shows at each instant of the grid."""
    return tuple(at.astimezone(clock(zone)) for at in grid())


def with_hours() -> list[Rule]:
    """The product's rows, those of the strict profile among them."""
    rows = Rules(PROJECT / "data" / "rules", profile="strict").rows
    return [row for row in rows if row.step == "sending_window"]


def zones_of(rule: Rule) -> set[str]:
    """The zones of every place of a rule. A place that is not listed above is an error."""
    suffix = f"-{rule.subdivision}" if rule.subdivision else ""
    return {zone for country in rule.countries for zone in ZONES[country + suffix]}


def openings(zone: str, hours: Hours) -> list[Span]:
    """Every opening of the year, each found from the end of the one before it."""
    found, at = [], BEGIN
    while at < END:
        span = open_span(zone, at, (hours,))
        if span is None:
            break
        assert span.closes_at > at
        found.append(span)
        at = span.closes_at
    return found


@pytest.mark.parametrize("rule", [pytest.param(row, id=row.id) for row in with_hours()])
def test_a_year_of_a_rule_agrees_with_a_look_at_the_clock(rule: Rule) -> None:
    assert rule.windows is not None
    hours = Hours(rule.windows, rule.holidays, rule.effective_from, rule.effective_to)
    kept = closed(rule.holidays) if rule.holidays else frozenset()

    def is_open(at: datetime, wall: datetime) -> bool:
        if rule.effective_from is not None and at < rule.effective_from:
            return True
        if rule.effective_to is not None and at >= rule.effective_to:
            return True
        return in_window(wall, rule.windows, kept)

    for zone in zones_of(rule):
        spans = openings(zone, hours)
        starts = [span.opens_at for span in spans]

        def found_open(at: datetime, spans: list[Span] = spans, starts: list = starts) -> bool:
            place = bisect_right(starts, at) - 1
            return place >= 0 and at < spans[place].closes_at

        beside = [at for at in edges(zone, rule.windows, 2026) if BEGIN <= at < END]
        looked_at = [
            *zip(grid(), walls(zone), strict=True),
            *((at, at.astimezone(clock(zone))) for at in beside),
        ]
        wrong = [str(at) for at, wall in looked_at if found_open(at) != is_open(at, wall)]
        assert not wrong, f"{zone}: {len(wrong)} instants, the first ones {wrong[:3]}"

        # Asked from anywhere, the answer is the same opening: none earlier, and its whole rest.
        for at in grid()[:-400:193]:
            expected = next(span for span in spans if span.closes_at > at)
            assert open_span(zone, at, (hours,)) == expected._replace(
                opens_at=max(expected.opens_at, at)
            )


def test_the_rows_looked_at_are_those_of_many_places() -> None:
    rows = with_hours()
    assert any("*" in row.countries for row in rows)
    assert {"US", "FR", "ZA"} <= {country for row in rows for country in row.countries}
    assert {"LA", "RI", "FL"} <= {row.subdivision for row in rows}
    assert sum(row.holidays is not None for row in rows) >= 4
