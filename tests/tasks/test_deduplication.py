"""One number, one message: the first row wins, and the strictest word on consent."""

import pandas as pd
import pytest

from tasks.deduplication import deduplicate


def people(*records: tuple[str | None, str | None, str | None]) -> pd.DataFrame:
    """Records (number, opt-in, opt-in instant), numbered from 1."""
    frame = pd.DataFrame(records, columns=["e164", "opt_in", "opt_in_at"], dtype="str")
    frame["opt_in_at"] = pd.to_datetime(frame["opt_in_at"], utc=True)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return frame


A, B = "+14155550101", "+447911123456"


def test_the_first_row_of_a_number_wins() -> None:
    found = deduplicate(people((A, None, None), (B, None, None), (A, None, None), (A, None, None)))
    assert found["first_row"].tolist() == [1, 2, 1, 1]


def test_records_without_a_usable_number_stand_for_themselves() -> None:
    found = deduplicate(people((None, None, None), (None, None, None)))
    assert found["first_row"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("first", "second", "agreed"),
    [
        ("yes", "yes", "yes"),
        ("yes", "no", "no"),
        ("no", "yes", "no"),
        (None, "yes", None),
        ("yes", None, None),
        (None, "no", "no"),
    ],
)
def test_the_stricter_word_on_consent_wins(
    first: str | None, second: str | None, agreed: str | None
) -> None:
    found = deduplicate(people((A, first, None), (A, second, None)))["opt_in"]
    assert [None if pd.isna(word) else word for word in found] == [agreed, agreed]


def test_the_older_of_two_consents_counts() -> None:
    found = deduplicate(people((A, "yes", "2026-05-01T00:00Z"), (A, "yes", "2024-05-01T00:00Z")))
    assert found["opt_in_at"].dt.year.tolist() == [2024, 2024]


def test_an_undated_consent_makes_the_group_undated() -> None:
    found = deduplicate(people((A, "yes", "2026-05-01T00:00Z"), (A, "yes", None)))
    assert found["opt_in_at"].isna().all()
