"""Parquet files: typed columns, turned into the text that a person would have written.

Column operations where Arrow writes the text we want, Python where it does not (decimals, nested
values). The caller has checked the folder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adapters.sources.base import (
    PARTITION,
    Partition,
    SourceError,
    check_columns,
    regroup,
    screen,
    text_column,
)

BATCH = 5_000  # rows unpacked at once; a page of some bytes can hold a million long values


class ParquetSource:
    """A Parquet file, opened: its columns are known, its rows not yet read.

    Whole numbers have no `.0`, moments are ISO 8601 (UTC where a zone is known), booleans are
    `true` and `false`, nested values are JSON. A row without any value counts as blank.
    """

    def __init__(self, path: Path, *, name: str) -> None:
        """Open the file; raises SourceError for what is no Parquet file with rows."""
        self.name = name
        self.warnings: list[str] = []
        if not path.stat().st_size:
            raise SourceError(f"{name}: is empty")
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError):
            raise SourceError(
                f"{name}: is not a readable Parquet file: export it again, or choose its kind"
            ) from None
        self.columns = check_columns(self._file.schema_arrow.names, name)
        if not self._file.metadata.num_rows:
            raise SourceError(f"{name}: has columns but no rows: export it again")

    def partitions(self, size: int = PARTITION) -> Iterator[Partition]:
        """Stream the rows; a damaged page raises SourceError with the row it comes after."""
        yield from regroup(self._batches(min(size, BATCH)), size, self.name)

    def _batches(self, size: int) -> Iterator[Partition]:
        before = 0
        try:
            for batch in self._file.iter_batches(batch_size=size):
                texts = [as_text(column) for column in batch.columns]
                yield screen(
                    pa.table(dict(zip(self.columns, (text for text, _ in texts), strict=True))),
                    np.arange(before + 1, before + 1 + batch.num_rows, dtype=np.int64),
                    undecodable=any(undecodable for _, undecodable in texts),
                )
                before += batch.num_rows
        except (pa.ArrowException, OSError):
            raise SourceError(
                f"{self.name}: is damaged after row {before}: export it again"
            ) from None


def as_text(column: pa.Array) -> tuple[pa.Array, bool]:
    """Return a column of any type as text, empty is null, and whether some was undecodable."""
    kind = column.type
    types = pa.types
    if isinstance(kind, pa.ExtensionType):
        return as_text(column.storage)
    if types.is_dictionary(kind):
        return as_text(column.dictionary_decode())
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        text = column.cast(pa.large_string())
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:  # Arrow trusts the writer that text is UTF-8
            return text_column(column.cast(pa.large_binary()).to_pylist())
    elif types.is_floating(kind):
        text = _floats(column.cast(pa.float64()) if types.is_float16(kind) else column)
    elif types.is_timestamp(kind):
        text = _moments(column)
    elif types.is_integer(kind) or types.is_boolean(kind) or types.is_date(kind):
        text = column.cast(pa.large_string())
    else:
        return text_column(column.to_pylist())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text), False


def _floats(column: pa.Array) -> Any:
    """Write whole numbers without `.0`: a column of integers with a gap is stored as floats."""
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
    integers = pc.if_else(whole, column, pa.scalar(0, column.type)).cast(pa.int64())
    return pc.if_else(whole, integers.cast(pa.large_string()), column.cast(pa.large_string()))


def _moments(column: pa.Array) -> Any:
    if column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    text = pc.replace_substring(column.cast(pa.large_string()), " ", "T")
    text = pc.replace_substring_regex(text, r"(\.\d*?)0+(Z?)$", r"\1\2")
    return pc.replace_substring_regex(text, r"\.(Z?)$", r"\1")
