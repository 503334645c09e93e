"""Numbers read column-wise are, row for row, what the phonenumbers library makes of them."""

import dataclasses
import random
from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd
import phonenumbers as library
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType, timezone

from data.errors import SmsError
from tasks import phones
from tasks.phone_plans import plan_tables

Row = tuple[str | None, bool, str, str | None]
Written = list[tuple[str, str | None]]

REGIONS = sorted(library.SUPPORTED_REGIONS)
TYPES = {value: PhoneNumberType.to_string(value).lower() for value in PhoneNumberType.values()}
JUNK = [*" -./()[]+ -.", "\u00a0", "\u2013", *"x#~*,;a_\t\n", "\uff11", "\u0661", "\uff0b"]


def by_library(text: str, region: str | None) -> Row:
    try:
        number = library.parse(text, region)
    except library.NumberParseException:
        return None, False, "unknown", None
    return (
        library.format_number(number, PhoneNumberFormat.E164),
        library.is_valid_number(number),
        TYPES[library.number_type(number)],
        library.region_code_for_number(number),
    )


@cache
def zones_by_library(e164: str | None) -> str:
    if e164 is None:
        return ""
    zones = timezone.time_zones_for_number(library.parse(e164))
    return "" if zones == (timezone.UNKNOWN_TIMEZONE,) else ",".join(sorted(zones))


def rows(frame: pd.DataFrame) -> list[Row]:
    return list(frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None))


def differences(written: Written) -> list[tuple[object, ...]]:
    """The rows, and their time zones, in which this and the library differ."""
    texts = pd.Series([text for text, _ in written], dtype="str")
    regions = pd.Series([region for _, region in written], dtype="str")
    found = phones.normalise(texts, regions)
    zones = phones.time_zones(found["e164"])
    wrong: list[tuple[object, ...]] = []
    for (text, region), here, zone in zip(written, rows(found), zones, strict=True):
        if here != by_library(text, region):
            wrong.append((text, region, here, by_library(text, region)))
        if zone != zones_by_library(here[0]):
            wrong.append((text, zone, zones_by_library(here[0])))
    return wrong


def example_numbers() -> Iterator[tuple[str | None, library.PhoneNumber]]:
    for region in REGIONS:
        for line_type in TYPES:
            number = library.example_number_for_type(region, line_type)
            if number is not None:
                yield region, number
    for code in sorted(library.COUNTRY_CODES_FOR_NON_GEO_REGIONS):
        yield None, library.example_number_for_non_geo_entity(code)


def ways_to_write(number: library.PhoneNumber) -> list[str]:
    e164 = library.format_number(number, PhoneNumberFormat.E164)
    national = library.national_significant_number(number)
    return [
        e164,
        e164[1:],
        f"00{e164[1:]}",
        f"011 {e164[1:]}",
        library.format_number(number, PhoneNumberFormat.INTERNATIONAL),
        library.format_number(number, PhoneNumberFormat.NATIONAL),
        library.format_number(number, PhoneNumberFormat.RFC3966),
        national,
        f"0{national}",
        f"1 {national}",
        f"8 ({national[:3]}) {national[3:]}",
        f"+{number.country_code} (0) {national}",
        f"[{e164[:4]}]/{'.'.join(e164[4:])}-",
    ]


EXAMPLES = list(example_numbers())


def test_the_examples_of_every_region_and_type_in_every_form() -> None:
    written = [(text, region) for region, number in EXAMPLES for text in ways_to_write(number)]
    assert differences(written) == []


def test_the_examples_with_digits_changed_added_and_dropped() -> None:
    chance = random.Random(20)
    written: Written = []
    for region, number in chance.choices(EXAMPLES, k=6_000):
        text = list(chance.choice(ways_to_write(number)))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(text))
            change = chance.choice(["digit", "more", "less", "junk"])
            if change == "less" and len(text) > 1:
                del text[place]
            elif change == "digit":
                text[place] = chance.choice("0123456789")
            else:
                text.insert(place, chance.choice("0123456789" if change == "more" else JUNK))
        dialled_from = chance.choice([region, region, region, chance.choice(REGIONS), None])
        written.append(("".join(text), dialled_from))
    assert differences(written) == []


def test_digits_at_random_from_every_region() -> None:
    chance = random.Random(21)
    starts = ["", "", "+", "00", "011", "0", "1", "8", "06"]
    written: Written = []
    for region in REGIONS * 20:
        digits = "".join(chance.choices("0123456789", k=chance.randint(1, 17)))
        own = chance.choice(["", str(library.country_code_for_region(region))])
        written.append((chance.choice(starts) + own + digits, region))
    assert differences(written) == []


@pytest.mark.parametrize(
    ("text", "region", "expected"),
    [
        ("+1 (415) 555-2671", "GB", ("+14155552671", True, "fixed_line_or_mobile", "US")),
        ("0044 20 7946 0018", "GB", ("+442079460018", True, "fixed_line", "GB")),
        ("07400 123456", "GB", ("+447400123456", True, "mobile", "GB")),
        ("07911 123456", "GB", ("+447911123456", True, "mobile", "GG")),
        ("447400123456", "GB", ("+447400123456", True, "mobile", "GB")),
        ("415.555.2671 ext 5", "US", ("+14155552671", True, "fixed_line_or_mobile", "US")),
        ("1-800-FLOWERS", "US", ("+18003569377", True, "toll_free", "US")),
        ("\uff10\uff17\uff14\uff10\uff10123456", "GB", ("+447400123456", True, "mobile", "GB")),
        ("06 698 12345", "IT", ("+390669812345", True, "fixed_line", "VA")),
        ("011 15-2345-6789", "AR", ("+5491123456789", True, "mobile", "AR")),
        ("+800 1234 5678", "US", ("+80012345678", True, "toll_free", "001")),
        ("+44 7700 900123", "GB", ("+447700900123", False, "unknown", None)),
        ("+49 12", "DE", ("+4912", False, "unknown", "DE")),
        ("+999 123 4567", "GB", (None, False, "unknown", None)),
        (" " * 250 + "07400123456", "GB", (None, False, "unknown", None)),
        ("n/a", "GB", (None, False, "unknown", None)),
        ("", "GB", (None, False, "unknown", None)),
    ],
)
def test_a_number_is_read_as(text: str, region: str, expected: Row) -> None:
    (row,) = rows(phones.normalise(pd.Series([text]), region))
    assert row == by_library(text, region)
    assert row == expected


@pytest.mark.parametrize("region", ["GB", "gb", "gB"])
def test_a_region_may_be_in_either_case(region: str) -> None:
    assert phones.normalise(pd.Series(["07400 123456"]), region).e164[0] == "+447400123456"


@pytest.mark.parametrize("region", ["", "ZZ", "XX", "001", "GBR"])
def test_an_unknown_region_reads_only_numbers_with_a_plus(region: str) -> None:
    texts = pd.Series(["07400 123456", "+44 7400 123456", "44 7400 123456"])
    for regions in (region, pd.Series([region] * 3)):
        found = phones.normalise(texts, regions).e164
        assert found.isna().tolist() == [True, False, True]


def test_regions_may_differ_by_row_and_be_missing() -> None:
    regions = pd.Series(["GB", np.nan, None, "us", "FR"], dtype=object)
    texts = pd.Series(["07400 123456"] * 3 + ["415 555 2671", "06 12 34 56 78"])
    found = phones.normalise(texts, regions).e164
    assert found.dropna().tolist() == ["+447400123456", "+14155552671", "+33612345678"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_number_stays_missing(missing: object) -> None:
    texts = pd.Series([missing, "+447400123456"], dtype=object)
    found = phones.normalise(texts, "GB")
    assert rows(found)[0] == (None, False, "unknown", None)
    assert rows(found)[1] == ("+447400123456", True, "mobile", "GB")
    assert phones.time_zones(found.e164)[0] == ""


def test_the_index_is_kept_whatever_it_is() -> None:
    texts = pd.Series(["+447400123456", "x", "+14155552671"], index=[7, 7, 3])
    found = phones.normalise(texts, pd.Series(["GB"] * 3))
    assert found.index.tolist() == [7, 7, 3]
    assert found.e164.isna().tolist() == [False, True, False]
    assert phones.time_zones(found.e164).index.tolist() == [7, 7, 3]


@pytest.mark.parametrize("dtype", ["str", object])
def test_an_empty_column_gives_the_same_columns(dtype: object) -> None:
    empty = phones.normalise(pd.Series([], dtype=dtype), "GB")
    full = phones.normalise(pd.Series(["+447400123456"]), "GB")
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert empty.dtypes.astype(str).tolist() == ["str", "bool", "str", "str"]
    assert phones.time_zones(empty.e164).dtype == "str"


def test_duplicates_are_asked_of_the_library_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    parse = library.parse

    def counting(text: str, region: str | None) -> library.PhoneNumber:
        asked.append(text)
        return parse(text, region)

    monkeypatch.setattr(library, "parse", counting)
    found = phones.normalise(pd.Series(["07400 123456 ext 5", "07400 123456"] * 50), "GB")
    assert asked == ["07400 123456 ext 5"]
    assert found.e164.tolist() == ["+447400123456"] * 100


def test_a_column_longer_than_a_block_is_read_through() -> None:
    ends = [f"{number:05d}" for number in range(40_000)]
    found = phones.normalise(pd.Series([f"+44 74001 {end}" for end in ends]), "US")
    assert found.e164.tolist() == [f"+4474001{end}" for end in ends]
    assert found.valid.all()


def test_regions_of_another_length_are_refused() -> None:
    with pytest.raises(SmsError, match="2 regions for 3 numbers"):
        phones.normalise(pd.Series(["1", "2", "3"]), pd.Series(["GB", "US"]))


def test_plans_that_do_not_compile_are_left_to_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = plan_tables()
    covered = tables.covered & ~np.isin(tables.calling_code, [44, 1])
    classify = np.where(np.isin(np.arange(len(tables.classify)), [44, 1]), 0, tables.classify)
    partial = dataclasses.replace(tables, covered=covered, classify=classify)
    monkeypatch.setattr(phones, "plan_tables", lambda: partial)
    written = [
        (text, region)
        for region, number in EXAMPLES
        if region in {"GB", "US", "JE", "FR"}
        for text in ways_to_write(number)
    ]
    assert differences(written) == []


def test_time_zones_are_sorted_and_joined() -> None:
    e164 = pd.Series(["+12125550100", "+447911123456", "+61412345678", "+442", "+99912", None])
    assert phones.time_zones(e164).tolist() == [
        "America/New_York",
        "Europe/Guernsey,Europe/Isle_of_Man,Europe/Jersey,Europe/London",
        zones_by_library("+61412345678"),
        "",
        "",
        "",
    ]
    assert phones.time_zones(e164)[2].count(",") == 7


def test_the_version_is_the_librarys() -> None:
    assert phones.library_version() == library.__version__
