"""Reading single values out of what gateways answer, where nothing may be trusted to be there.

Each function returns None for what it cannot read, so that one odd field costs no report.
"""

import math
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

HIGHEST_PRICE = 10**6
MOST_DECIMALS = 12
MOST_SEGMENTS = 255
"""A text has no more parts: its header (UDH) counts them in one octet."""
LONGEST_WAIT = 3600.0
"""Seconds. A gateway that says more is asked again after an hour all the same: the figure may be a
slip, and whoever mends the account meanwhile should not have to wait for the next day."""


def text(value: object) -> str | None:
    """Return a text or a number as text; None for nothing, an empty text, or a structure.

    Without the character NUL, which PostgreSQL stores nowhere.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).replace("\0", "") or None


def amount(value: object) -> Decimal | None:
    """Return a price without its sign (a charge is negative at some gateways), to 12 decimals.

    None, too, for one above a million: no message costs that.
    """
    try:
        price = abs(Decimal(text(value) or ""))
    except ArithmeticError:
        return None
    if not price.is_finite() or price > HIGHEST_PRICE:
        return None
    exponent = price.as_tuple().exponent
    # A float of JSON may have more, which say nothing.
    long = isinstance(exponent, int) and exponent < -MOST_DECIMALS
    return (round(price, MOST_DECIMALS) or None) if long else price


def money(price: object, currency: object) -> tuple[Decimal | None, str | None]:
    """Return a price and its currency; neither where there is no price."""
    value = amount(price)
    return value, None if value is None else text(currency)


def count(value: object) -> int | None:
    """Return a number of segments; None for 0, which gateways say while they do not know.

    None, too, for more than a text can have.
    """
    digits = text(value) or ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MOST_SEGMENTS))):
        return None
    number = int(digits)
    return number if 0 < number <= MOST_SEGMENTS else None


def wait(seconds: float) -> float:
    """Return how many seconds to wait: an hour at most, and 1 where it is no number of seconds."""
    return min(seconds, LONGEST_WAIT) if math.isfinite(seconds) and seconds >= 0 else 1.0


def mail_date(value: object) -> datetime | None:
    """Return the instant in an RFC 2822 date, which is UTC where it names no zone."""
    try:
        return _in_utc(parsedate_to_datetime(text(value) or ""))
    except (ValueError, OverflowError):
        return None


def iso_date(value: object) -> datetime | None:
    """Return the instant in an ISO 8601 date, which is UTC where it names no zone."""
    try:
        return _in_utc(datetime.fromisoformat(text(value) or ""))
    except (ValueError, OverflowError):
        return None


def _in_utc(instant: datetime) -> datetime:
    # Others would convert it later, where an overflow (year 1, zone +14) is nobody's to catch.
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def objects(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in a list, and none where it is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def e164(number: str) -> str:
    """Return a number with +, where a gateway left it away; names and short codes as they are."""
    bare = number.isascii() and number.isdecimal() and len(number) > 6 and number[0] != "0"
    return f"+{number}" if bare else number
