"""Segments: how a text is encoded, how many segments it is billed as, and what would make it fewer.

Here: the GSM-7 alphabet, counting one text and a column of texts, and the replacement of
typography that GSM-7 lacks. Not here: what a segment costs (pricing), how a text comes about
(composition). Alphabet and sizes: 3GPP TS 23.038 (default table and its extension), TS 23.040.
"""

import re
import unicodedata

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

GSM7_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXTENSION = "\f^{}\\[~]|€"  # each is an escape and a second septet

GSM7_SINGLE, GSM7_PART = 160, 153  # septets; the concatenation header takes seven
UCS2_SINGLE, UCS2_PART = 70, 67  # UTF-16 code units; the header takes three

# Typography that GSM-7 lacks and what people type instead. No letter is in this table: é, ñ and я
# are spelling, and whoever wrote them meant them.
SMART_REPLACEMENTS = {
    "‘’‚‛′‵`´＇": "'",
    "“”„‟″‶«»＂": '"',
    "‹": "<",
    "›": ">",
    "‐‑‒–—―−⁃﹘﹣－": "-",
    "…": "...",
    "•‣": "-",
    "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a": " ",
    "\u202f\u205f\u3000": " ",
    "\u2028\u2029\u0085": "\n",
    # Invisible: soft hyphen, zero-width space and joiners, direction marks, word joiner, BOM,
    # and the variation selectors that ask for a plain or a coloured glyph.
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufe0e\ufe0f\ufeff": "",
}

_REPLACEMENTS = str.maketrans(
    {character: to for characters, to in SMART_REPLACEMENTS.items() for character in characters}
)


def _characters(characters: str, *, negated: bool = False) -> str:
    """Write a character class that Python and RE2 (pyarrow) both read, free of escaping rules."""
    members = "".join(f"\\x{{{ord(character):x}}}" for character in characters)
    return f"[{'^' if negated else ''}{members}]"


_NOT_GSM7_RE2 = _characters(GSM7_BASIC + GSM7_EXTENSION, negated=True)
_EXTENSION_RE2 = _characters(GSM7_EXTENSION)
_ASTRAL_RE2 = r"[\x{10000}-\x{10ffff}]"

_NOT_GSM7 = re.compile(f"[^{re.escape(GSM7_BASIC + GSM7_EXTENSION)}]")
_EXTENSION = re.compile(f"[{re.escape(GSM7_EXTENSION)}]")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


def count_segments(text: str) -> tuple[str, int]:
    """Return the encoding, `GSM-7` or `UCS-2`, and the number of segments of one text.

    An escape pair (GSM-7) or surrogate pair (UCS-2) never straddles two segments, so a segment can
    end one unit early. An empty text is one segment: an empty SMS is sent and billed as one.
    """
    if _NOT_GSM7.search(text):
        return "UCS-2", _pack(text, _ASTRAL, UCS2_SINGLE, UCS2_PART)
    return "GSM-7", _pack(text, _EXTENSION, GSM7_SINGLE, GSM7_PART)


def _pack(text: str, doubles: re.Pattern[str], single: int, part: int) -> int:
    # One character a unit from here on: a private-use character, which neither pattern matches,
    # stands for the first half of every pair, and must not be the last unit of a segment.
    first_half = "\ue000"
    units = doubles.sub(f"{first_half}x", text.replace(first_half, "x"))
    if len(units) <= single:
        return 1
    segments, start = 0, 0
    while start < len(units):
        start += part
        if start < len(units) and units[start - 1] == first_half:
            start -= 1
        segments += 1
    return segments


def measure(texts: pd.Series) -> pd.DataFrame:
    """Measure a column of texts: `encoding`, `segments` and `forcing`, indexed as `texts`.

    Row for row equal to `count_segments`. `forcing` is the first character that GSM-7 lacks, empty
    where there is none. A missing text measures as ("", 0, "").
    """
    column = _arrow(texts)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    column = column.fill_null("")
    ucs2 = pc.match_substring_regex(column, _NOT_GSM7_RE2).to_numpy(zero_copy_only=False)

    segments = np.ones(len(column), dtype=np.int64)
    segments[~ucs2] = _count(
        column.filter(pa.array(~ucs2)), _EXTENSION_RE2, _EXTENSION, GSM7_SINGLE, GSM7_PART
    )
    segments[missing] = 0
    encoding = np.where(missing, "", np.where(ucs2, "UCS-2", "GSM-7"))
    forcing = np.full(len(column), "", dtype=object)
    if ucs2.any():
        wide = column.filter(pa.array(ucs2))
        segments[ucs2] = _count(wide, _ASTRAL_RE2, _ASTRAL, UCS2_SINGLE, UCS2_PART)
        found = pc.extract_regex(wide, f"(?P<first>{_NOT_GSM7_RE2})")
        forcing[ucs2] = pc.struct_field(found, "first").to_numpy(zero_copy_only=False)
    return pd.DataFrame(
        {
            "encoding": pd.Series(encoding, index=texts.index, dtype="str"),
            "segments": segments,
            "forcing": pd.Series(forcing, index=texts.index, dtype="str"),
        },
        index=texts.index,
    )


def _count(
    column: pa.Array, doubles_re2: str, doubles: re.Pattern[str], single: int, part: int
) -> npt.NDArray[np.int64]:
    """Count the segments of texts of one encoding."""
    pairs = pc.count_substring_regex(column, doubles_re2).to_numpy().astype(np.int64)
    units = pc.utf8_length(column).to_numpy().astype(np.int64) + pairs
    segments = np.where(units <= single, 1, -(-units // part))
    # Every segment but the last can lose one unit to a pair. Only a text that such a loss could
    # push over the edge has to be packed.
    doubtful = (segments > 1) & (pairs > 0) & (units > segments * part - (segments - 1))
    for at in np.flatnonzero(doubtful):
        segments[at] = _pack(column[at].as_py(), doubles, single, part)
    return segments


def smart_replace(text: str) -> str:
    """Replace typography (quotes, dashes, ellipses, odd spaces) when that makes the text GSM-7.

    A text that is GSM-7 already, or that would stay UCS-2 all the same (Cyrillic, an emoji), comes
    back unchanged: it would lose its typography, and its emoji their joiners, for nothing.
    """
    replaced = text.translate(_REPLACEMENTS)
    return text if _NOT_GSM7.search(replaced) else replaced


def smart_replace_column(texts: pd.Series) -> pd.Series:
    """`smart_replace` for a column; missing texts stay missing."""
    column = _arrow(texts)
    # Few texts hold anything to replace, and there are many replacements.
    odd = pc.fill_null(pc.match_substring_regex(column, _NOT_GSM7_RE2), False)
    written = replaced = column.filter(odd)
    for characters, to in SMART_REPLACEMENTS.items():
        replaced = pc.replace_substring_regex(replaced, _characters(characters), to)
    helped = pc.invert(pc.match_substring_regex(replaced, _NOT_GSM7_RE2))
    chosen = pc.replace_with_mask(column, odd, pc.if_else(helped, replaced, written))
    return pd.Series(chosen, dtype="str", name=texts.name).set_axis(texts.index)


def describe_character(character: str) -> str:
    """Name a character for a report, as in `’ (U+2019 RIGHT SINGLE QUOTATION MARK)`.

    One that cannot be seen is named without being shown.
    """
    label = f"U+{ord(character):04X} {unicodedata.name(character, 'CONTROL CHARACTER')}"
    return f"{character} ({label})" if character.isprintable() and character != " " else label


def _arrow(texts: pd.Series) -> pa.Array:
    column = pa.array(texts.astype("str"), type=pa.large_string())
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
