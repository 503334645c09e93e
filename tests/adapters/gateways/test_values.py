"""Single values out of answers: what is absurd is left out, and raises nothing."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from adapters.gateways import values


@pytest.mark.parametrize(
    ("said", "price"),
    [
        ("0.0075", Decimal("0.0075")),
        ("-0.0075", Decimal("0.0075")),
        ("1000000", Decimal(1_000_000)),
        ("0.000000000001", Decimal("0.000000000001")),
        ("1000001", None),
        ("0.0000000000001", None),
        ("0.020999999999999998", Decimal("0.021")),
        ("1e9999999", None),
        ("-1e999999", None),
        ("1e-9999999", None),
        ("9" * 5000, None),
        ("NaN", None),
        ("sNaN", None),
        ("Infinity", None),
        ("free", None),
        (None, None),
    ],
)
def test_a_price_is_an_amount_that_a_message_can_cost(said: object, price: Decimal | None) -> None:
    assert values.amount(said) == price


@pytest.mark.parametrize(
    ("said", "segments"),
    [
        ("3", 3),
        (255, 255),
        (256, None),
        ("0", None),
        ("1" * 23, None),
        ("1" * 5000, None),
        (10**15, None),
        ("²", None),
        (True, None),
    ],
)
def test_a_number_of_segments_is_one_that_a_text_can_have(
    said: object, segments: int | None
) -> None:
    assert values.count(said) == segments


@pytest.mark.parametrize(
    "said",
    [
        "Mon, 01 Jan 2024 00:00:00 +9999999999999999",
        "Mon, 01 Jan 2024 00:00:00 +2500",
        "Fri, 31 Dec 9999 23:59:59 -0500",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "soon",
        None,
    ],
)
def test_a_mail_date_that_no_calendar_has_is_none(said: object) -> None:
    assert values.mail_date(said) is None


@pytest.mark.parametrize("said", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "", 7])
def test_an_iso_date_that_no_calendar_has_is_none(said: object) -> None:
    assert values.iso_date(said) is None


def test_an_instant_is_in_utc() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert values.iso_date("2026-11-24T14:00:00+02:00") == noon
    assert values.mail_date("Tue, 24 Nov 2026 14:00:00 +0200") == noon


def test_a_text_has_no_character_that_postgresql_cannot_store() -> None:
    assert (values.text("a\0b"), values.text("\0")) == ("ab", None)
