"""Which records are set aside, why, and what is told of them."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.sources.base import ColumnMapping
from tasks.audience import canonical, map_columns
from tasks.validation import (
    SUITE,
    TooManyBadRows,
    Totals,
    Validated,
    ValidationSetupError,
    Validator,
    check_share,
    render_report,
)

GOOD = {
    "phone": "+1 555-010-0123",
    "country": "US",
    "timezone": "America/New_York",
    "opt_in": "yes",
    "opt_in_at": "2024-05-01T10:00:00Z",
    "first_name": "Ada",
}

# What is wrong with a record, the reason it gets, the column that is blamed.
REASONS = [
    ({"phone": None}, "missing_phone", "phone"),
    ({"phone": "   "}, "missing_phone", "phone"),
    ({"phone": "5" * 65}, "phone_too_long", "phone"),
    ({"phone": "1234"}, "phone_not_a_number", "phone"),
    ({"phone": "ask my mother"}, "phone_not_a_number", "phone"),
    ({"first_name": "Ad\x1ba"}, "control_characters", "first_name"),
    ({"first_name": "Ad\x85a"}, "control_characters", "first_name"),
    ({"phone": "+1 555\x00 010 0123"}, "control_characters", "phone"),
    ({"country": "Narnia"}, "unknown_country", "country"),
    ({"country": "ZZ"}, "unknown_country", "country"),
    ({"timezone": "Eastern Time"}, "unknown_timezone", "timezone"),
    ({"opt_in": "maybe"}, "opt_in_unclear", "opt_in"),
    ({"opt_in_at": "03/04/2024"}, "ambiguous_date", "opt_in_at"),
    ({"opt_in_at": "soon"}, "opt_in_at_unreadable", "opt_in_at"),
    ({"opt_in_at": "2124-05-01"}, "opt_in_at_in_future", "opt_in_at"),
]
FINE = [
    {},
    {"phone": "0049 (30) 12345 ext. 6"},
    {"phone": "٠١٢٣٤٥٦٧"},
    {"phone": "+99999999999999999999"},  # whether it is valid is decided elsewhere
    {"country": None, "timezone": None, "opt_in": None, "opt_in_at": None, "first_name": None},
    {"country": "Côte d’Ivoire"},
    {"opt_in": "no"},
    {"timezone": "UTC"},
    {"first_name": "Ada\tLovelace\r\nLondon «é»"},
]


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator()


def run(validator: Validator, *changes: dict[str, str | None], first_row: int = 1) -> Validated:
    """Validate good records with these changes."""
    raw = pd.DataFrame(
        [GOOD | change for change in changes],
        columns=list(GOOD),
        index=pd.RangeIndex(first_row, first_row + len(changes), name="row"),
        dtype="str",
    )
    return validator.validate(canonical(raw, map_columns(list(GOOD), ColumnMapping())), raw)


@pytest.fixture(scope="module")
def judged(validator: Validator) -> Validated:
    """All of REASONS, then all of FINE, in one partition from record 100,001 on."""
    return run(validator, *[change for change, _, _ in REASONS], *FINE, first_row=100_001)


@pytest.mark.parametrize(("number", "case"), list(enumerate(REASONS)))
def test_a_bad_record_is_rejected_with_its_reason(
    judged: Validated, number: int, case: tuple[dict[str, str | None], str, str]
) -> None:
    _, reason, column = case
    found = judged.rejects[judged.rejects["row"] == 100_001 + number]
    assert found[["column", "reason"]].to_numpy().tolist() == [[column, reason]]
    assert found["detail"].isna().all()


@pytest.mark.parametrize(("number", "change"), list(enumerate(FINE, start=len(REASONS))))
def test_a_good_record_stays(judged: Validated, number: int, change: dict[str, str | None]) -> None:
    assert 100_001 + number in judged.good.index, change


def test_every_rule_of_the_suite_has_a_record_that_breaks_it() -> None:
    expectations = json.loads(SUITE.read_text(encoding="utf-8"))["expectations"]
    assert {each["meta"]["reason"] for each in expectations} == {reason for _, reason, _ in REASONS}


def test_good_records_come_back_in_the_canonical_columns(validator: Validator) -> None:
    good = run(validator, {}, {"phone": None}, {}).good
    assert list(good) == [
        *("phone", "country", "timezone", "subdivision", "opt_in", "opt_in_at", "age_verified")
    ]
    assert good.index.name == "row"


def test_the_first_reason_in_the_suite_wins_and_the_others_are_listed(
    validator: Validator,
) -> None:
    worst = {"opt_in_at": "soon", "country": "Narnia", "phone": None, "first_name": "\x01"}
    rejects = run(validator, worst).rejects
    assert rejects.to_numpy().tolist() == [
        [1, "phone", "missing_phone", "control_characters, unknown_country, opt_in_at_unreadable"]
    ]


def test_rejects_have_the_same_types_with_and_without_records(validator: Validator) -> None:
    types = {"row": "int64", "column": "str", "reason": "str", "detail": "str"}
    assert run(validator, {}).rejects.dtypes.astype(str).to_dict() == types
    assert run(validator, {"phone": None}).rejects.dtypes.astype(str).to_dict() == types


def test_a_partition_in_which_nothing_is_known_is_rejected_whole(validator: Validator) -> None:
    result = run(validator, *[{"country": "Narnia", "timezone": "nowhere"}] * 3)
    assert result.good.empty
    assert result.rejects["reason"].tolist() == ["unknown_country"] * 3
    assert result.rejects["detail"].tolist() == ["unknown_timezone"] * 3


def test_a_partition_without_records_is_no_error(validator: Validator) -> None:
    result = run(validator)
    assert (len(result.good), len(result.rejects), result.results["records"]) == (0, 0, 0)


def test_a_partition_that_was_pieced_together_is_judged_as_one(validator: Validator) -> None:
    pieces = [
        pd.DataFrame([GOOD | change], index=pd.Index([row], name="row"), dtype="str")
        for row, change in enumerate([{}, {"first_name": "\x01"}, {"opt_in_at": "4 May 2024"}])
    ]
    raw = pd.concat(pieces)
    columns = map_columns(list(GOOD), ColumnMapping())
    assert validator.validate(canonical(raw, columns), raw).rejects["row"].tolist() == [1]


def test_a_second_partition_is_judged_by_itself(validator: Validator) -> None:
    run(validator, {"phone": None}, {})
    assert run(validator, {}, {"phone": None}).rejects["row"].tolist() == [2]


def test_counts_leave_empty_values_out_except_where_they_are_the_fault(
    validator: Validator,
) -> None:
    results = run(validator, {}, {"phone": None, "opt_in_at": None}, {"opt_in_at": "soon"}).results
    counts = {rule["reason"]: (rule["checked"], rule["failing"]) for rule in results["rules"]}
    assert counts["missing_phone"] == (3, 1)
    assert counts["phone_not_a_number"] == (2, 0)
    assert counts["opt_in_at_unreadable"] == (2, 1)
    assert counts["ambiguous_date"] == (2, 0)
    assert counts["control_characters"] == (3, 0)


CHANGES = st.sampled_from([change for change, _, _ in REASONS] + FINE)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(CHANGES, CHANGES).map(lambda pair: pair[0] | pair[1]), max_size=20))
def test_every_record_is_good_or_rejected_and_never_both(
    validator: Validator, changes: list[dict[str, str | None]]
) -> None:
    result = run(validator, *changes)
    rows = [*result.good.index, *result.rejects["row"]]
    assert sorted(rows) == list(range(1, len(changes) + 1))
    assert result.results["good"] + sum(result.results["rejects"].values()) == len(changes)


def test_no_value_of_a_record_is_in_the_results_or_the_report(validator: Validator) -> None:
    bad = {"phone": "5550100", "country": "Narnia", "first_name": "Zebulon\x01", "opt_in": "peut"}
    result = run(validator, bad, {"phone": "5" * 65}, {})
    totals = Totals()
    totals.add(result.results)
    told = json.dumps(result.results) + render_report(totals, {"Campaign": "Spring"})
    told += result.rejects.to_string() + repr(totals)
    for value in ("5550100", "55555", "010-0123", "Narnia", "Zebulon", "peut"):
        assert value not in told


# ------------------------------------------------------------------ broken suites

RULE = {
    "type": "expect_column_values_to_not_be_null",
    "kwargs": {"column": "phone"},
    "meta": {"reason": "missing_phone", "column": "phone", "words": "The phone is empty"},
}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "cannot be read: No such file or directory"),
        ('{"expectations": [', "line 1, column 19 is not JSON: Expecting value"),
        ("{}", "holds no list of expectations"),
        ([1], "holds no list of expectations"),
        ([RULE, RULE | {"meta": {}}], "expectation 2 .* has no reason in its meta: give it one"),
        (
            [RULE | {"meta": RULE["meta"] | {"words": ""}}],
            "expectation 1 .* has no words in its meta",
        ),
        ([RULE | {"type": "expect_luck"}], "missing_phone is no valid expectation: expect_luck"),
        ([RULE | {"kwargs": {"column": "phone", "x": 1}}], "is no valid expectation: .*x extra"),
        ([RULE, RULE], "missing_phone is the reason of two expectations: rename one"),
        ([RULE | {"kwargs": {}}], "expectation 1 .* names no column in its kwargs"),
        (
            [
                RULE
                | {
                    "type": "expect_column_max_to_be_between",
                    "kwargs": {"column": "phone", "max_value": 1},
                }
            ],
            "missing_phone judges a whole column and cannot name bad records",
        ),
    ],
)
def test_a_broken_suite_is_told_in_one_line(
    tmp_path: Path, text: str | list[dict] | None, line: str
) -> None:
    suite = tmp_path / "audience.json"
    if text is not None:
        suite.write_text(text if isinstance(text, str) else json.dumps({"expectations": text}))
    with pytest.raises(ValidationSetupError) as error:
        Validator(suite)
    assert re.search(line, str(error.value))
    assert str(error.value).startswith(str(suite))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (RULE | {"kwargs": {"column": "shoe_size"}}, "checks the column 'shoe_size', which this"),
        (
            RULE
            | {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "phone", "max_value": 3},
            },
            "missing_phone could not be run on this audience",
        ),
        (
            RULE
            | {
                "type": "expect_column_values_to_match_regex",
                "kwargs": {"column": "phone", "regex": "("},
            },
            "missing_phone could not be run on this audience",
        ),
        (
            RULE
            | {
                "type": "expect_column_values_to_be_in_set",
                "kwargs": {"column": "phone", "value_set": {"$PARAMETER": "planets"}},
            },
            "PARAMETER planets: there are countries, timezones, now",
        ),
    ],
)
def test_a_rule_that_cannot_be_run_stops_the_run(tmp_path: Path, rule: dict, line: str) -> None:
    suite = tmp_path / "audience.json"
    suite.write_text(json.dumps({"expectations": [rule]}))
    with pytest.raises(ValidationSetupError, match=line):
        run(Validator(suite), {})


def test_a_rule_may_look_at_a_column_of_the_source(tmp_path: Path) -> None:
    suite = tmp_path / "audience.json"
    rule = RULE | {"kwargs": {"column": "first_name"}}
    suite.write_text(json.dumps({"expectations": [rule]}))
    assert run(Validator(suite), {}, {"first_name": None}).rejects["row"].tolist() == [2]


def test_mostly_does_not_let_bad_records_through(tmp_path: Path) -> None:
    suite = tmp_path / "audience.json"
    rule = RULE | {"kwargs": {"column": "phone", "mostly": 0.1}}
    suite.write_text(json.dumps({"expectations": [rule]}))
    assert run(Validator(suite), {}, {"phone": None}).rejects["row"].tolist() == [2]


# ------------------------------------------------------------------ sums and the report


def totals_of(validator: Validator) -> Totals:
    totals = Totals()
    totals.add(run(validator, {}, {"phone": None}, {"country": "Narnia", "opt_in": "?"}).results)
    totals.add(run(validator, {}, {"phone": None}, first_row=4).results)
    totals.add_unreadable(pd.DataFrame({"row": [6], "column": [np.nan], "reason": ["ragged_row"]}))
    return totals


def test_totals_count_each_record_once_and_each_rule_wherever_it_fails(
    validator: Validator,
) -> None:
    totals = totals_of(validator)
    assert (totals.records, totals.good) == (6, 2)
    assert totals.rejects == {"missing_phone": 2, "unknown_country": 1, "ragged_row": 1}
    assert totals.share_bad == pytest.approx(4 / 6)
    assert totals.rules["opt_in_unclear"]["failing"] == 1
    assert totals.rules["missing_phone"]["checked"] == 5


def test_an_empty_audience_has_no_bad_share() -> None:
    assert Totals().share_bad == 0
    check_share(Totals(), 0)


def test_a_share_at_the_limit_is_allowed(validator: Validator) -> None:
    check_share(totals_of(validator), 4 / 6)


def test_too_many_bad_rows_are_told_by_reason_with_the_setting_to_change(
    validator: Validator,
) -> None:
    with pytest.raises(TooManyBadRows) as error:
        check_share(totals_of(validator), 0.5)
    assert str(error.value) == (
        "4 of 6 records (66.7%) are invalid, more than max_invalid_share 0.5 allows"
        " (missing_phone 2, unknown_country 1, ragged_row 1):"
        " mend the audience, or raise max_invalid_share"
    )


def test_the_report_shows_every_rule_and_every_reason(validator: Validator) -> None:
    page = render_report(totals_of(validator), {"Campaign": "Spring <sale>"})
    assert "Spring &lt;sale&gt;" in page
    for expectation in json.loads(SUITE.read_text(encoding="utf-8"))["expectations"]:
        assert expectation["meta"]["words"] in page
    assert "Ragged row<code>ragged_row</code>" in page


def test_the_report_needs_no_network_and_no_script(validator: Validator) -> None:
    page = render_report(totals_of(validator), {})
    assert not re.search(r"https?:|<script|<link|@import|url\(|src=", page)
    assert "prefers-color-scheme: dark" in page


def test_a_report_without_records_is_readable() -> None:
    assert "No record was rejected" in render_report(Totals(), {"Campaign": "Spring"})
