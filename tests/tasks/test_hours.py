"""Hours as people write them, and what is said of hours that cannot be meant."""

import pytest

from data.rules import parse_windows
from tasks.hours import parse_hours

DAILY = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
WORKING = {day: DAILY[day] for day in ("mon", "tue", "wed", "thu", "fri")}


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("09:00-18:00", DAILY),
        (" 9:00 – 18:00 ", DAILY),
        ("mon-sun 09:00-18:00", DAILY),
        ("mon-fri 09:00-18:00", WORKING),
        ("Monday-Friday 9:00 - 18:00", WORKING),
        ("mon, tue,wed thu fri 09:00-18:00", WORKING),
        ("mon-fri 09:00-18:00, sat 10:00-14:00", {**WORKING, "sat": [["10:00", "14:00"]]}),
        ("mon-fri 09:00-18:00; sat 10:00-14:00", {**WORKING, "sat": [["10:00", "14:00"]]}),
        ("sat-mon 22:00-02:00", {day: [["22:00", "02:00"]] for day in ("sat", "sun", "mon")}),
        ("mon 14:00-18:00, mon 09:00-12:00", {"mon": [["09:00", "12:00"], ["14:00", "18:00"]]}),
    ],
)
def test_hours_are_read_as_they_are_meant(text: str, days: object) -> None:
    assert parse_hours(text) == parse_windows(days)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_no_hours_are_no_windows(text: str) -> None:
    assert parse_hours(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9-18", "write 09:00-18:00, or mon-fri 09:00-18:00"),
        ("office hours", "is not understood"),
        ("09:00-18:00,", "is not understood"),
        ("09:00-18:00 mon", "is not understood"),
        ("25:00-26:00", "is not understood"),
        ("09:60-18:00", "is not understood"),
        ("24:30-25:00", "is not understood"),
        ("funday 09:00-18:00", "'fun' is no weekday"),
        ("- 09:00-18:00", "is no weekday"),
        ("mon 24:00-03:00", "starts at 24:00"),
        ("mon 09:00-12:00, mon-fri 11:00-14:00", "its hours of mon overlap"),
        ("mon 09:00-09:00, mon 10:00-11:00", "its hours of mon overlap"),
    ],
)
def test_hours_that_cannot_be_meant_are_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        parse_hours(text)
    assert "\n" not in str(error.value)
