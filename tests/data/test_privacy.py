"""Masking: what may be shown of a number, and of a fault of the program."""

import pytest

from data.errors import SmsError
from data.privacy import ProgramError, impersonal


@impersonal
def divided(number: int, by: int) -> float:
    """Divide."""
    if by == 7:
        raise SmsError("seven is not allowed")
    try:
        return number / by
    except ZeroDivisionError as error:
        raise ValueError(f"cannot divide {number}") from error


def test_a_fault_tells_its_type_and_place_and_nothing_else() -> None:
    with pytest.raises(ProgramError) as fault:
        divided(2025550123, by=0)
    assert "ValueError at tests/data/test_privacy.py:" in str(fault.value)
    assert "2025550123" not in str(fault.value)
    # A cause would be shown with its own words.
    assert (fault.value.__cause__, fault.value.__suppress_context__) == (None, True)


def test_an_error_for_people_and_an_answer_pass() -> None:
    assert divided(8, by=2) == 4
    with pytest.raises(SmsError, match=r"^seven is not allowed$"):
        divided(1, by=7)
    assert (divided.__name__, divided.__doc__) == ("divided", "Divide.")
