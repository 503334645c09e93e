"""The consent rules as files: what is read, what is refused with its place, what applies where."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.rules import Rules, RulesError, parse_windows
from tests.data.rule_folders import (
    BASE,
    FOLDER,
    NOW,
    ROW,
    STANDARD,
    STRICT,
    applying,
    company,
    folder,
)

# ------------------------------------------------------------------ what applies where


def test_a_country_s_rows_take_the_place_of_the_general_ones(tmp_path: Path) -> None:
    rules = folder(tmp_path, fr=ROW)
    assert applying(rules, "sending_window", "FR") == ["fr_hours"]
    assert applying(rules, "sending_window", "DE") == ["sending_window"]


def test_the_general_rows_hold_while_those_of_the_country_are_not_in_force(tmp_path: Path) -> None:
    later = ROW.replace("    windows:", '    effective_from: "2026-05-01"\n    windows:')
    rules = folder(tmp_path, fr=later)
    assert applying(rules, "sending_window", "FR", on="2026-04-30") == ["sending_window"]
    assert applying(rules, "sending_window", "FR", on="2026-05-01") == ["fr_hours"]


def test_windows_are_minutes_by_weekday_and_may_cross_midnight(tmp_path: Path) -> None:
    (row,) = folder(tmp_path, fr=ROW).applying("sending_window", "marketing", "FR", at=NOW)
    assert row.windows == (((600, 720), (1320, 1560)), (), (), (), (), (), ())


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    one = folder(tmp_path).version
    assert one == folder(tmp_path).version
    found = {one, folder(tmp_path, fr=ROW).version, folder(tmp_path, fr=ROW + " ").version}
    tmp_path.joinpath("holidays.csv").write_text("calendar,date,closed,name,source\n")
    assert len(found | {Rules(tmp_path).version, Rules(tmp_path, profile="strict").version}) == 5


# ------------------------------------------------------------------ a company's own file


@pytest.mark.parametrize("countries", ['["FR"]', '["*"]', '["DE", "FR"]'])
def test_a_company_tightens_without_taking_anything_away(tmp_path: Path, countries: str) -> None:
    rules = company(tmp_path, ROW.replace('["FR"]', countries))
    assert applying(rules, "sending_window", "FR") == ["fr/hours", "fr_hours"]


def test_a_company_s_row_for_a_country_does_not_replace_the_general_ones(tmp_path: Path) -> None:
    rules = company(tmp_path, ROW.replace('"FR"', '"DE"'))
    assert applying(rules, "sending_window", "DE") == ["sending_window", "fr_hours"]


def overriding(target: str, country: str, more: str = "") -> str:
    row = ROW.replace('["FR"]', f'["{country}"]')
    return row.replace("    windows:", f'    overrides: "{target}"\n{more}    windows:')


def test_a_company_overrides_one_row(tmp_path: Path) -> None:
    rules = company(tmp_path, overriding("us/hours", "US"))
    assert applying(rules, "sending_window", "US", "FL") == ["us-fl/hours", "fr_hours"]


@pytest.mark.parametrize(
    ("row", "country", "on"),
    [
        (overriding("us/hours", "US"), "PR", ""),
        (overriding("sending_window", "ES"), "DE", ""),
        (overriding("fr/hours", "*"), "DE", ""),
        (overriding("us/hours", "US", '    effective_from: "2026-12-01"\n'), "US", "2026-11-30"),
        (overriding("us/hours", "US", '    subdivision: "FL"\n'), "US", ""),
    ],
    ids=["other country", "narrower", "nothing to override", "not yet", "other subdivision"],
)
def test_an_override_changes_nothing_where_it_does_not_apply(
    tmp_path: Path, row: str, country: str, on: str
) -> None:
    rules = company(tmp_path, row)
    product = applying(STANDARD, "sending_window", country, on=on)
    assert applying(rules, "sending_window", country, on=on) == product


def test_a_company_s_row_on_consent_makes_a_country_known(tmp_path: Path) -> None:
    row = ROW.replace("sending_window", "consent_basis").replace('"FR"', '"RU"')
    rules = company(tmp_path, row[: row.index("    windows")] + '    bases: ["express"]\n')
    assert rules.knows("RU", "marketing", at=NOW)
    assert applying(rules, "consent_basis", "RU") == ["consent_basis", "fr_hours"]


def test_a_company_s_rules_may_be_a_folder(tmp_path: Path) -> None:
    tmp_path.joinpath("hours.yaml").write_text("rules:" + ROW)
    rules = Rules(FOLDER, tmp_path)
    assert applying(rules, "sending_window", "FR") == ["fr/hours", "fr_hours"]
    assert rules.version != STANDARD.version


def test_an_empty_folder_of_a_company_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="this folder holds no rules"):
        _ = Rules(FOLDER, tmp_path).rows


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (overriding("us/hour", "US"), r"fr_hours\.overrides: the product has no rule us/hour"),
        (overriding("us/consent", "US"), r"us/consent is of step consent_basis, this row of"),
        (ROW.replace("fr_hours", "fr/hours"), r"company\.yaml: the rule id fr/hours is used twice"),
        (ROW.replace("    windows", '    holidays: "FX"\n    windows'), r"no calendar FX"),
        (ROW.replace("    windows", '    holidays: "US-XX"\n    windows'), r"no calendar US-XX"),
        (
            ROW.replace('    source: "https://example.org/operators"\n', ""),
            r"source: Field required",
        ),
    ],
)
def test_a_company_s_row_that_cannot_be_meant_is_refused(
    tmp_path: Path, row: str, words: str
) -> None:
    with pytest.raises(RulesError, match=words):
        _ = company(tmp_path, row).rows


def test_only_a_company_overrides(tmp_path: Path) -> None:
    rules = folder(tmp_path, fr=overriding("sending_window", "FR"))
    with pytest.raises(RulesError, match=r"fr\.yaml: fr_hours\.overrides: only a company's own"):
        _ = rules.rows


COUNTRIES = ["US", "FR", "DE", "CA", "AE", "RU", "PR"]
SUBDIVISIONS = ["FL", "LA", "ON", "WY"]
DATES = ["2021-09-01", "2025-12-31", "2026-11-24", "2027-02-01"]
KINDS = {
    "sending_window": '    windows:\n      mon: [["10:00", "12:00"]]\n',
    "consent_basis": '    bases: ["express"]\n',
    "content": '    flags: ["*"]\n    effect: "prohibited"\n',
    "registry": "",
    "sender": '    sender: "X.*"\n',
    "opt_out_text": '    keywords: ["stop"]\n',
    "moratorium": "",
}


@settings(max_examples=40)
@given(
    step=st.sampled_from(sorted(KINDS)),
    country=st.sampled_from([*COUNTRIES, "*"]),
    subdivision=st.sampled_from(["", *SUBDIVISIONS]),
    profile=st.sampled_from(["standard", "strict"]),
    since=st.sampled_from(["", *DATES]),
)
def test_a_company_s_row_that_overrides_nothing_removes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    step: str,
    country: str,
    subdivision: str,
    profile: str,
    since: str,
) -> None:
    row = ROW[: ROW.index("    windows")].replace('"sending_window"', f'"{step}"')
    row = row.replace('["FR"]', f'["{country}"]') + KINDS[step]
    if subdivision and country in ("US", "CA"):
        row += (
            f'    subdivision: "{"ON" if country == "CA" else subdivision.replace("ON", "TX")}"\n'
        )
    row += f'    effective_from: "{since}"\n' if since else ""
    added = company(tmp_path_factory.mktemp("company"), row, profile)
    product = STRICT if profile == "strict" else STANDARD
    for place in COUNTRIES:
        for on in DATES:
            before = applying(product, step, place, *SUBDIVISIONS, on=on)
            after = applying(added, step, place, *SUBDIVISIONS, on=on)
            assert [name for name in after if name != "fr_hours"] == before


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (('["FR"]', "[NO]"), 7, r"rules\[0\]\.countries\[0\]: NO without quotes .*\(bool\)"),
        (('["FR"]', "[ON]"), 7, r'countries\[0\]: ON without quotes .*write "ON"'),
        (('["FR"]', "[yes]"), 7, r"countries\[0\]: yes without quotes .*\(bool\)"),
        (('"10:00"', "10:00"), 10, r"windows\.mon\[0\]\[0\]: 10:00 without quotes .*\(int\)"),
        (('"10:00"', "08:00"), 10, None),
        (('id: "fr_hours"', "id:"), 2, r"rules\[0\]\.id: an empty value"),
        (('confidence: "high"', "confidence: 0.9"), 6, r"0\.9 without quotes .*\(float\)"),
        (
            ("windows:", "effective_from: 2026-01-01\n    windows:"),
            9,
            r"without quotes .*timestamp",
        ),
        (('step: "sending_window"', 'id: "x"'), 3, r"id is given twice"),
        (('countries: ["FR"]', 'countries: ["FR'), None, r"no readable YAML"),
    ],
)
def test_what_yaml_reads_as_something_else_is_refused_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int | None, words: str | None
) -> None:
    rules = folder(tmp_path, fr=ROW.replace(*change))
    if words is None:
        assert applying(rules, "sending_window", "FR") == ["fr_hours"]
        return
    with pytest.raises(RulesError, match=rf"fr\.yaml, line {line or '.*'}.*{words}"):
        _ = rules.rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ('    source: "https://example.org/operators"\n', ""),
            r"fr_hours\.source: Field required",
        ),
        (("https://example.org/operators", ""), r"fr_hours\.source: .*at least"),
        (('"FR"', '"France"'), r"fr_hours\.countries\.0"),
        (('"FR"', '"FX"'), r"fr_hours\.countries: FX is no country"),
        (('["FR"]', "[]"), r"fr_hours\.countries"),
        (('"marketing"', '"adverts"'), r"fr_hours\.purposes\.0"),
        (('"10:00"', '"25:00"'), r"'25:00' is no local time"),
        (('["10:00", "12:00"]', '["10:00"]'), r"a window is a pair"),
        (("mon:", "monday:"), r"'monday' is no weekday"),
        (('"sending_window"', '"deadline"'), r"a deadline row has no windows"),
        ((ROW[ROW.index("    windows") :], ""), r"a sending_window row needs windows"),
        (('"fr_hours"', '"deadline"'), r"the rule id deadline is used twice"),
        (
            ('["FR"]', '["US"]\n    subdivision: "XX"'),
            r"fr_hours\.subdivision: XX is no subdivision of US",
        ),
        (('["FR"]', '["US", "CA"]\n    subdivision: "FL"'), r"a subdivision has one country"),
        (("windows:", 'holidays: "France"\n    windows:'), r"fr_hours\.holidays"),
        (("windows:", 'effective_from: "1 May"\n    windows:'), r"'1 May' is no date"),
        (("windows:", 'hours: "9"\n    windows:'), r"fr_hours\.hours: Extra inputs"),
    ],
)
def test_a_row_that_cannot_be_trusted_is_refused(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    rules = folder(tmp_path, fr=ROW.replace(*change, 1))
    with pytest.raises(RulesError, match=words):
        _ = rules.rows


@pytest.mark.parametrize(
    "step", sorted({row.step for row in Rules(FOLDER).rows if "*" in row.countries})
)
def test_no_check_can_be_switched_off_by_deleting_its_row(tmp_path: Path, step: str) -> None:
    head, *rows = BASE.read_text().split("\n  - id: ")
    left = [row for row in rows if f'step: "{step}"' not in row]
    rules = folder(tmp_path, base="\n  - id: ".join([head, *left]))
    with pytest.raises(RulesError, match=f"no rule of step {step} .* covers "):
        _ = rules.rows


@pytest.mark.parametrize("days", [{"mon": [["24:00", "02:00"]]}, {"mon": [[9, 20]]}, ["09:00"]])
def test_windows_that_make_no_sense_are_refused(days: object) -> None:
    with pytest.raises(ValueError, match=r"window|local time"):
        parse_windows(days)
