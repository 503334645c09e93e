"""Masking of personal data, for everything that leaves the database other than an export.

Here too: what is said of a fault of the program, whose own words often quote the value at fault.
"""

import re
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import pandas as pd

from data.errors import SmsError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_PROJECT = Path(__file__).parent.parent
_FRAMES_SHOWN = 4

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


class ProgramError(SmsError):
    """A fault of the program. It says where, and nothing of what was being worked on."""


def impersonal(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let no error of a function that handles people's data quote them.

    Errors for people pass. Any other (pandas and PostgreSQL quote the value at fault) becomes a
    `ProgramError` with its type and the places in the code it came through: Prefect stores the text
    of an exception, its causes and its traceback for everybody who can see the run.
    """

    @wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except SmsError:
            raise
        except Exception as error:  # noqa: BLE001 - its type and place are told, its words are not
            raise ProgramError(_place(error)) from None

    return guarded


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[1:]
    ours = [frame for frame in frames if _is_ours(frame)]
    # Where it was raised, and the last places of ours on the way there.
    shown = [*ours[-_FRAMES_SHOWN:], *(frame for frame in frames[-1:] if not _is_ours(frame))]
    places = " → ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in shown)
    return (
        f"a fault of the program: {type(error).__name__} at {places or 'an unknown place'};"
        " please report this line, nothing in it is personal"
    )


def _is_ours(frame: traceback.FrameSummary) -> bool:
    path = Path(frame.filename)
    return path.is_relative_to(_PROJECT) and "site-packages" not in path.parts


def _short(filename: str) -> str:
    path = Path(filename)
    if "site-packages" in path.parts:
        return "/".join(path.parts[path.parts.index("site-packages") + 1 :])
    return str(path.relative_to(_PROJECT)) if path.is_relative_to(_PROJECT) else path.name
