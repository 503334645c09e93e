"""The syntax of numbering plans: what is read, and what is refused rather than misread."""

import pytest

from tasks.phone_patterns import UnsupportedPatternError, last_capture, read_pattern, shortest


@pytest.mark.parametrize(
    "pattern",
    [
        "1+",
        "1??",
        "1*?",
        "(?!1)2",
        "(?P<a>1)",
        "[^1]",
        "1.2",
        "^1",
        r"\D",
        "1{2,}",
        "(1",
        "1)",
        "a",
    ],
)
def test_syntax_that_is_not_known_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        read_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "digits"),
    [
        ("", 0),
        ("12", 2),
        (r"\d{3,5}", 3),
        ("1?2*", 0),
        ("123|4", 1),
        ("(12)$", 2),
        ("(?:12){2}", 4),
    ],
)
def test_the_shortest_match_is_known(pattern: str, digits: int) -> None:
    assert shortest(read_pattern(pattern)) == digits


@pytest.mark.parametrize(
    ("pattern", "group"),
    [("0(1)|2(34)?", "34"), ("0((1)2)", "1"), ("(?:1)2", None), ("(?:(12)?3)?", "12")],
)
def test_the_last_group_is_the_one_that_opens_last(pattern: str, group: str | None) -> None:
    found = last_capture(read_pattern(pattern))
    assert found == (None if group is None else last_capture(read_pattern(f"({group})")))
