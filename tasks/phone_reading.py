"""The phonenumbers library's `parse` for a block of numbers at once, by its numbering plans.

Here: the ordinary ways to write a number (digits, common punctuation, `+`, prefixes of the plan).
Every other row is marked odd and left to the library. Not here: the columns that come of it
(`phones`) and the plans (`phone_plans`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from tasks.phone_automata import Cells, Ints
from tasks.phone_patterns import END
from tasks.phone_plans import LONGEST_NATIONAL, MOST_DIGITS, TOO_LONG, UNFIT, PlanTables

Flags = npt.NDArray[np.bool_]

# One cell more than digits, so that END follows the last.
_CELLS = MOST_DIGITS + 1
# Below three digits the library asks for more than the digits (viable numbers, short numbers).
_FEWEST_DIGITS = 3
# At most two digits behind a `+` or an IDD prefix are no number.
_SHORTEST_INTERNATIONAL = 3
_SHORTEST_NATIONAL = 2
# Longer texts are no numbers to the library, which counts characters; these are bytes.
_LONGEST_TEXT = 250

_SEPARATOR, _PLUS, _OTHER = 10, 11, 12
# The ASCII punctuation that the library drops wherever it stands. Not `~`, `x`, `#`, `,` and `;`,
# which may begin an extension, and not `*`.
_KIND_OF_BYTE = np.full(256, _OTHER, np.uint8)
_KIND_OF_BYTE[list(b" -./()[]")] = _SEPARATOR
_KIND_OF_BYTE[list(b"+")] = _PLUS
_KIND_OF_BYTE[list(b"0123456789")] = range(10)
# The same for what spreadsheets and word processors put in: hard spaces, dashes, soft hyphens.
_WIDE_PUNCTUATION = "[\u00a0\u00ad\u200b\u2010-\u2015\u2060\u2212\u3000]"


@dataclass
class Rows:
    """A block of numbers as digits; every array is by row, but for `cells`."""

    cells: Cells
    """The symbols of all rows, 24 a row: its digits, then END."""
    begin: Ints
    """Position in `cells` of the first digit not yet taken up by a prefix."""
    end: Ints
    """Position of the first END."""
    plus: Flags
    odd: Flags
    """Rows that only the library reads right."""


@dataclass(frozen=True)
class Numbers:
    """A block of numbers as read; where `odd` is set, the rest says nothing."""

    code: Ints
    """Calling code; 0 where the text is no number."""
    national: list[Cells]
    """The n-th digit of the national number, by n; END behind the last."""
    length: Ints
    verdict: npt.NDArray[np.int16]
    """See `phone_plans.LINE_TYPE_BITS`."""
    odd: Flags


def read_block(tables: PlanTables, text: Any, home: Ints) -> Numbers:
    """Read a pyarrow large_string array without nulls; `home` is the plan dialled from, by row."""
    rows = _digits(text)
    plan = _take_prefixes(tables, rows, home)
    _drop_national_prefix(tables, rows, plan)
    length = rows.end - rows.begin
    is_number = (plan > 0) & (length >= _SHORTEST_NATIONAL) & (length <= LONGEST_NATIONAL)
    code = np.where(is_number, tables.calling_code[plan], 0)
    length = np.where(is_number, length, 0)
    national = [
        rows.cells.take(np.minimum(rows.begin + place, rows.end))
        for place in range(LONGEST_NATIONAL)
    ]
    judged = tables.bank.walk(national, tables.classify[code])
    return Numbers(code, national, length, tables.verdicts[judged, length], rows.odd)


def _digits(text: Any) -> Rows:
    size = len(text)
    offsets, data = _bytes(text)
    if data.max(initial=0) > 127:
        offsets, data = _bytes(pc.replace_substring_regex(text, _WIDE_PUNCTUATION, " "))
    kinds = _KIND_OF_BYTE.take(data)
    is_digit = kinds < 10
    seen = np.zeros(len(data) + 1, np.int64)
    np.cumsum(is_digit, out=seen[1:])
    before = seen[offsets[:-1]]
    count = seen[offsets[1:]] - before
    odd = (count > MOST_DIGITS) | ((count > 0) & (count < _FEWEST_DIGITS))
    odd |= np.diff(offsets) > _LONGEST_TEXT
    odd[_row_of(offsets, np.flatnonzero(kinds == _OTHER))] = True
    plus_at = np.flatnonzero(kinds == _PLUS)
    plus_row = _row_of(offsets, plus_at)
    pluses = np.bincount(plus_row, minlength=size)
    odd |= pluses > 1
    odd[plus_row[seen[plus_at] != before[plus_row]]] = True
    first = np.arange(size, dtype=np.int64) * _CELLS
    count = np.minimum(count, MOST_DIGITS)
    return Rows(
        cells=_cells(kinds[is_digit], first, seen[offsets]),
        begin=first,
        end=first + count,
        plus=pluses > 0,
        odd=odd,
    )


def _bytes(text: Any) -> tuple[Ints, Cells]:
    """Where each row begins in the array's UTF-8 bytes, and those bytes."""
    _, offsets, data = text.buffers()
    places = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    used = slice(int(places[0]), int(places[-1]))
    if data is None:
        return places - places[0], np.zeros(0, np.uint8)
    return places - places[0], np.frombuffer(data, np.uint8)[used]


def _row_of(offsets: Ints, places: Ints) -> Ints:
    return np.searchsorted(offsets, places, side="right") - 1


def _cells(digits: Cells, first: Ints, seen: Ints) -> Cells:
    """Lay the digits of all rows, which follow each other, into cells of equal width."""
    cells = np.full(len(first) * _CELLS, END, np.uint8)
    count = np.diff(seen)
    column = np.arange(len(digits)) - np.repeat(seen[:-1], count)
    place = np.repeat(first, count) + column
    if count.max(initial=0) > MOST_DIGITS:
        digits, place = digits[column < MOST_DIGITS], place[column < MOST_DIGITS]
    cells[place] = digits
    return cells


def _take_prefixes(tables: PlanTables, rows: Rows, home: Ints) -> Ints:
    """Move behind IDD prefix and calling code; returns each row's plan, 0 for what is no number."""
    plan = np.zeros(len(home), np.int64)
    written = ~rows.odd & (rows.end > rows.begin)
    abroad = written & rows.plus
    dialled = np.flatnonzero(written & ~rows.plus & (home > 0))
    length = tables.bank.match_prefix(rows.cells, rows.begin[dialled], tables.idd[home[dialled]])
    # No calling code begins with 0, so what looked like an IDD prefix was none.
    idd = (length > 0) & (rows.cells[rows.begin[dialled] + length.clip(0)] != 0)
    rows.begin[dialled[idd]] += length[idd]
    abroad[dialled[idd]] = True
    local = dialled[~idd]
    plan[local] = home[local]
    _take_calling_code(tables, rows, plan, np.flatnonzero(abroad))
    _take_own_calling_code(tables, rows, plan, local)
    rows.odd |= ~tables.covered[plan] | (written & ~rows.plus & ~tables.covered[home])
    return plan


def _start(rows: Rows, which: Ints) -> Ints:
    """The first three digits as a number; a row that comes here has them."""
    hundreds, tens, ones = (
        rows.cells.take(rows.begin[which] + place).astype(np.int64) for place in range(3)
    )
    return hundreds * 100 + tens * 10 + ones


def _width(code: Ints) -> Ints:
    return 1 + (code > 9) + (code > 99)


def _take_calling_code(tables: PlanTables, rows: Rows, plan: Ints, abroad: Ints) -> None:
    abroad = abroad[rows.end[abroad] - rows.begin[abroad] >= _SHORTEST_INTERNATIONAL]
    code = tables.code_by_start[_start(rows, abroad)]
    # Without a known code the library tries once more, as if there were no plus.
    rows.odd[abroad[(code == 0) & rows.plus[abroad]]] = True
    plan[abroad] = tables.main_plan[code]
    rows.begin[abroad] += _width(code)


def _take_own_calling_code(tables: PlanTables, rows: Rows, plan: Ints, local: Ints) -> None:
    """Take the home's calling code off where the rest fits its plan better than the whole."""
    code = tables.calling_code[plan[local]]
    fits = _start(rows, local) // 10 ** (3 - _width(code)) == code
    local, code = local[fits], code[fits]
    begin, end, home = rows.begin[local], rows.end[local], plan[local]
    rest, rewritten = _behind_national_prefix(tables, rows.cells, begin + _width(code), end, home)
    rows.odd[local[rewritten]] = True
    general = tables.general[home]
    whole_matches = tables.bank.match_whole(rows.cells, begin, end, general) > 0
    rest_matches = tables.bank.match_whole(rows.cells, rest, end, general) > 0
    better = (~whole_matches & rest_matches) | (tables.fit[home, end - begin] == TOO_LONG)
    plan[local[better]] = tables.main_plan[code[better]]
    rows.begin[local[better]] = rest[better]


def _behind_national_prefix(
    tables: PlanTables, cells: Cells, begin: Ints, end: Ints, plan: Ints
) -> tuple[Ints, Flags]:
    """Where the digits behind the national prefix begin, and where the plan may rewrite them.

    A number that matches the plan with its prefix, and would not without, keeps it.
    """
    length = tables.bank.match_prefix(cells, begin, tables.national_prefix[plan])
    found = np.flatnonzero(length > 0)
    first, last, general = begin[found], end[found], tables.general[plan[found]]
    rest = first + length[found]
    with_prefix = tables.bank.match_whole(cells, first, last, general) > 0
    without_prefix = tables.bank.match_whole(cells, rest, last, general) > 0
    behind = begin.copy()
    behind[found] = np.where(with_prefix & ~without_prefix, first, rest)
    return behind, (length > 0) & (length >= tables.captures_from[plan])


def _drop_national_prefix(tables: PlanTables, rows: Rows, plan: Ints) -> None:
    which = np.flatnonzero((plan > 0) & (rows.end - rows.begin >= _SHORTEST_NATIONAL))
    end, its_plan = rows.end[which], plan[which]
    behind, rewritten = _behind_national_prefix(
        tables, rows.cells, rows.begin[which], end, its_plan
    )
    rows.odd[which[rewritten]] = True
    fits = tables.fit[its_plan, end - behind] != UNFIT
    rows.begin[which[fits]] = behind[fits]
