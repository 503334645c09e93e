"""Hours in time zones, against a clock and a calendar that are simply looked at."""

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.rule_files import RulesError
from data.rules import WEEKDAYS, Windows, daily_window, parse_windows
from tasks.windows import (
    Hours,
    Span,
    ZoneError,
    is_closed_day,
    open_span,
    tzdata_version,
    zones_known,
)
from tests.tasks.plain_hours import clock, is_open

DAY = daily_window("09:00", "20:00")
ALWAYS = daily_window("00:00", "24:00")
NEVER = parse_windows({})
WORKDAYS = parse_windows({day: [["09:00", "18:00"]] for day in WEEKDAYS[:5]})
MINUTE = timedelta(minutes=1)
# Half-hour and 45-minute offsets, a half-hour and a two-hour clock change, changes at midnight,
# a zone that leaves its clock changes in 2026, and both sides of the date line.
ZONES = [
    *("America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"),
    *("America/St_Johns", "Pacific/Chatham", "Antarctica/Troll", "America/Havana", "Asia/Beirut"),
    *("Africa/Casablanca", "America/Vancouver", "Pacific/Kiritimati", "Pacific/Honolulu", "UTC"),
]
CALENDARS = ["US-LA", "US-RI", "FR", "ZA", "BR", "NZ"]


def z(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


clocks = st.integers(0, 95).map(lambda quarter: f"{quarter // 4:02}:{quarter % 4 * 15:02}")
weeks = st.dictionaries(
    st.sampled_from(WEEKDAYS), st.lists(st.tuples(clocks, clocks), max_size=2), min_size=1
).map(parse_windows)
zone_sets = st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True).map(
    lambda names: ",".join(sorted(names))
)
minutes = st.integers(0, 2 * 366 * 1440).map(lambda m: z("2026-01-01T00:00") + m * MINUTE)
hours = st.tuples(
    st.sampled_from([DAY, WORKDAYS]) | weeks, st.none() | st.sampled_from(CALENDARS)
).map(lambda fields: Hours(*fields))


@st.composite
def situations(draw: st.DrawFn) -> tuple[str, datetime, tuple[Hours, ...]]:
    """Zones, an instant and hours, some of them in force from or until about that instant."""
    at = draw(minutes)
    near = st.none() | st.integers(-3000, 6000).map(lambda m: at + m * MINUTE)
    rows = [
        one._replace(begins=draw(near), ends=draw(near)) if draw(st.booleans()) else one
        for one in draw(st.lists(hours, min_size=1, max_size=3))
    ]
    return draw(zone_sets), at, tuple(rows)


@settings(max_examples=40, deadline=None)
@given(situations())
@example(("America/New_York", z("2026-03-08T05:00"), (Hours(daily_window("02:15", "02:45")),)))
@example(("America/New_York", z("2026-11-01T04:00"), (Hours(daily_window("01:15", "01:45")),)))
@example(("Australia/Lord_Howe", z("2026-10-03T12:00"), (Hours(daily_window("02:15", "05:00")),)))
@example(
    (
        "America/Havana",
        z("2026-11-01T03:00"),
        (Hours(parse_windows({"sun": [["00:30", "04:00"]]})),),
    )
)
@example(
    ("Asia/Beirut", z("2026-10-24T19:00"), (Hours(parse_windows({"sat": [["23:30", "00:00"]]})),))
)
@example(("Europe/Paris", z("2026-12-24T23:30"), (Hours(daily_window("22:00", "03:00"), "FR"),)))
def test_the_span_is_the_first_common_opening_and_all_of_it(
    situation: tuple[str, datetime, tuple[Hours, ...]],
) -> None:
    zones, at, hours = situation
    span = open_span(zones, at, hours)

    # A week is looked at minute by minute, what lies beyond it every hour.
    searched = span.opens_at if span else at + timedelta(days=60)
    moment, closely = at, at + timedelta(days=7)
    while moment < searched:
        assert not is_open(zones, moment, hours), f"open at {moment} already"
        moment += MINUTE if moment < closely else 60 * MINUTE
    if span:
        assert is_open(zones, span.opens_at, hours)
        assert is_open(zones, span.closes_at - timedelta(seconds=1), hours)
        assert not is_open(zones, span.closes_at, hours) or span.closes_at > at + timedelta(60)
        step = (span.closes_at - span.opens_at) / 50
        assert all(is_open(zones, span.opens_at + step * part, hours) for part in range(50))


@pytest.mark.parametrize("zone", ZONES)
def test_at_no_hour_of_a_year_is_it_open_outside_the_local_window(zone: str) -> None:
    local = clock(zone)
    for hour in range(0, 365 * 24):
        at = z("2026-01-01T00:20") + timedelta(hours=hour)
        span = open_span(zone, at, (Hours(DAY),))
        assert span is not None
        assert (span.opens_at == at) == (9 <= at.astimezone(local).hour < 20)
        assert span.closes_at.astimezone(local).hour == 20


@pytest.mark.parametrize(
    "zones",
    [
        "America/St_Johns,America/Vancouver",
        "Asia/Kathmandu,Asia/Kolkata",
        "Australia/Lord_Howe,Pacific/Chatham",
    ],
)
@pytest.mark.parametrize("calendar", ["US-LA", "ZA"])
def test_in_no_half_hour_of_a_year_is_it_open_where_one_zone_or_rule_is_closed(
    zones: str, calendar: str
) -> None:
    hours = (Hours(DAY, calendar), Hours(daily_window("07:30", "19:15")))
    at, moved = z("2026-01-01T00:00"), 0
    while at < z("2027-01-01T00:00"):
        span = open_span(zones, at, hours)
        assert span is not None
        assert span.closes_at > at
        while at < span.closes_at:
            assert is_open(zones, at, hours) == (at >= span.opens_at), at
            at += timedelta(minutes=30)
        moved += 1
    assert 300 < moved < 365  # a day each, but for holidays


@settings(max_examples=100, deadline=None)
@given(situations(), hours)
def test_more_hours_never_open_earlier(
    situation: tuple[str, datetime, tuple[Hours, ...]], another: Hours
) -> None:
    zones, at, hours = situation
    fewer, more = open_span(zones, at, hours), open_span(zones, at, (*hours, another))
    if more is not None:
        assert fewer is not None
        assert more.opens_at >= fewer.opens_at
        if more.opens_at == fewer.opens_at:
            assert more.closes_at <= fewer.closes_at


@settings(max_examples=100, deadline=None)
@given(situations())
def test_the_order_of_zones_and_hours_does_not_matter(
    situation: tuple[str, datetime, tuple[Hours, ...]],
) -> None:
    zones, at, hours = situation
    backwards = ",".join(reversed(zones.split(",")))
    assert open_span(backwards, at, hours[::-1]) == open_span(zones, at, hours)
    assert is_closed_day(backwards, at, hours[::-1]) == is_closed_day(zones, at, hours)


@settings(max_examples=60, deadline=None)
@given(zone_sets, minutes, weeks, st.sampled_from(CALENDARS))
def test_hours_out_of_force_do_not_restrict(
    zones: str, at: datetime, windows: Windows, calendar: str
) -> None:
    over = Hours(NEVER, calendar, datetime.min.replace(tzinfo=UTC), at)
    later = Hours(NEVER, calendar, at + timedelta(days=100), datetime.max.replace(tzinfo=UTC))
    without = open_span(zones, at, (Hours(windows),))
    assert open_span(zones, at, (Hours(windows), over, later)) == without
    assert is_closed_day(zones, at, (over, later)) is False


@pytest.mark.parametrize(
    ("zones", "at", "windows", "opens", "closes"),
    [
        # half-open: the first instant is inside, the last is not
        ("UTC", "2026-05-05T09:00", DAY, "2026-05-05T09:00", "2026-05-05T20:00"),
        ("UTC", "2026-05-05T19:59:59", DAY, "2026-05-05T19:59:59", "2026-05-05T20:00"),
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
    assert open_span(zones, z(at), (Hours(windows),)) == (z(opens), z(closes))


NIGHT = daily_window("20:00", "02:00")
RHODE_ISLAND = parse_windows(
    {**{day: [["09:00", "18:00"]] for day in WEEKDAYS[:5]}, "sat": [["10:00", "17:00"]]}
)
SIX_DAYS = parse_windows({day: [["08:00", "20:00"]] for day in WEEKDAYS[:6]})


@pytest.mark.parametrize(
    ("zones", "at", "hours", "opens", "closes"),
    [
        # Rhode Island, Saturday 17:30: Sunday has no window, Monday is Martin Luther King Day
        (
            "America/New_York",
            "2026-01-17T22:30",
            Hours(RHODE_ISLAND, "US-RI"),
            "2026-01-20T14:00",
            "2026-01-20T23:00",
        ),
        # Louisiana, the Sunday before
        (
            "America/Chicago",
            "2026-01-18T18:00",
            Hours(SIX_DAYS, "US-LA"),
            "2026-01-20T14:00",
            "2026-01-21T02:00",
        ),
        # France, the Saturday evening before Easter Monday
        (
            "Europe/Paris",
            "2026-04-04T20:30",
            Hours(SIX_DAYS, "FR"),
            "2026-04-07T06:00",
            "2026-04-07T18:00",
        ),
        # South Africa: Women's Day is a Sunday in 2026, so the Monday is closed
        (
            "Africa/Johannesburg",
            "2026-08-08T18:30",
            Hours(SIX_DAYS, "ZA"),
            "2026-08-11T06:00",
            "2026-08-11T18:00",
        ),
        # a window that starts on Christmas Eve runs on into the holiday …
        (
            "Europe/Paris",
            "2026-12-24T23:30",
            Hours(NIGHT, "FR"),
            "2026-12-24T23:30",
            "2026-12-25T01:00",
        ),
        # … and none starts on the holiday, nor runs on from it into the day after
        (
            "Europe/Paris",
            "2026-12-25T23:30",
            Hours(NIGHT, "FR"),
            "2026-12-26T19:00",
            "2026-12-27T01:00",
        ),
        # the holiday is that of the local date: Bastille Day begins at 22:00 UTC in Paris
        ("Europe/Paris", "2026-07-13T22:00", Hours(ALWAYS, "FR"), "2026-07-14T22:00", None),
        # in force from noon: all night is open until then
        (
            "UTC",
            "2026-05-05T03:00",
            Hours(daily_window("10:00", "14:00"), begins=z("2026-05-05T12:00")),
            "2026-05-05T03:00",
            "2026-05-05T14:00",
        ),
        # in force until 21:00, when the night opens
        (
            "UTC",
            "2026-05-05T20:00",
            Hours(NEVER, ends=z("2026-05-06T21:00")),
            "2026-05-06T21:00",
            None,
        ),
    ],
)
def test_hours_keep_holidays_and_dates(
    zones: str, at: str, hours: Hours, opens: str, closes: str | None
) -> None:
    span = open_span(zones, z(at), (hours,))
    assert span is not None
    assert span.opens_at == z(opens)
    assert closes is None or span.closes_at == z(closes)


def test_every_hours_must_be_open() -> None:
    # New Year's Day is closed by one, and the other has Saturdays only.
    saturdays = Hours(parse_windows({"sat": [["06:00", "12:00"]]}))
    span = open_span("Europe/Paris", z("2025-12-31T12:00"), (Hours(DAY, "FR"), saturdays))
    assert span == Span(z("2026-01-03T08:00"), z("2026-01-03T11:00"))


def test_zones_that_never_share_an_hour_have_no_span() -> None:
    zones = "Asia/Kamchatka,Asia/Vladivostok,Europe/Kaliningrad,Europe/Moscow"
    hours = (Hours(daily_window("09:00", "18:00")),)
    assert open_span(zones, z("2026-03-10T10:00"), hours) is None


@pytest.mark.parametrize(("days", "found"), [(59, True), (60, True), (61, False)])
def test_an_opening_within_sixty_days_is_found(days: int, found: bool) -> None:
    at = z("2026-05-05T12:34")
    closed = Hours(NEVER, ends=at + timedelta(days=days))
    span = open_span("UTC", at, (closed,))
    assert (span is not None and span.opens_at == at + timedelta(days=days)) == found
    assert (span is None) != found


def test_a_window_that_never_closes_is_open_for_more_than_sixty_days() -> None:
    span = open_span("UTC", z("2026-05-05T12:34:56"), (Hours(ALWAYS),))
    assert span is not None
    assert span.opens_at == z("2026-05-05T12:34:56")
    assert span.closes_at > z("2026-07-04T12:34:56")


def test_an_opening_of_several_weeks_ends_where_it_ends() -> None:
    open_until_may = Hours(DAY, begins=z("2026-05-01T00:00"))
    span = open_span("UTC", z("2026-04-05T23:00"), (open_until_may,))
    assert span == (z("2026-04-05T23:00"), z("2026-05-01T00:00"))


@pytest.mark.parametrize(
    ("zones", "at", "hours", "closed"),
    [
        # Friday night, Saturday and Sunday of weekdays without a window
        ("UTC", "2026-05-08T22:00", Hours(WORKDAYS), False),
        ("UTC", "2026-05-09T00:00", Hours(WORKDAYS), True),
        ("UTC", "2026-05-10T23:59", Hours(WORKDAYS), True),
        ("UTC", "2026-05-11T00:00", Hours(WORKDAYS), False),
        # a holiday by the local date
        ("Europe/Paris", "2026-07-13T21:59", Hours(DAY, "FR"), False),
        ("Europe/Paris", "2026-07-13T22:00", Hours(DAY, "FR"), True),
        ("Europe/Paris", "2026-07-14T21:59", Hours(DAY, "FR"), True),
        ("Europe/Paris", "2026-07-14T22:00", Hours(DAY, "FR"), False),
        # one zone is enough: it is Saturday in Auckland already
        ("America/New_York,Pacific/Auckland", "2026-05-08T13:00", Hours(WORKDAYS), True),
        # rules that are not in force close no day
        ("UTC", "2026-05-09T12:00", Hours(WORKDAYS, begins=z("2026-05-09T12:01")), False),
        ("UTC", "2026-05-09T12:00", Hours(WORKDAYS, ends=z("2026-05-09T12:00")), False),
        ("UTC", "2026-05-09T12:00", Hours(WORKDAYS, begins=z("2026-05-09T12:00")), True),
    ],
)
def test_a_closed_day_is_one_without_any_window(
    zones: str, at: str, hours: Hours, closed: bool
) -> None:
    assert is_closed_day(zones, z(at), (Hours(ALWAYS), hours)) == closed


@pytest.mark.parametrize("zones", ["", "Etc/Unknown", "UTC,", "UTC,Mars/Base", "../etc/passwd"])
@pytest.mark.parametrize("hours", [(), (Hours(DAY),), (Hours(NEVER), Hours(DAY))])
def test_a_zone_that_nobody_knows_is_not_taken_for_another(
    zones: str, hours: tuple[Hours, ...]
) -> None:
    assert not zones_known(zones)
    with pytest.raises(ZoneError, match="is no time zone of tzdata 20"):
        open_span(zones, z("2026-05-05T12:00"), hours)


def test_an_unknown_calendar_is_no_calendar_without_holidays() -> None:
    with pytest.raises(RulesError, match="US-ZZ"):
        open_span("UTC", z("2026-05-05T12:00"), (Hours(DAY, "US-ZZ"),))


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        open_span("UTC", datetime(2026, 5, 5), (Hours(DAY),))


def test_the_zones_are_those_of_the_pinned_package() -> None:
    assert zoneinfo.TZPATH == ()
    assert tzdata_version() >= "2026"
