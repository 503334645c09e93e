"""The consent rules as files: what is read, and what is refused with its place."""

from pathlib import Path

import pytest

from data.rules import RULES, STEPS, Rules, RulesError, parse_windows

BASE = Path(__file__).parents[2] / "data" / "rules" / "base.yaml"
ROW = """
  - id: "fr_hours"
    step: "sending_window"
    says: "No marketing at night in France."
    source: "https://example.org/operators"
    confidence: "high"
    country: "FR"
    purposes: ["marketing"]
    windows:
      mon: [["10:00", "12:00"], ["22:00", "02:00"]]
"""


def folder(path: Path, base: str = "", **files: str) -> Rules:
    path.joinpath("base.yaml").write_text(base or BASE.read_text())
    for name, rows in files.items():
        path.joinpath(f"{name}.yaml").write_text("rules:" + rows)
    return Rules(path)


def test_the_base_has_a_row_for_every_step_with_words_and_a_source() -> None:
    assert {row.step for row in RULES.rows if row.country == "*"} == set(STEPS)
    assert all(row.says and row.source for row in RULES.rows)


@pytest.mark.parametrize("purpose", ["transactional", "alert", "otp", "emergency"])
def test_only_marketing_needs_hours_and_consent(purpose: str) -> None:
    assert RULES.applying("sending_window", "US", "marketing")
    assert RULES.applying("consent_basis", "US", "marketing")
    assert not RULES.applying("sending_window", "US", purpose)
    assert not RULES.applying("consent_basis", "US", purpose)


def test_every_purpose_but_emergency_minds_opt_outs() -> None:
    assert RULES.applying("opt_out", "US", "otp")
    assert not RULES.applying("opt_out", "US", "emergency")


def test_a_country_s_rows_take_the_place_of_the_general_ones(tmp_path: Path) -> None:
    rules = folder(tmp_path, fr=ROW)
    assert [row.id for row in rules.applying("sending_window", "FR", "marketing")] == ["fr_hours"]
    assert [row.id for row in rules.applying("sending_window", "DE", "marketing")] == [
        "sending_window"
    ]


def test_windows_are_minutes_by_weekday_and_may_cross_midnight(tmp_path: Path) -> None:
    (row,) = folder(tmp_path, fr=ROW).applying("sending_window", "FR", "marketing")
    assert row.windows == (((600, 720), (1320, 1560)), (), (), (), (), (), ())


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    one = folder(tmp_path).version
    assert one == folder(tmp_path).version
    assert len({one, folder(tmp_path, fr=ROW).version, folder(tmp_path, fr=ROW + " ").version}) == 3


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (('country: "FR"', "country: NO"), 7, r"rules\[0\]\.country: NO without quotes .*\(bool\)"),
        (('country: "FR"', "country: ON"), 7, r'country: ON without quotes .*write "ON"'),
        (('"10:00"', "10:00"), 10, r"windows\.mon\[0\]\[0\]: 10:00 without quotes .*\(int\)"),
        (('id: "fr_hours"', "id:"), 2, r"rules\[0\]\.id: an empty value"),
        (('confidence: "high"', "confidence: 0.9"), 6, r"0\.9 without quotes .*\(float\)"),
        (('step: "sending_window"', 'id: "x"'), 3, r"id is given twice"),
        (('country: "FR"', 'country: "FR'), None, r"no readable YAML"),
    ],
)
def test_what_yaml_reads_as_something_else_is_refused_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int | None, words: str
) -> None:
    rules = folder(tmp_path, fr=ROW.replace(*change))
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
        (('"FR"', '"France"'), r"fr_hours\.country"),
        (('"marketing"', '"adverts"'), r"fr_hours\.purposes\.0"),
        (('"10:00"', '"25:00"'), r"'25:00' is no local time"),
        (('["10:00", "12:00"]', '["10:00"]'), r"a window is a pair"),
        (("mon:", "monday:"), r"'monday' is no weekday"),
        (('"sending_window"', '"deadline"'), r"a deadline row has no windows"),
        (('"fr_hours"', '"deadline"'), r"the rule id deadline is used twice"),
    ],
)
def test_a_row_that_cannot_be_trusted_is_refused(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    rules = folder(tmp_path, fr=ROW.replace(*change, 1))
    with pytest.raises(RulesError, match=words):
        _ = rules.rows


@pytest.mark.parametrize("step", STEPS)
def test_no_check_can_be_switched_off_by_deleting_its_row(tmp_path: Path, step: str) -> None:
    head, *rows = BASE.read_text().split("\n  - id: ")
    left = [row for row in rows if f'step: "{step}"' not in row]
    rules = folder(tmp_path, base="\n  - id: ".join([head, *left]))
    with pytest.raises(RulesError, match=f"no rule of step {step} .* covers marketing"):
        _ = rules.rows


@pytest.mark.parametrize("days", [{"mon": [["24:00", "02:00"]]}, {"mon": [[9, 20]]}, ["09:00"]])
def test_windows_that_make_no_sense_are_refused(days: object) -> None:
    with pytest.raises(ValueError, match=r"window|local time"):
        parse_windows(days)
