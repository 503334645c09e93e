"""Hours in time zones, against a clock that is simply looked at minute by minute."""

import zoneinfo
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.rules import WEEKDAYS, Windows, daily_window, parse_windows
from tasks.windows import ZoneError, intersection, open_span, tzdata_version, zones_known

DAY = daily_window("09:00", "20:00")
# Half-hour and 45-minute offsets, a half-hour and a two-hour clock change, changes at midnight,
# a zone that leaves its clock changes in 2026, and both sides of the date line.
ZONES = [
    *("America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"),
    *("America/St_Johns", "Pacific/Chatham", "Antarctica/Troll", "America/Havana", "Asia/Beirut"),
    *("Africa/Casablanca", "America/Vancouver", "Pacific/Kiritimati", "Pacific/Honolulu", "UTC"),
]
CLOCKS = {name: zoneinfo.ZoneInfo(name) for name in ZONES}


def z(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


def is_open(zones: str, at: datetime, windows: Windows) -> bool:
    """The definition: what the clock on the wall shows lies in a window, in every zone."""
    for zone in zones.split(","):
        wall = at.astimezone(CLOCKS[zone])
        minute = wall.hour * 60 + wall.minute
        today, yesterday = windows[wall.weekday()], windows[wall.weekday() - 1]
        if not any(start <= minute < end for start, end in today) and not any(
            start <= minute + 1440 < end for start, end in yesterday
        ):
            return False
    return True


clocks = st.integers(0, 95).map(lambda quarter: f"{quarter // 4:02}:{quarter % 4 * 15:02}")
weeks = st.dictionaries(
    st.sampled_from(WEEKDAYS), st.lists(st.tuples(clocks, clocks), max_size=2), min_size=1
).map(parse_windows)
zone_sets = st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True).map(
    lambda names: ",".join(sorted(names))
)
minutes = st.integers(0, 2 * 366 * 1440).map(lambda m: z("2026-01-01T00:00") + timedelta(minutes=m))


@settings(max_examples=60, deadline=None)
@given(zone_sets, minutes, weeks)
@example("America/New_York", z("2026-03-08T05:00"), daily_window("02:15", "02:45"))
@example("America/New_York", z("2026-11-01T04:00"), daily_window("01:15", "01:45"))
@example("Australia/Lord_Howe", z("2026-10-03T12:00"), daily_window("02:15", "05:00"))
@example("America/Havana", z("2026-11-01T03:00"), parse_windows({"sun": [["00:30", "04:00"]]}))
@example("Asia/Beirut", z("2026-10-24T19:00"), parse_windows({"sat": [["23:30", "00:00"]]}))
def test_the_span_is_the_first_common_opening_and_all_of_it(
    zones: str, at: datetime, windows: Windows
) -> None:
    span = open_span(zones, at, windows)

    searched = span.opens_at if span else at + timedelta(days=8)
    moment = at
    while moment < searched:
        assert not is_open(zones, moment, windows), f"opened at {moment} already"
        moment += timedelta(minutes=1)
    if span:
        assert is_open(zones, span.opens_at, windows)
        assert is_open(zones, span.closes_at - timedelta(minutes=1), windows)
        assert not is_open(zones, span.closes_at, windows) or span.closes_at > at + timedelta(8)
        step = (span.closes_at - span.opens_at) / 50
        assert all(is_open(zones, span.opens_at + step * part, windows) for part in range(50))


@pytest.mark.parametrize("zone", ZONES)
def test_at_no_hour_of_a_year_is_it_open_outside_the_local_window(zone: str) -> None:
    clock = CLOCKS[zone]
    for hour in range(0, 365 * 24):
        at = z("2026-01-01T00:20") + timedelta(hours=hour)
        span = open_span(zone, at, DAY)
        assert span is not None
        assert (span.opens_at == at) == (9 <= at.astimezone(clock).hour < 20)
        assert span.closes_at.astimezone(clock).hour == 20


@pytest.mark.parametrize(
    ("zones", "at", "windows", "opens", "closes"),
    [
        # half-open: the first instant is inside, the last is not
        ("UTC", "2026-05-05T09:00", DAY, "2026-05-05T09:00", "2026-05-05T20:00"),
        ("UTC", "2026-05-05T20:00", DAY, "2026-05-06T09:00", "2026-05-06T20:00"),
        # what every zone shares: New York opens, Los Angeles is the last; Berlin closes first
        (
            "America/Los_Angeles,America/New_York",
            "2026-05-05T13:00",
            DAY,
            "2026-05-05T16:00",
            "2026-05-06T00:00",
        ),
        # a skipped start maps forward to the first time that exists: 02:30 to 03:00 EDT
        (
            "America/New_York",
            "2026-03-08T06:00",
            daily_window("02:30", "05:00"),
            "2026-03-08T07:00",
            "2026-03-08T09:00",
        ),
        # a skipped end ends there as well
        (
            "America/New_York",
            "2026-03-08T06:10",
            daily_window("01:00", "02:30"),
            "2026-03-08T06:10",
            "2026-03-08T07:00",
        ),
        # the hour that comes twice: open the first time until the clock goes back …
        (
            "America/New_York",
            "2026-11-01T05:00",
            daily_window("01:30", "03:00"),
            "2026-11-01T05:30",
            "2026-11-01T06:00",
        ),
        # … and again from 01:30 of the second time
        (
            "America/New_York",
            "2026-11-01T06:00",
            daily_window("01:30", "03:00"),
            "2026-11-01T06:30",
            "2026-11-01T08:00",
        ),
        # a window across midnight belongs to its start day: Friday's reaches into Saturday,
        # Saturday night is not covered
        (
            "Europe/Madrid",
            "2026-03-14T00:30",
            parse_windows({"fri": [["20:00", "02:00"]]}),
            "2026-03-14T00:30",
            "2026-03-14T01:00",
        ),
        (
            "Europe/Madrid",
            "2026-03-15T00:00",
            parse_windows({"fri": [["20:00", "02:00"]]}),
            "2026-03-20T19:00",
            "2026-03-21T01:00",
        ),
        # British Columbia keeps UTC-7 from 2026: tzdata of 2025 says 08:30 and closed
        ("America/Vancouver", "2026-12-01T16:30", DAY, "2026-12-01T16:30", "2026-12-02T03:00"),
    ],
)
def test_a_span_opens_and_closes_at(
    zones: str, at: str, windows: Windows, opens: str, closes: str
) -> None:
    assert open_span(zones, z(at), windows) == (z(opens), z(closes))


def test_zones_that_never_share_an_hour_have_no_span() -> None:
    zones = "Asia/Kamchatka,Asia/Vladivostok,Europe/Kaliningrad,Europe/Moscow"
    assert open_span(zones, z("2026-03-10T10:00"), daily_window("09:00", "18:00")) is None


def test_a_window_that_never_closes_is_open_for_more_than_eight_days() -> None:
    span = open_span("UTC", z("2026-05-05T12:34:56"), daily_window("00:00", "24:00"))
    assert span is not None
    assert span.opens_at == z("2026-05-05T12:34:56")
    assert span.closes_at > z("2026-05-13T12:34:56")


@settings(max_examples=60, deadline=None)
@given(weeks, weeks, minutes)
def test_the_intersection_is_open_where_both_are(
    one: Windows, other: Windows, at: datetime
) -> None:
    both = intersection(one, other)
    for quarter in range(0, 7 * 96):
        moment = at + timedelta(minutes=15 * quarter)
        expected = is_open("UTC", moment, one) and is_open("UTC", moment, other)
        assert is_open("UTC", moment, both) == expected


@pytest.mark.parametrize("zones", ["", "Etc/Unknown", "UTC,", "UTC,Mars/Base", "../etc/passwd"])
def test_a_zone_that_nobody_knows_is_not_taken_for_another(zones: str) -> None:
    assert not zones_known(zones)
    with pytest.raises(ZoneError, match="is no time zone of tzdata 20"):
        open_span(zones, z("2026-05-05T12:00"), DAY)


def test_the_zones_are_those_of_the_pinned_package() -> None:
    assert zoneinfo.TZPATH == ()
    assert tzdata_version() >= "2026"
