"""Automata agree with the `re` module, whatever the pattern and the digits."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.phone_automata import (
    Automaton,
    Bank,
    longest_key_automaton,
    prefix_automaton,
    whole_automaton,
)
from tasks.phone_patterns import END

DIGITS = st.text("0123", max_size=7)


def _patterns() -> st.SearchStrategy[str]:
    symbol = st.sampled_from(["0", "1", "2", r"\d", "[12]", "[0-2]", "[13]"])
    times = st.sampled_from(["", "", "?", "{2}", "{1,3}", "{0,2}"])

    def larger(smaller: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        group = st.tuples(st.sampled_from(["(", "(?:"]), smaller, times)
        return st.one_of(
            st.lists(smaller, min_size=1, max_size=3).map("".join),
            st.lists(smaller, min_size=2, max_size=3).map("|".join),
            group.map(lambda parts: f"{parts[0]}{parts[1]}){parts[2]}"),
        )

    return st.recursive(st.tuples(symbol, times).map("".join), larger, max_leaves=8)


def _cells(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The texts' digits in rows of 8 cells, and where each begins and ends."""
    cells = np.full((len(texts), 8), END, np.uint8)
    for row, text in enumerate(texts):
        cells[row, : len(text)] = [int(digit) for digit in text]
    begin = np.arange(len(texts)) * 8
    return cells.ravel(), begin, begin + [len(text) for text in texts]


def _prefixes(automaton: Automaton, texts: list[str]) -> list[int]:
    bank = Bank([automaton])
    cells, begin, _ = _cells(texts)
    return bank.match_prefix(cells, begin, np.full(len(texts), bank.roots[0])).tolist()


def _wholes(automaton: Automaton, texts: list[str]) -> list[int]:
    bank = Bank([automaton])
    return bank.match_whole(*_cells(texts), np.full(len(texts), bank.roots[0])).tolist()


@given(_patterns(), st.lists(DIGITS, min_size=1, max_size=30))
def test_a_prefix_is_as_long_as_re_match_finds_it(pattern: str, texts: list[str]) -> None:
    found = [re.match(pattern, text) for text in texts]
    expected = [match.end() if match else -1 for match in found]
    assert _prefixes(prefix_automaton(pattern), texts) == expected


@given(_patterns(), st.lists(DIGITS, min_size=1, max_size=30))
def test_a_whole_match_is_what_re_fullmatch_says(pattern: str, texts: list[str]) -> None:
    expected = [int(re.fullmatch(pattern, text) is not None) for text in texts]
    assert _wholes(whole_automaton([(pattern, 0)], len), texts) == expected


@given(_patterns(), _patterns(), st.lists(DIGITS, min_size=1, max_size=30))
def test_tags_say_which_of_the_patterns_match(one: str, two: str, texts: list[str]) -> None:
    automaton = whole_automaton([(one, 1), (two, 2)], sum)
    expected = [
        (re.fullmatch(one, text) is not None) + 2 * (re.fullmatch(two, text) is not None)
        for text in texts
    ]
    assert _wholes(automaton, texts) == expected


@pytest.mark.parametrize(
    ("pattern", "digits", "length"),
    [
        ("0|00", "001", 1),
        ("00|0", "001", 2),
        ("0(?:12)?", "0123", 3),
        ("(?:1|12)3", "123", 3),
        ("([12]3)$|1", "13", 2),
        ("([12]3)$|1", "131", 1),
        ("([12]3)$", "131", -1),
        ("0?", "13", 0),
    ],
)
def test_the_earlier_alternative_and_the_longer_repetition_win(
    pattern: str, digits: str, length: int
) -> None:
    assert _prefixes(prefix_automaton(pattern), [digits]) == [length]


def test_an_unlimited_repetition_takes_digits_of_any_number() -> None:
    automaton = whole_automaton([(r"(?:12|3)\d*", 0)], len)
    assert _wholes(automaton, ["12", "3", "1200000", "1", "21"]) == [1, 1, 1, 0, 0]


@given(st.dictionaries(DIGITS.filter(bool), st.integers(1, 9)), st.lists(DIGITS, min_size=1))
def test_the_longest_key_gives_the_value(keys: dict[str, int], texts: list[str]) -> None:
    expected = [
        next((keys[text[:n]] for n in range(len(text), 0, -1) if text[:n] in keys), 0)
        for text in texts
    ]
    assert _wholes(longest_key_automaton(keys), texts) == expected


def test_automata_in_one_bank_do_not_touch_each_other() -> None:
    automata = [whole_automaton([(pattern, 0)], len) for pattern in ("1", "2", "12")]
    bank = Bank(automata)
    cells, begin, end = _cells(["1", "2", "12", "2", "12", "1"])
    roots = np.array([bank.roots[which] for which in (0, 1, 2, 0, 1, 2)])
    assert bank.match_whole(cells, begin, end, roots).tolist() == [1, 1, 1, 0, 0, 0]


def test_root_zero_matches_nothing() -> None:
    bank = Bank([whole_automaton([("1", 0)], len)])
    cells, begin, end = _cells(["1", ""])
    nothing = np.zeros(2, np.int64)
    assert bank.match_prefix(cells, begin, nothing).tolist() == [-1, -1]
    assert bank.match_whole(cells, begin, end, nothing).tolist() == [0, 0]
