"""The product's own rows: what they say of each country, and from when."""

import re
from datetime import UTC, datetime

import holidays
import pytest

from data.rules import PURPOSES, STEPS, Rule, Rules
from tests.data.rule_folders import KNOWN, NOW, STANDARD, STRICT, applying


def test_the_product_has_a_row_of_every_step() -> None:
    assert {row.step for row in STANDARD.rows} == set(STEPS)


@pytest.mark.parametrize("row", STRICT.rows, ids=lambda row: row.id)
def test_every_row_names_its_source_and_says_what_it_means(row: Rule) -> None:
    assert "https://" in row.source or "http://" in row.source or "Product decision:" in row.source
    assert row.says.endswith(".")
    assert row.says[0].isupper()


@pytest.mark.parametrize("row", [r for r in STRICT.rows if r.holidays], ids=lambda row: row.id)
def test_every_holiday_calendar_exists(row: Rule) -> None:
    country, _, subdivision = (row.holidays or "").partition("-")
    assert holidays.country_holidays(country, subdiv=subdivision or None, years=2026)


def test_every_member_of_the_european_union_has_one_row_on_consent() -> None:
    members = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
    for country in members.split():
        rows = [row for row in applying(STANDARD, "consent_basis", country) if "inactiv" not in row]
        assert rows in ([f"{country.lower()}/consent"], ["eu/consent"])


@pytest.mark.parametrize("country", KNOWN)
@pytest.mark.parametrize("year", [2020, 2026, 2030])
def test_a_country_with_rules_is_known_at_any_time(country: str, year: int) -> None:
    assert STANDARD.knows(country, "marketing", at=datetime(year, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("country", ["RU", "NO", "CH", "XX", ""])
@pytest.mark.parametrize("rules", [STANDARD, STRICT])
def test_a_country_without_rules_is_not_known(country: str, rules: Rules) -> None:
    assert not rules.knows(country, "marketing", at=NOW)


def test_only_the_states_of_the_united_states_divide_a_country() -> None:
    assert STANDARD.divides("US", "marketing")
    assert not STANDARD.divides("US", "otp")
    assert not STANDARD.divides("PR", "marketing")
    assert not STANDARD.divides("CA", "marketing")


@pytest.mark.parametrize(
    ("country", "bases"),
    [
        ("US", "express_written"),
        ("GU", "express_written"),
        ("CA", "express express_written implied_purchase implied_inquiry"),
        ("GB", "express express_written soft_opt_in"),
        ("PL", "express express_written soft_opt_in"),
        ("AU", "express express_written inferred"),
        ("NZ", "express express_written inferred deemed"),
        ("IN", "dlt_consent express express_written"),
        ("SG", "express express_written dnc_clear"),
        ("TR", "iys_onay"),
        ("BR", "express express_written"),
        ("ZA", "express express_written soft_opt_in"),
    ],
)
def test_marketing_rests_on_the_bases_of_its_country(country: str, bases: str) -> None:
    (row, *_) = STANDARD.applying("consent_basis", "marketing", country, at=NOW)
    assert set(row.bases) == set(bases.split())


@pytest.mark.parametrize("purpose", ["transactional", "alert", "otp"])
def test_service_messages_need_consent_in_the_united_states_only(purpose: str) -> None:
    assert applying(STANDARD, "consent_basis", "US", purpose=purpose)
    assert not applying(STANDARD, "consent_basis", "FR", purpose=purpose)


@pytest.mark.parametrize("purpose", sorted(set(PURPOSES) - {"marketing"}))
def test_only_marketing_has_hours(purpose: str) -> None:
    assert {row.purposes for row in STRICT.rows if row.step == "sending_window"} == {("marketing",)}
    assert not applying(STANDARD, "sending_window", "US", "FL", purpose=purpose)


def test_every_purpose_but_emergency_minds_opt_outs() -> None:
    assert applying(STANDARD, "opt_out", "US", purpose="otp")
    assert not applying(STANDARD, "opt_out", "US", purpose="emergency")


@pytest.mark.parametrize(
    ("place", "rows"),
    [
        ("DE", ["sending_window"]),
        ("FR", ["fr/hours"]),
        ("US", ["us/hours"]),
        ("PR", ["us/hours"]),
        ("US WY", ["us/hours"]),
        ("US FL", ["us/hours", "us-fl/hours"]),
        ("US AL FL", ["us/hours", "us-al/hours", "us-fl/hours"]),
        ("CA FL", ["sending_window"]),
    ],
)
def test_subdivisions_come_on_top_of_their_country(place: str, rows: list[str]) -> None:
    assert applying(STANDARD, "sending_window", *place.split()) == rows


@pytest.mark.parametrize(
    ("state", "before", "first"),
    [
        ("VA", "2025-12-31T23:59", "2026-01-01"),
        ("TX", "2025-08-31", "2025-09-01"),
        ("CT", "2023-09-30", "2023-10-01"),
        ("FL", "2021-06-30", "2021-07-01"),
        ("OK", "2022-10-31", "2022-11-01"),
        ("MD", "2023-12-31", "2024-01-01"),
        ("WA", "2022-06-08", "2022-06-09"),
    ],
)
def test_a_state_law_counts_from_its_first_day(state: str, before: str, first: str) -> None:
    assert applying(STANDARD, "sending_window", "US", state, on=before) == ["us/hours"]
    assert applying(STANDARD, "sending_window", "US", state, on=first)[1:] == [
        f"us-{state.lower()}/hours"
    ]


@pytest.mark.parametrize(
    ("on", "rows"),
    [
        ("2021-08-25T23:59", []),
        ("2021-08-26", ["us-la/moratorium-2021"]),
        ("2021-09-17T22:59", ["us-la/moratorium-2021"]),
        ("2021-09-17T23:00", []),
    ],
)
def test_a_moratorium_lasts_from_its_beginning_until_before_its_end(
    on: str, rows: list[str]
) -> None:
    assert applying(STANDARD, "moratorium", "US", "LA", "TX", on=on) == rows
    assert not applying(STANDARD, "moratorium", "US", "TX", on=on)


@pytest.mark.parametrize(
    ("on", "rows"), [("2027-01-30T23:59", []), ("2027-01-31", ["us/revoke_all"])]
)
def test_an_opt_out_revokes_all_consent_in_the_united_states_from_2027(
    on: str, rows: list[str]
) -> None:
    assert applying(STANDARD, "revoke_all", "US", on=on, purpose="transactional") == rows


@pytest.mark.parametrize("state", ["FL", "OK", "MD"])
def test_three_states_cap_a_subject(state: str) -> None:
    (row,) = STANDARD.applying("frequency", "marketing", "US", [state], at=NOW)
    assert row.cap is not None
    assert (row.cap.max, row.cap.per.minutes, row.cap.scope) == (3, 24 * 60, "same_subject")


@pytest.mark.parametrize(
    ("country", "sender", "fits"),
    [
        ("SA", "ACME-AD", True),
        ("SA", "ACMESHOP-AD", True),
        ("SA", "ACMESHOPS-AD", False),
        ("SA", "AD-ACME", False),
        ("AE", "AD-ACME", True),
        ("AE", "AD-ACMESHOPS", False),
        ("AE", "ACME", False),
        ("FR", "Acme", True),
        ("FR", "36111", True),
        ("FR", "+33612345678", False),
        ("FR", "33712345678", False),
        ("FR", "0612345678", False),
        ("FR", "+33123456789", True),
        ("US", "+12125550123", True),
        ("US", "72345", True),
        ("US", "Acme", False),
        ("PR", "Acme", False),
    ],
)
def test_senders_have_the_form_that_the_country_asks_for(
    country: str, sender: str, fits: bool
) -> None:
    (row,) = STANDARD.applying("sender", "marketing", country, at=NOW)
    assert row.sender is not None
    assert bool(re.fullmatch(row.sender, sender)) is fits


@pytest.mark.parametrize(
    ("country", "outweighs"),
    [
        ("US", {"express_written"}),
        ("SG", {"express", "express_written"}),
        ("IN", {"dlt_consent"}),
        ("TR", set()),
        ("DE", set()),
    ],
)
def test_what_outweighs_a_registry_depends_on_the_country(
    country: str, outweighs: set[str]
) -> None:
    (row,) = STANDARD.applying("registry", "marketing", country, at=NOW)
    assert set(row.bases) == outweighs


def effects(country: str, flag: str, on: str = "", purpose: str = "marketing") -> set[str | None]:
    at = datetime.fromisoformat(on).replace(tzinfo=UTC) if on else NOW
    found = STANDARD.applying("content", purpose, country, at=at)
    named = {row.effect for row in found if flag in row.flags}
    return named or {row.effect for row in found if "*" in row.flags}


@pytest.mark.parametrize(
    ("country", "flag", "effect"),
    [
        ("GB", "alcohol", {"age_gate"}),
        ("GB", "hate", {"prohibited"}),
        ("GB", "crypto", {"registration"}),
        ("GB", "url", {"allowed"}),
        ("GB", "something new", {"prohibited"}),
        ("FR", "gambling", {"age_gate", "prohibited"}),
        ("FR", "cannabis", {"prohibited"}),
        ("AE", "alcohol", {"age_gate", "prohibited"}),
        ("AE", "url", {"allowed", "prohibited"}),
        ("AE", "promotional", {"allowed"}),
        ("AE", "hate", {"prohibited"}),
    ],
)
def test_a_country_adds_to_the_content_that_is_stopped_everywhere(
    country: str, flag: str, effect: set[str]
) -> None:
    assert effects(country, flag) == effect


@pytest.mark.parametrize("purpose", ["marketing", "otp"])
def test_links_to_turkey_are_stopped_from_april_2026(purpose: str) -> None:
    assert "prohibited" not in effects("TR", "url", "2026-03-31T23:59", purpose)
    assert "prohibited" in effects("TR", "url", "2026-04-01", purpose)


@pytest.mark.parametrize(
    ("step", "country", "more"),
    [
        ("sending_window", "FR", {"fr/hours_strict"}),
        ("consent_basis", "FR", {"strict/dated_consent"}),
        ("consent_basis", "IT", {"strict/dated_consent", "it/inactivity"}),
        ("consent_basis", "US", {"strict/dated_consent"}),
        ("sending_window", "DE", set()),
    ],
)
def test_the_strict_profile_only_adds_rows(step: str, country: str, more: set[str]) -> None:
    standard = set(applying(STANDARD, step, country))
    assert set(applying(STRICT, step, country)) == standard | more
    assert not standard & more
