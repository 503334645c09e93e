"""Reading single values out of what gateways answer, where nothing may be trusted to be there.

Each function returns None for what it cannot read, so that one odd field costs no report.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any


def text(value: object) -> str | None:
    """Return a text or a number as text; None for nothing, an empty text, or a structure."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def amount(value: object) -> Decimal | None:
    """Return a price without its sign (a charge is negative at some gateways)."""
    try:
        price = Decimal(text(value) or "")
    except InvalidOperation:
        return None
    return abs(price) if price.is_finite() else None


def money(price: object, currency: object) -> tuple[Decimal | None, str | None]:
    """Return a price and its currency; neither where there is no price."""
    value = amount(price)
    return value, None if value is None else text(currency)


def count(value: object) -> int | None:
    """Return a number of segments; None for 0, which gateways say while they do not know."""
    digits = text(value) or ""
    return (int(digits) or None) if digits.isascii() and digits.isdigit() else None


def mail_date(value: object) -> datetime | None:
    """Return the instant in an RFC 2822 date, which is UTC where it names no zone."""
    try:
        instant = parsedate_to_datetime(text(value) or "")
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def iso_date(value: object) -> datetime | None:
    """Return the instant in an ISO 8601 date, which is UTC where it names no zone."""
    try:
        instant = datetime.fromisoformat(text(value) or "")
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def objects(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in a list, and none where it is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def e164(number: str) -> str:
    """Return a number with +, where a gateway left it away; names and short codes as they are."""
    bare = number.isascii() and number.isdecimal() and len(number) > 6 and number[0] != "0"
    return f"+{number}" if bare else number
