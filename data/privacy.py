"""Masking of personal data, for everything that leaves the database other than an export."""

import re

import pandas as pd

_DIGITS_SHOWN = 3
_NUMBER_IN_TEXT = re.compile(r"\+?\d[\d\s().-]{5,}\d")


def mask(number: str) -> str:
    """Return a number as people may see it in logs and reports: `+1•••••••123`.

    The first character after the `+` and the last three digits stay; a short or odd value is
    hidden whole, because three digits of five would give it away.
    """
    digits = number.removeprefix("+")
    if len(digits) < 7 or not digits.isdigit():
        return "•" * max(len(number), 3)
    head = number[: len(number) - len(digits) + 1]
    return f"{head}{'•' * (len(digits) - 1 - _DIGITS_SHOWN)}{digits[-_DIGITS_SHOWN:]}"


def mask_column(numbers: pd.Series) -> pd.Series:
    """Mask a column of numbers; missing values become an empty string."""
    return numbers.fillna("").map(lambda number: mask(number) if number else "")


def mask_text(text: str) -> str:
    """Mask everything in a text that looks like a telephone number (for foreign error texts)."""
    return _NUMBER_IN_TEXT.sub(lambda found: mask(re.sub(r"[^\d+]", "", found.group())), text)
