"""Holiday calendars: the package's days, and what lists add to them and take away."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from data.rule_files import RulesError
from data.settings import settings
from tasks import calendars
from tasks.calendars import closed_days, library_version

YEAR = date(2026, 1, 1), date(2026, 12, 31)
HEAD = "calendar,date,closed,name,source\n"


def is_closed(calendar: str, day: str) -> bool:
    found = date.fromisoformat(day)
    return found in closed_days(calendar, found, found)


@pytest.fixture
def company(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The company's folder of rules."""
    folder = tmp_path / "rules"
    folder.mkdir()
    monkeypatch.setenv("SMS_RULES", str(folder))
    settings.cache_clear()
    return folder / "holidays.csv"


@pytest.mark.parametrize(
    ("calendar", "day", "closed"),
    [
        ("US-RI", "2026-01-19", True),  # Martin Luther King Day
        ("US-LA", "2026-01-19", True),
        ("US-RI", "2026-01-20", False),
        ("US-LA", "2026-02-17", True),  # Mardi Gras, in Louisiana alone
        ("US-RI", "2026-02-17", False),
        ("US-RI", "2026-08-10", True),  # Victory Day, in Rhode Island alone
        ("US-UT", "2026-07-24", True),  # Pioneer Day
        ("US-AL", "2026-04-27", True),  # Confederate Memorial Day
        ("US-PA", "2026-11-27", True),  # the day after Thanksgiving
        ("US", "2026-11-27", False),
        ("US", "2026-07-03", True),  # Independence Day on a Saturday: observed on the Friday
        ("US", "2027-12-31", True),  # New Year's Day of 2028: observed in the year before
        ("FR", "2026-04-06", True),  # Easter Monday
        ("FR", "2026-04-03", False),  # Good Friday is a working day there
        ("BR", "2026-11-20", True),
        ("ZA", "2026-08-09", True),  # Women's Day, a Sunday …
        ("ZA", "2026-08-10", True),  # … so the Monday is closed
        ("ZA", "2026-08-11", False),
    ],
)
def test_a_day_is_closed_or_not(calendar: str, day: str, closed: bool) -> None:
    assert is_closed(calendar, day) == closed


def test_both_ends_of_the_dates_asked_for_are_included_and_nothing_beyond() -> None:
    found = closed_days("FR", date(2025, 12, 25), date(2026, 1, 1))
    assert found == {date(2025, 12, 25), date(2026, 1, 1)}
    assert closed_days("FR", date(2025, 12, 26), date(2025, 12, 31)) == frozenset()


def test_a_year_is_the_same_asked_for_whole_or_day_by_day() -> None:
    days = [YEAR[0] + timedelta(days=number) for number in range(365)]
    assert closed_days("US-LA", *YEAR) == {
        day for day in days if closed_days("US-LA", day, day) == {day}
    }


@pytest.mark.parametrize("calendar", ["XX", "US-ZZ", "", "Louisiana"])
def test_an_unknown_calendar_is_named_and_not_taken_for_an_empty_one(calendar: str) -> None:
    with pytest.raises(RulesError, match=f"^{calendar}: the holidays package .* no such calendar"):
        closed_days(calendar, *YEAR)


def test_a_companys_list_adds_days_and_takes_them_away(company: Path) -> None:
    company.write_text(
        f"{HEAD}FR,2026-12-24,yes,Christmas Eve,our own custom\n"
        "\n"
        "FR,2026-07-14,no,National Day,works agreement of 2026\n"
    )
    assert is_closed("FR", "2026-12-24")
    assert not is_closed("FR", "2026-07-14")
    assert not is_closed("FR", "2027-12-24")
    assert not is_closed("BR", "2026-12-24")


def test_what_closes_a_country_closes_its_subdivisions_and_what_opens_it_does_not(
    company: Path,
) -> None:
    company.write_text(
        f"{HEAD}US,2026-03-12,yes,Day of mourning,proclamation of the President\n"
        "US,2026-10-12,no,Columbus Day,we work\n"
        "US-UT,2026-07-24,no,Pioneer Day,we work\n"
    )
    assert is_closed("US-RI", "2026-03-12")
    assert is_closed("US-RI", "2026-10-12")
    assert not is_closed("US", "2026-10-12")
    assert not is_closed("US-UT", "2026-07-24")


def test_a_companys_list_outweighs_the_products(
    company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = tmp_path / "product.csv"
    product.write_text(
        f"{HEAD}ZA,2026-05-04,yes,Election,gazette\nZA,2026-05-05,yes,Count,gazette\n"
    )
    monkeypatch.setattr(calendars, "PRODUCT_LIST", product)
    company.write_text(f"{HEAD}ZA,2026-05-05,no,Count,we work\n")
    assert is_closed("ZA", "2026-05-04")
    assert not is_closed("ZA", "2026-05-05")


def test_a_company_with_a_single_file_of_rules_has_no_list(
    company: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMS_RULES", str(company.with_name("own.yaml")))
    settings.cache_clear()
    assert is_closed("FR", "2026-07-14")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("FR,2026-12-24,yes,Christmas Eve", "line 3: 4 cells instead of 5"),
        ("FR,2026-12-24,yes,Christmas Eve,custom,more", "line 3: 6 cells instead of 5"),
        ("France,2026-12-24,yes,Christmas Eve,custom", "line 3: calendar: 'France'"),
        ("XX,2026-12-24,yes,Christmas Eve,custom", "line 3: XX: the holidays package"),
        ("US-ZZ,2026-12-24,yes,Christmas Eve,custom", "line 3: US-ZZ: the holidays package"),
        ("FR,24.12.2026,yes,Christmas Eve,custom", "line 3: date: '24.12.2026'"),
        ("FR,20261224,yes,Christmas Eve,custom", "line 3: date: '20261224'"),
        ("FR,2026-02-29,yes,Leap day,custom", "line 3: date: 2026-02-29"),
        ("FR,2026-12-24,true,Christmas Eve,custom", "line 3: closed: 'true'"),
        ("FR,2026-12-24,,Christmas Eve,custom", "line 3: closed: ''"),
        ("FR,2026-12-24,yes,,custom", "line 3: name: is empty"),
        ("FR,2026-12-24,yes,Christmas Eve, ", "line 3: source: is empty"),
        ("FR,2026-12-31,no,Old year,custom", "line 3: FR 2026-12-31 is given twice"),
        ('FR,2026-12-24,yes,"Christmas Eve,custom', "line 3: "),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused_with_its_place(
    company: Path, line: str, fault: str
) -> None:
    company.write_text(f"{HEAD}FR,2026-12-31,yes,Old year,custom\n{line}\n")
    with pytest.raises(RulesError) as refused:
        closed_days("BR", *YEAR)
    assert f"{company}, {fault}" in str(refused.value)


@pytest.mark.parametrize("text", ["", "calendar,date,closed\n", "FR,2026-12-24,yes,a,b\n"])
def test_a_list_without_its_head_is_refused(company: Path, text: str) -> None:
    company.write_text(text)
    with pytest.raises(RulesError, match=r"line 1: the first line must be calendar,date,closed,"):
        closed_days("FR", *YEAR)


def test_a_list_written_by_a_spreadsheet_is_read(company: Path) -> None:
    company.write_bytes(
        b"\xef\xbb\xbf" + HEAD.strip().encode() + b"\r\nFR,2026-12-24,yes,Reveillon,custom\r\n"
    )
    assert is_closed("FR", "2026-12-24")


def test_a_list_that_is_not_utf_8_is_refused(company: Path) -> None:
    company.write_bytes(HEAD.encode() + b"FR,2026-12-24,yes,R\xe9veillon,custom\n")
    with pytest.raises(RulesError, match=r"holidays\.csv: cannot be read as UTF-8 text"):
        closed_days("FR", *YEAR)


def test_every_line_of_the_products_list_can_be_read() -> None:
    assert isinstance(calendars.read_list(calendars.PRODUCT_LIST), list)


def test_the_version_of_the_package_is_known() -> None:
    assert library_version().startswith("0.")
