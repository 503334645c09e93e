"""Counting segments, and making fewer of them."""

import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.segments import (
    GSM7_BASIC,
    GSM7_EXTENSION,
    SMART_REPLACEMENTS,
    count_segments,
    describe_character,
    measure,
    smart_replace,
    smart_replace_column,
)

EMOJI = "😀"

gsm7_texts = st.text(st.sampled_from(GSM7_BASIC + GSM7_EXTENSION * 3), max_size=700)
ucs2_texts = st.text(st.sampled_from("aя’" + EMOJI * 3), max_size=300)
any_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
# Long runs of pairs, cut near the edges of segments, are where packing and division disagree.
edge_texts = st.builds(
    lambda before, pair, pairs, after: "a" * before + pair * pairs + "a" * after,
    st.integers(0, 320),
    st.sampled_from(["€", "{", EMOJI]),
    st.integers(0, 200),
    st.integers(0, 320),
)
texts = st.one_of(gsm7_texts, ucs2_texts, any_texts, edge_texts)


def packed_unit_by_unit(text: str) -> tuple[str, int]:
    """Count as the standard describes it, with no regard to speed."""
    gsm7 = all(character in GSM7_BASIC + GSM7_EXTENSION for character in text)
    if gsm7:
        widths = [2 if character in GSM7_EXTENSION else 1 for character in text]
    else:
        widths = [len(character.encode("utf-16-le")) // 2 for character in text]
    single, part = (160, 153) if gsm7 else (70, 67)
    if sum(widths) <= single:
        return ("GSM-7" if gsm7 else "UCS-2"), 1
    segments, room = 1, part
    for width in widths:
        if width > room:
            segments, room = segments + 1, part
        room -= width
    return ("GSM-7" if gsm7 else "UCS-2"), segments


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", 1),  # an empty SMS is billed
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 153 * 2, 2),
        ("a" * (153 * 2 + 1), 3),
        ("a" * 158 + "€", 1),
        ("a" * 159 + "€", 2),
        ("€" * 80, 1),
        ("€" * 81, 2),
        # 152 units, an escape pair, 152 more: the pair moves on whole and leaves a septet empty.
        ("a" * 151 + "€" + "a" * 153, 2),
        ("a" * 152 + "€" + "a" * 151, 2),
        ("a" * 152 + "€" + "a" * 152, 3),
        ("€" * 76 * 2, 2),
        ("€" * (76 * 2 + 1), 3),
        ("line\r\nbreak", 1),
    ],
)
def test_gsm7_texts_fill_160_septets_or_153_a_part(text: str, segments: int) -> None:
    assert count_segments(text) == ("GSM-7", segments)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("я", 1),
        ("я" * 70, 1),
        ("я" * 71, 2),
        ("я" * 67 * 2, 2),
        ("я" * (67 * 2 + 1), 3),
        (EMOJI * 35, 1),
        (EMOJI * 36, 2),
        ("я" * 65 + EMOJI + "я" * 67, 2),
        ("я" * 66 + EMOJI + "я" * 65, 2),
        ("я" * 66 + EMOJI + "я" * 66, 3),  # the pair would have straddled units 67 and 68
        (EMOJI * 33 * 2, 2),
        (EMOJI * (33 * 2 + 1), 3),
        ("{" + "я" * 69, 1),  # extension characters are one unit here
        ("\ue000" * 71, 2),  # private use
    ],
)
def test_ucs2_texts_fill_70_code_units_or_67_a_part(text: str, segments: int) -> None:
    assert count_segments(text) == ("UCS-2", segments)


def test_the_alphabet_has_127_characters_and_9_extensions() -> None:
    assert len(set(GSM7_BASIC)) == 127
    assert set(GSM7_EXTENSION) == set("\f^{}\\[~]|€")


@pytest.mark.parametrize("character", ["\n", "\r", "é", "Ç", "Δ", "@", "_", "¡", "\f", "~"])
def test_characters_of_the_alphabet_keep_a_text_gsm7(character: str) -> None:
    assert count_segments(character)[0] == "GSM-7"


@pytest.mark.parametrize("character", ["ç", "á", "`", "’", "\t", "\x1b", "\x00", "\u00a0", "Α"])
def test_characters_outside_the_alphabet_force_ucs2(character: str) -> None:
    assert count_segments(character)[0] == "UCS-2"


@given(texts)
def test_counting_equals_packing_unit_by_unit(text: str) -> None:
    assert count_segments(text) == packed_unit_by_unit(text)


@given(st.lists(texts, max_size=8))
def test_a_column_is_measured_as_its_texts_are_counted(column: list[str]) -> None:
    measured = measure(pd.Series(column, dtype="str"))
    assert list(zip(measured["encoding"], measured["segments"], strict=True)) == [
        count_segments(text) for text in column
    ]


def test_every_length_of_pairs_around_the_edges_is_measured_exactly() -> None:
    column = [
        "a" * before + pair * pairs + "a" * after
        for pair in ("€", EMOJI)
        for before in (0, 1, 65, 66, 67, 151, 152, 153)
        for pairs in (1, 2, 33, 34, 76, 77)
        for after in range(0, 310, 3)
    ]
    measured = measure(pd.Series(column, dtype="str"))
    assert measured["segments"].tolist() == [packed_unit_by_unit(text)[1] for text in column]


def test_the_first_character_that_forces_ucs2_is_named() -> None:
    measured = measure(pd.Series(["plain", "it’s “here”", "hi 😀", "", None], dtype="str"))
    assert measured["forcing"].tolist() == ["", "’", "😀", "", ""]


def test_a_missing_text_has_no_encoding_and_no_segments() -> None:
    measured = measure(pd.Series(["a", None], dtype="str"))
    assert measured.iloc[1].tolist() == ["", 0, ""]


def test_measurements_keep_the_index_of_the_column() -> None:
    measured = measure(pd.Series(["a", "я", "a"], index=[7, 7, 3], dtype="str"))
    assert measured.index.tolist() == [7, 7, 3]
    assert list(measured.columns) == ["encoding", "segments", "forcing"]


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("It’s “20% off”", 'It\'s "20% off"'),
        ("Mon–Fri — today…", "Mon-Fri - today..."),
        ("5\u00a0€\u202fonly", "5 € only"),
        ("in\u200bvisible\ufeff", "invisible"),
        ("name:\tAnn", "name: Ann"),
        ("`tick´", "'tick'"),
        ("• one", "- one"),
    ],
)
def test_typography_becomes_what_people_type(text: str, replaced: str) -> None:
    assert smart_replace(text) == replaced


@pytest.mark.parametrize(
    "text",
    ["ñandú … über", "Привет — мир", "Łódź “centrum”", "👨\u200d👩\u200d👧 it’s", "col·legi"],
)
def test_a_text_that_stays_ucs2_all_the_same_is_left_alone(text: str) -> None:
    assert smart_replace(text) == text


def test_letters_are_never_replaced() -> None:
    replaced = "".join(SMART_REPLACEMENTS)
    assert [c for c in replaced if unicodedata.category(c).startswith("L")] == []


def test_replacements_are_gsm7_and_what_they_replace_is_not() -> None:
    assert {count_segments(to)[0] for to in SMART_REPLACEMENTS.values()} == {"GSM-7"}
    assert {count_segments(c)[0] for c in "".join(SMART_REPLACEMENTS)} == {"UCS-2"}


@given(gsm7_texts)
def test_a_gsm7_text_is_never_changed(text: str) -> None:
    assert smart_replace(text) == text


@given(st.lists(st.text(st.sampled_from("aé я’“…—\u00a0\u200b€" + EMOJI), max_size=12), max_size=8))
def test_a_column_is_replaced_as_its_texts_are(column: list[str]) -> None:
    replaced = smart_replace_column(pd.Series(column, dtype="str"))
    assert replaced.tolist() == [smart_replace(text) for text in column]


def test_replacing_in_a_column_keeps_missing_texts_index_and_name() -> None:
    replaced = smart_replace_column(
        pd.Series(["it’s", None], index=[4, 4], dtype="str", name="text")
    )
    assert replaced[replaced.notna()].tolist() == ["it's"]
    assert (replaced.index.tolist(), replaced.name) == ([4, 4], "text")


@pytest.mark.parametrize(
    ("character", "description"),
    [
        ("’", "’ (U+2019 RIGHT SINGLE QUOTATION MARK)"),
        ("😀", "😀 (U+1F600 GRINNING FACE)"),
        ("\u00a0", "U+00A0 NO-BREAK SPACE"),
        ("\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\t", "U+0009 CONTROL CHARACTER"),
    ],
)
def test_a_character_is_described_and_shown_only_if_it_can_be_seen(
    character: str, description: str
) -> None:
    assert describe_character(character) == description
