"""Where numbers may be: subdivisions of area code and address, and candidate time zones."""

import zoneinfo

import pandas as pd
import phonenumbers
import pytest
from phonenumbers import PhoneNumber, PhoneNumberType

from data.geography import area_codes, country_codes, read_subdivision, subdivision_codes
from tasks.places import candidate_zones, subdivisions

GEOGRAPHIC = (
    PhoneNumberType.FIXED_LINE,
    PhoneNumberType.MOBILE,
    PhoneNumberType.FIXED_LINE_OR_MOBILE,
)


def column(*texts: str | None) -> pd.Series:
    return pd.Series(texts, dtype="str")


def place(e164: str | None, region: str | None, address: str | None) -> str:
    return str(subdivisions(column(e164), column(region), column(address)).iloc[0])


def zones(e164: str) -> set[str]:
    return set(candidate_zones(column(e164)).iloc[0].split(","))


# ------------------------------------------------------------------ the table of area codes


def geographic(area_code: int) -> str | None:
    """The country that phonenumbers gives to numbers of an area code; None: it has no place."""
    for local in ("2345678", "4225678", "6012345", "9555012"):
        number = PhoneNumber(country_code=1, national_number=int(f"{area_code}{local}"))
        kind = phonenumbers.number_type(number)
        if phonenumbers.is_valid_number(number) and kind in GEOGRAPHIC:
            return phonenumbers.region_code_for_number(number)
    return None


@pytest.mark.parametrize("hundred", range(2, 10))
def test_every_area_code_of_the_united_states_and_canada_has_its_subdivision(hundred: int) -> None:
    for code in range(100 * hundred, 100 * hundred + 100):
        country = geographic(code)
        if country in ("US", "CA"):
            area = area_codes()[str(code)]
            assert area.country == country, code
            assert area.subdivisions, code
            assert area.subdivisions <= subdivision_codes(country), code


def test_every_row_has_a_country_and_zones_that_exist() -> None:
    known = zoneinfo.available_timezones()
    assert {area.country for area in area_codes().values()} <= country_codes()
    assert all(area.zones and area.zones <= known for area in area_codes().values())
    assert all(bool(a.subdivisions) == (a.country in ("US", "CA")) for a in area_codes().values())


@pytest.mark.parametrize(
    ("codes", "country", "found"),
    [
        ("212 332 347 363 516 518 585 607 646 680 716 718 838 845 914 917 929 934", "US", "NY"),
        ("239 305 321 352 386 407 448 561 689 727 754 772 786 813 850 863 904 941 954", "US", "FL"),
        ("210 214 281 325 361 409 430 432 469 512 682 713 737 806 817 830 832 903 915", "US", "TX"),
        ("205 251 256 334 659 938", "US", "AL"),
        ("203 475 860 959", "US", "CT"),
        ("225 318 337 504 985", "US", "LA"),
        ("240 301 410 443 667", "US", "MD"),
        ("405 539 572 580 918", "US", "OK"),
        ("276 434 540 571 703 757 804 826 948", "US", "VA"),
        ("206 253 360 425 509 564", "US", "WA"),
        ("228 601 662 769", "US", "MS"),
        ("202 771", "US", "DC"),
        ("208 986", "US", "ID"),
        ("401", "US", "RI"),
        ("701", "US", "ND"),
        ("808", "US", "HI"),
        ("907", "US", "AK"),
        ("416 437 647 905 289 613 705 807", "CA", "ON"),
        ("236 250 604 672 778", "CA", "BC"),
        ("418 438 450 514 581 819", "CA", "QC"),
        ("902 782", "CA", "NS PE"),
        ("867", "CA", "NT NU YT"),
        ("787 939", "PR", ""),
        ("340", "VI", ""),
        ("671", "GU", ""),
        ("876", "JM", ""),
    ],
)
def test_an_area_code_is_in_its_state(codes: str, country: str, found: str) -> None:
    for code in codes.split():
        area = area_codes()[code]
        assert (area.country, area.subdivisions) == (country, frozenset(found.split())), code


# ------------------------------------------------------------------ subdivisions


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("FL", "FL"),
        ("fl", "FL"),
        (" Fl ", "FL"),
        ("US-FL", "FL"),
        ("us-fl", "FL"),
        ("Florida", "FL"),
        ("FLORIDA", "FL"),
        ("new  york", "FL,NY"),
        ("Washington", "FL,WA"),
        ("Washington D.C.", "DC,FL"),
        ("District of Columbia", "DC,FL"),
        ("U.S. Virgin Islands", "FL,VI"),
        (None, "FL"),
        ("", "FL"),
        ("  ", "FL"),
        ("Flordia", "?,FL"),
        ("ON", "?,FL"),
        ("CA-ON", "?,FL"),
        ("32801", "?,FL"),
        ("-", "?,FL"),
    ],
)
def test_an_address_is_read_as_code_or_name_and_joins_the_area_code(
    address: str | None, found: str
) -> None:
    assert place("+18505550123", "US", address) == found


@pytest.mark.parametrize(
    ("e164", "region", "address", "found"),
    [
        ("+14165550123", "CA", "Québec", "ON,QC"),
        ("+14165550123", "CA", "quebec", "ON,QC"),
        ("+14165550123", "CA", "ca-bc", "BC,ON"),
        ("+19025550123", "CA", None, "NS,PE"),
        ("+17875550123", "PR", None, ""),
        ("+18005550123", "US", None, ""),
        ("+18005550123", "US", "TX", "TX"),
        ("+447911123456", "GB", None, ""),
        ("+447911123456", "GB", "Scotland", "SCT"),
        ("+4915112345678", "DE", "de-by", "BY"),
        ("+4915112345678", "DE", "Bayern", "BY"),
        ("+34612345678", "ES", "ct", "CT"),
        ("+34612345678", "ES", "ES-CT", "CT"),
        ("+34612345678", "ES", "Cataluña", "?"),
        ("+12125550123", "US", "CA", "CA,NY"),
        (None, None, None, ""),
    ],
)
def test_subdivisions_are_those_of_the_number_s_country(
    e164: str | None, region: str | None, address: str | None, found: str
) -> None:
    assert place(e164, region, address) == found


def test_the_rows_keep_their_index_and_their_order() -> None:
    index = pd.Index([7, 3, 5])
    e164 = column("+12125550123", None, "+18505550123").set_axis(index)
    region = column("US", None, "US").set_axis(index)
    address = column(None, None, "Alabama").set_axis(index)
    assert subdivisions(e164, region, address).to_dict() == {7: "NY", 3: "", 5: "AL,FL"}
    assert candidate_zones(e164).to_dict() == {
        7: "America/New_York",
        3: "",
        5: "America/Chicago,America/New_York",
    }


def test_an_empty_column_stays_one() -> None:
    empty = column()
    assert subdivisions(empty, empty, empty).tolist() == candidate_zones(empty).tolist() == []


def test_no_name_of_a_subdivision_stands_for_two() -> None:
    for country in ("US", "CA", "AU", "DE", "GB"):
        for code in subdivision_codes(country):
            assert read_subdivision(country, code) == code
            assert read_subdivision(country, f"{country}-{code}".lower()) == code


# ------------------------------------------------------------------ time zones


@pytest.mark.parametrize(
    ("e164", "found"),
    [
        ("+12125550123", "New_York"),
        ("+18505550123", "Chicago New_York"),
        ("+14485550123", "Chicago New_York"),
        ("+12085550123", "Boise Los_Angeles"),
        ("+12195550123", "Chicago New_York"),
        ("+18125550123", "Chicago New_York"),
        ("+12705550123", "Chicago New_York"),
        ("+14235550123", "Chicago New_York"),
        ("+16055550123", "Chicago Denver North_Dakota/Center"),
        ("+19065550123", "Chicago New_York"),
        ("+19285550123", "Denver Phoenix"),
        ("+15415550123", "Denver Los_Angeles"),
        ("+19075550123", "Adak Anchorage"),
        ("+12505550123", "Dawson_Creek Edmonton Vancouver"),
        ("+17785550123", "Dawson_Creek Edmonton Vancouver"),
        ("+18075550123", "Toronto Winnipeg"),
        ("+17095550123", "Halifax St_Johns"),
        ("+17875550123", "Puerto_Rico"),
        ("+19155550123", "Denver"),
    ],
)
def test_a_split_area_code_is_in_all_of_its_zones(e164: str, found: str) -> None:
    assert zones(e164) == {f"America/{name}" for name in found.split()}


@pytest.mark.parametrize(
    ("e164", "found"),
    [
        ("+33612345678", {"Europe/Paris"}),
        ("+34612345678", {"Atlantic/Canary", "Europe/Madrid"}),
        ("+1850", {""}),
        ("+12125", {""}),
        ("+18500550123", {""}),
    ],
)
def test_other_numbers_have_the_zones_of_phonenumbers(e164: str, found: set[str]) -> None:
    assert zones(e164) == found
