"""Written phone numbers to E.164, line type, region and time zones, a column at a time.

Here: the public functions, the columns they return, and the rows that the phonenumbers library
reads itself. Not here: the reading of ordinary numbers (`phone_reading`), or what a campaign does
with a number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import phonenumbers
import pyarrow as pa
from phonenumbers import re_util

from data.errors import SmsError
from tasks.phone_automata import Cells, Ints
from tasks.phone_plans import LINE_TYPE_BITS, LINE_TYPES, PlanTables, plan_tables
from tasks.phone_reading import Numbers, read_block

# A block's cells, positions and states stay in the cache of one core.
_BLOCK_ROWS = 16_384

_BYTE_OF_SYMBOL = np.frombuffer(b"0123456789\0+", np.uint8)
_NO_SYMBOL, _PLUS = 10, 11

_LIBRARY_LINE_TYPES = {
    getattr(phonenumbers.PhoneNumberType, name.upper()): number
    for number, name in enumerate(LINE_TYPES)
}


def library_version() -> str:
    """The version of phonenumbers, whose metadata judges; plans change between releases."""
    return phonenumbers.__version__


def normalise(numbers: pd.Series, region: pd.Series | str) -> pd.DataFrame:
    """Read a column of written numbers, row for row as phonenumbers 9 does.

    `region` is where numbers without a calling code are dialled from, as ISO 3166 alpha-2 in
    either case: one for all, or one per row (by position). A missing or unknown region says that
    only numbers with a `+` can be read.

    Returns, on the index of `numbers`:

    - `e164` (str), missing where the library cannot parse the text or there is none;
    - `valid` (bool), the library's `is_valid_number`;
    - `line_type` (str): mobile, fixed_line, fixed_line_or_mobile, toll_free, premium_rate,
      shared_cost, voip, personal_number, pager, uan, voicemail, or unknown;
    - `region` (str) of the number, `001` for calling codes of no country, missing if none matches.

    Raises `SmsError` if there is neither one region nor one per number.
    """
    tables = plan_tables()
    line_type_names = pa.array(LINE_TYPES, pa.large_string())
    region_names = pa.array([None, *(plan.region for plan in tables.plans)], pa.large_string())
    e164, valid, line_types, regions = [], [np.zeros(0, np.bool_)], [], []
    for block in _blocks(tables, numbers, _homes(tables, region, len(numbers))):
        line_type = _line_type(block.verdict)
        e164.append(_e164(block))
        valid.append(line_type > 0)
        line_types.append(line_type_names.take(pa.array(line_type)))
        regions.append(region_names.take(pa.array(block.verdict >> LINE_TYPE_BITS)))
    return pd.DataFrame(
        {
            "e164": _column(e164),
            "valid": np.concatenate(valid),
            "line_type": _column(line_types),
            "region": _column(regions),
        }
    ).set_axis(numbers.index)


def time_zones(e164: pd.Series) -> pd.Series:
    """The IANA time zones a number may be in, sorted and comma-joined, as the library has them.

    Empty where none is known and for missing or invalid numbers. A line that says nothing about
    a place, as most mobiles do, has all zones of its calling code.
    """
    tables = plan_tables()
    zones = tables.zones
    names = pa.array(zones.names, pa.large_string())
    found = []
    for block in _blocks(tables, e164, np.zeros(len(e164), np.int64)):
        line_type = _line_type(block.verdict)
        name = np.where(
            zones.geographic[block.code, line_type],
            tables.bank.walk(block.national, zones.behind_code[block.code]),
            zones.of_country[block.code],
        )
        found.append(names.take(pa.array(np.where(line_type > 0, name, 0))))
    return pd.Series(_column(found), index=e164.index, name="time_zones")


def _line_type(verdict: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    return verdict & ((1 << LINE_TYPE_BITS) - 1)


def _homes(tables: PlanTables, region: pd.Series | str, size: int) -> Ints:
    """The plan that each row is dialled from; 0 for none."""
    if isinstance(region, str):
        return np.full(size, tables.home.get(region.upper(), 0), np.int64)
    if len(region) != size:
        raise SmsError(
            f"phones: {len(region)} regions for {size} numbers; give one region for all, "
            "or one for each number"
        )
    places, names = pd.factorize(region)
    plans = [tables.home.get(str(name).upper(), 0) for name in names]
    # A missing region has place -1, which is the 0 at the end.
    return np.array([*plans, 0], np.int64)[places]


def _blocks(tables: PlanTables, numbers: pd.Series, homes: Ints) -> Iterator[Numbers]:
    written = pa.array(numbers.astype("str"), pa.large_string())
    if isinstance(written, pa.ChunkedArray):
        written = written.combine_chunks()
    written = written.fill_null("")
    known: dict[tuple[str, int], _Answer] = {}
    for begin in range(0, len(written), _BLOCK_ROWS):
        text, home = written[begin : begin + _BLOCK_ROWS], homes[begin : begin + _BLOCK_ROWS]
        block = read_block(tables, text, home)
        _ask_library(tables, text, home, block, known)
        yield block


@dataclass(frozen=True)
class _Answer:
    """What the library says of one text; calling code 0 is no number."""

    code: int = 0
    national: str = ""
    verdict: int = 0


def _ask_library(
    tables: PlanTables, text: Any, home: Ints, block: Numbers, known: dict[tuple[str, int], _Answer]
) -> None:
    """Have the library read the odd rows of a block, each text once."""
    for row in np.flatnonzero(block.odd).tolist():
        question = (text[row].as_py(), int(home[row]))
        if question not in known:
            known[question] = _answer(tables, *question)
        answer = known[question]
        block.code[row] = answer.code
        block.length[row] = len(answer.national)
        block.verdict[row] = answer.verdict
        for place, column in enumerate(block.national):
            in_number = place < len(answer.national)
            column[row] = int(answer.national[place]) if in_number else _NO_SYMBOL


def _answer(tables: PlanTables, text: str, home: int) -> _Answer:
    # Without it the patterns of many countries push each other out of the cache of `re`.
    re_util.enable_pattern_cache()
    dialled_from = tables.plans[home - 1].region if home else None
    try:
        number = phonenumbers.parse(text, dialled_from)
    except phonenumbers.NumberParseException:
        return _Answer()
    code = number.country_code or 0
    region = phonenumbers.region_code_for_number(number)
    line_type = _LIBRARY_LINE_TYPES[phonenumbers.number_type(number)]
    plan = tables.plan_number(code, region) if region else 0
    return _Answer(
        code,
        phonenumbers.national_significant_number(number),
        plan << LINE_TYPE_BITS | line_type,
    )


def _e164(block: Numbers) -> Any:
    """The block's numbers as a pyarrow large_string array, null where there is none."""
    size = len(block.code)
    symbols = np.full((4 + len(block.national), size), _NO_SYMBOL, np.uint8)
    symbols[0] = _PLUS
    symbols[1] = np.where(block.code > 99, block.code // 100, _NO_SYMBOL)
    symbols[2] = np.where(block.code > 9, block.code // 10 % 10, _NO_SYMBOL)
    symbols[3] = block.code % 10
    symbols[4:] = block.national
    is_number = block.code > 0
    symbols[:, ~is_number] = _NO_SYMBOL
    length = np.where(is_number, 2 + (block.code > 9) + (block.code > 99) + block.length, 0)
    offsets = np.zeros(size + 1, np.int64)
    np.cumsum(length, out=offsets[1:])
    characters: Cells = _BYTE_OF_SYMBOL.take(np.ascontiguousarray(symbols.T).ravel())
    return pa.LargeStringArray.from_buffers(
        size,
        pa.py_buffer(offsets),
        pa.py_buffer(characters[characters > 0]),
        pa.py_buffer(np.packbits(is_number, bitorder="little")),
    )


def _column(parts: list[Any]) -> Any:
    """A pandas `str` array of pyarrow arrays, without a copy per row."""
    dtype: Any = pd.StringDtype("pyarrow", na_value=np.nan)
    return dtype.__from_arrow__(pa.chunked_array(parts, pa.large_string()))
