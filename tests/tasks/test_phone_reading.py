"""Which written forms are read a column at a time, and which are left to the library."""

import numpy as np
import pyarrow as pa
import pytest

from tasks.phone_plans import plan_tables
from tasks.phone_reading import read_block


def _odd(text: str, region: str) -> bool:
    tables = plan_tables()
    block = read_block(
        tables, pa.array([text], pa.large_string()), np.array([tables.home.get(region, 0)])
    )
    return bool(block.odd[0])


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("+14155552671", "US"),
        ("+1 (415) 555-2671", "GB"),
        ("(+44) 7911/123456", "US"),
        ("07911 123456", "GB"),
        ("0044 20 7946 0018", "GB"),
        ("011 44 20 7946 0018", "US"),
        ("1-415-555-2671", "US"),
        ("415.555.2671", "US"),
        ("14155552671", "US"),
        ("447911123456", "GB"),
        ("+44\u00a07911\u2011123456", "GB"),
        ("06 698 12345", "IT"),
        ("8 (912) 345-67-89", "RU"),
        ("", "US"),
        (" - ", "US"),
        ("07911 123456", ""),
    ],
)
def test_the_ordinary_forms_are_read_here(text: str, region: str) -> None:
    assert not _odd(text, region)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("1-800-FLOWERS", "US"),
        ("415.555.2671 ext 5", "US"),
        ("415 555 2671 x5", "US"),
        ("415 555 2671,5", "US"),
        ("\uff10\uff17\uff19\uff11\uff11 123456", "GB"),
        ("++44 7911 123456", "GB"),
        ("44+7911123456", "GB"),
        ("+999 123 4567", "GB"),
        ("12", "GB"),
        ("1" * 24, "GB"),
        (" " * 250 + "07911123456", "GB"),
        ("011 15-2345-6789", "AR"),
        ("abc", "GB"),
    ],
)
def test_unusual_forms_are_left_to_the_library(text: str, region: str) -> None:
    assert _odd(text, region)


def test_a_slice_of_an_array_is_read_from_its_own_offset() -> None:
    tables = plan_tables()
    text = pa.array(["junk", "+14155552671", "+447911123456"], pa.large_string())
    block = read_block(tables, text[1:], np.zeros(2, np.int64))
    assert block.code.tolist() == [1, 44]
    assert not block.odd.any()
