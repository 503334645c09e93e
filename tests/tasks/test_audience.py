"""How columns are found and their values read."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.sources.base import ColumnMapping
from tasks.audience import AudienceError, Mapped, canonical, map_columns
from tasks.column_words import SYNONYMS

COUNTRIES = Path(__file__).parents[2] / "data" / "countries.csv"


def read(column: str, *values: str | None) -> pd.Series:
    """The canonical column made from one source column."""
    rows = pd.RangeIndex(1, len(values) + 1, name="row")
    frame = pd.DataFrame({"phone": "x", column: pd.Series(values, index=rows, dtype="str")})
    return canonical(frame, Mapped(**{"phone": "phone", column: column}))[column]


# ------------------------------------------------------------------ finding columns


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("phone", "Mobile"),
        ("phone", "phone_number"),
        ("phone", "PHONE NUMBER"),
        ("phone", "MSISDN"),
        ("phone", "Handynummer"),
        ("phone", "Téléphone"),
        ("phone", "Teléfono móvil"),
        ("phone", "phone1"),
        ("country", "Country Code"),
        ("country", "Land"),
        ("country", "pays"),
        ("country", "ISO2"),
        ("timezone", "Time Zone"),
        ("timezone", "tz"),
        ("subdivision", "State"),
        ("subdivision", "state_code"),
        ("subdivision", "Province"),
        ("subdivision", "region code"),
        ("opt_in", "sms_opt_in"),
        ("opt_in", "Marketing Opt-In"),
        ("opt_in", "consent"),
        ("opt_in_at", "consent_date"),
        ("opt_in_at", "Opt-in timestamp"),
        ("age_verified", "Age verified"),
        ("age_verified", "over_21"),
    ],
)
def test_an_unnamed_column_is_guessed_and_the_guess_is_told(field: str, name: str) -> None:
    others = [] if field == "phone" else ["tel"]
    mapped = map_columns(["id", name, *others], ColumnMapping())
    assert getattr(mapped, field) == name
    assert f"{field}: guessed column “{name}”" in mapped.notes


@pytest.mark.parametrize("name", ["newsletter", "created_at", "Accepts Marketing", "status", "fax"])
def test_a_name_that_means_something_else_is_not_guessed(name: str) -> None:
    mapped = map_columns(["phone", name], ColumnMapping())
    assert mapped == Mapped(phone="phone", notes=("phone: guessed column “phone”",))


def test_a_region_is_no_subdivision() -> None:
    assert map_columns(["phone", "region"], ColumnMapping()).subdivision is None


def test_a_named_column_is_taken_without_a_note_and_is_not_guessed_again() -> None:
    mapped = map_columns(["tel", "consent"], ColumnMapping(phone="tel", opt_in_at="consent"))
    assert mapped == Mapped(phone="tel", opt_in_at="consent")


def test_a_mobile_column_is_preferred_to_a_general_one_and_that_is_told() -> None:
    mapped = map_columns(["phone", "mobile"], ColumnMapping())
    assert mapped.phone == "mobile"
    assert mapped.notes == (
        "phone: guessed column “mobile”, preferred to “phone”, as SMS goes to mobiles",
    )


def test_consent_to_sms_is_preferred_to_consent_to_anything() -> None:
    mapped = map_columns(["phone", "consent", "sms_consent"], ColumnMapping())
    assert mapped.opt_in == "sms_consent"


@pytest.mark.parametrize(
    ("columns", "mapping", "line"),
    [
        (
            ["mobile", "name"],
            ColumnMapping(phone="mobil"),
            "columns: {phone: mobil} names no column of list.csv, did you mean “mobile”?"
            " columns are “mobile”, “name”",
        ),
        (
            ["phone"],
            ColumnMapping(opt_in="zzz"),
            "columns: {opt_in: zzz} names no column of list.csv: columns are “phone”",
        ),
        (
            ["phone1", "phone2"],
            ColumnMapping(),
            "2 columns of list.csv may be the phone (“phone1”, “phone2”):"
            " name one: columns: {phone: …}",
        ),
        (
            ["phone", "opt_in", "consent"],
            ColumnMapping(),
            "2 columns of list.csv may be the opt_in (“opt_in”, “consent”):"
            " name one: columns: {opt_in: …}",
        ),
        (
            ["name", "city"],
            ColumnMapping(),
            "no phone column found in list.csv: columns are “name”, “city”;"
            " name it: columns: {phone: …}",
        ),
    ],
)
def test_what_cannot_be_told_is_asked_in_one_line(
    columns: list[str], mapping: ColumnMapping, line: str
) -> None:
    with pytest.raises(AudienceError) as error:
        map_columns(columns, mapping, source="list.csv")
    assert str(error.value) == line


@pytest.mark.parametrize("mapping", [ColumnMapping(), ColumnMapping(phone="mobile")])
def test_a_file_without_a_header_does_not_give_its_first_record_away(
    mapping: ColumnMapping,
) -> None:
    with pytest.raises(AudienceError) as error:
        map_columns(["Ada Lovelace", "+15550100123"], mapping, source="list.csv")
    assert "line of column names" in str(error.value)
    assert "Ada" not in str(error.value)
    assert "5550100" not in str(error.value)


def test_no_name_is_a_synonym_of_two_fields() -> None:
    names = [name for ranks in SYNONYMS.values() for rank in ranks for name in rank.split()]
    assert sorted(names) == sorted(set(names))


# ------------------------------------------------------------------ reading values


def test_canonical_columns_keep_the_rows_and_leave_unmapped_ones_empty() -> None:
    rows = pd.Index([3, 7, 9], name="row")
    frame = pd.DataFrame({"tel": [" 555 ", "  ", np.nan]}, index=rows, dtype="str")
    result = canonical(frame, Mapped(phone="tel"))
    assert result.index.tolist() == [3, 7, 9]
    assert result.index.name == "row"
    assert result.dtypes.astype(str).to_dict() == {
        "phone": "str",
        "country": "str",
        "timezone": "str",
        "subdivision": "str",
        "opt_in": "str",
        "opt_in_at": "datetime64[us, UTC]",
        "opt_in_at_reading": "str",
        "age_verified": "str",
    }
    assert result["phone"].iloc[0] == "555"
    assert result["phone"].isna().tolist() == [False, True, True]
    assert result.drop(columns="phone").isna().all(axis=None)


@pytest.mark.parametrize(
    ("written", "alpha2"),
    [
        ("de", "DE"),
        (" DEU ", "DE"),
        ("Germany", "DE"),
        ("Deutschland", "DE"),
        ("UK", "GB"),
        ("England", "GB"),
        ("United States", "US"),
        ("U.S.A.", "US"),
        ("Côte d’Ivoire", "CI"),
        ("COTE D'IVOIRE", "CI"),
        ("Trinidad and Tobago", "TT"),
        ("NA", "NA"),
        ("Namibia", "NA"),
        ("Kosovo", "XK"),
        ("EL", "GR"),
    ],
)
def test_a_country_is_read_from_codes_and_names(written: str, alpha2: str) -> None:
    assert read("country", written).tolist() == [alpha2]


@pytest.mark.parametrize("written", ["Narnia", "ZZ", "49", "Korea", "Congo"])
def test_what_is_no_country_or_two_stays_as_written(written: str) -> None:
    assert read("country", written).tolist() == [written]


def test_the_default_country_fills_only_what_is_empty() -> None:
    frame = pd.DataFrame(
        {
            "p": pd.Series(["1", "2", "3"], dtype="str"),
            "c": pd.Series(["fr", None, "?"], dtype="str"),
        }
    )
    result = canonical(frame, Mapped(phone="p", country="c"), default_country="US")
    assert result["country"].tolist() == ["FR", "US", "?"]


def test_every_country_of_the_numbering_plans_is_known() -> None:
    from phonenumbers import SUPPORTED_REGIONS

    with COUNTRIES.open(encoding="utf-8", newline="") as file:
        known = {row["alpha2"] for row in csv.DictReader(file)}
    assert known >= set(SUPPORTED_REGIONS)


def test_every_form_in_the_country_table_means_its_own_row() -> None:
    with COUNTRIES.open(encoding="utf-8", newline="") as file:
        forms = [
            (form, row["alpha2"])
            for row in csv.DictReader(file)
            for form in (row["alpha2"], row["alpha3"], *row["names"].split("|"))
            if form
        ]
    written, expected = zip(*forms, strict=True)
    assert read("country", *written).tolist() == list(expected)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            "yes",
            "yes YES true True 1 1.0 y t on x ja oui si sí sim Opt-In opt_in subscribed granted ✓",
        ),
        ("no", "no false 0 0.0 n f off nein non não opt-out Opted-Out unsubscribed revoked"),
    ],
)
def test_an_opt_in_is_read_from_what_people_write(answer: str, words: str) -> None:
    assert set(read("opt_in", *words.split())) == {answer}


@pytest.mark.parametrize("word", ["maybe", "pending", "10", "2", "n/a", "double opt-in", "👍"])
def test_an_unclear_opt_in_stays_as_written(word: str) -> None:
    assert read("opt_in", word).tolist() == [word]


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2026-03-04", "2026-03-04T00:00:00"),
        ("2026-03-04T10:15:00Z", "2026-03-04T10:15:00"),
        ("2026-03-04T10:15:00.123456+02:00", "2026-03-04T08:15:00.123456"),
        ("2026-03-04 10:15:00+00", "2026-03-04T10:15:00"),
        ("2026-03-04 10:15:00 UTC", "2026-03-04T10:15:00"),
        ("2026-03-04T10:15", "2026-03-04T10:15:00"),
        ("20260304", "2026-03-04T00:00:00"),
        ("20260304T101500Z", "2026-03-04T10:15:00"),
        ("2026/3/4", "2026-03-04T00:00:00"),
        ("4 March 2026", "2026-03-04T00:00:00"),
        ("Mar 4, 2026 2:15 PM", "2026-03-04T14:15:00"),
        ("Mar 4, 2026, 2:15:30\u202fAM", "2026-03-04T02:15:30"),
        ("04-Mar-2026", "2026-03-04T00:00:00"),
        ("Wed, 04 Mar 2026 10:00:00 +0100", "2026-03-04T09:00:00"),
        ("4. März 2026", "2026-03-04T00:00:00"),
        ("4 de marzo de 2026", "2026-03-04T00:00:00"),
        ("04.03.2026 10:15", "2026-03-04T10:15:00"),
        ("25/03/2026", "2026-03-25T00:00:00"),
        ("03/25/2026 12:05 am", "2026-03-25T00:05:00"),
        ("03-03-2026", "2026-03-03T00:00:00"),
    ],
)
def test_a_date_is_read_to_utc(written: str, utc: str) -> None:
    assert read("opt_in_at", written).tolist() == [pd.Timestamp(utc, tz="UTC")]


@pytest.mark.parametrize(
    ("written", "reading"),
    [
        ("2026-03-04", "clear"),
        ("25/03/2026", "clear"),
        ("03/04/2026", "ambiguous"),
        ("3-4-2026 10:00", "ambiguous"),
        ("03/04/26", "ambiguous"),
        ("04.03.26", "ambiguous"),
        ("2026-02-30", "unreadable"),
        ("13/13/2026", "unreadable"),
        ("2026-03-04T25:00", "unreadable"),
        ("03/25/2026 13:05 PM", "unreadable"),
        ("0000-00-00", "unreadable"),
        ("2026", "unreadable"),
        ("1772618400", "unreadable"),
        ("yesterday", "unreadable"),
        ("2026-03-04 10:00 EST", "unreadable"),
    ],
)
def test_how_a_date_could_be_read_is_kept_for_validation(written: str, reading: str) -> None:
    frame = pd.DataFrame({"at": pd.Series([written, None], dtype="str")})
    result = canonical(frame, Mapped(phone="at", opt_in_at="at"))
    assert result["opt_in_at_reading"].iloc[0] == reading
    assert result["opt_in_at"].isna().tolist() == [reading != "clear", True]
    assert result["opt_in_at_reading"].isna().tolist() == [False, True]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.datetimes().map(lambda at: at.replace(microsecond=0)), max_size=20))
def test_dates_come_back_whatever_their_neighbours(moments: list) -> None:
    ways = ["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d %b %Y %I:%M:%S %p"]
    # strftime leaves out the leading zeros of early years.
    late = [at for at in moments if at.year >= 1000]
    written = [at.strftime(ways[number % 3]) for number, at in enumerate(late)]
    expected = [pd.Timestamp(at, tz="UTC") for at in late]
    assert read("opt_in_at", *written).tolist() == expected


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=10))
def test_no_text_is_too_odd_to_be_read(texts: list[str | None]) -> None:
    clean = [text and text.encode("utf-8", "ignore").decode() for text in texts]
    for column in ("country", "opt_in", "opt_in_at"):
        assert len(read(column, *clean)) == len(texts)
