"""Parquet audiences: typed values become the text a person would have written."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.sources import base
from adapters.sources.base import SourceError
from adapters.sources.parquet import ParquetSource


def source(folder: Path, table: pa.Table, **options: Any) -> ParquetSource:
    pq.write_table(table, folder / "list.parquet", **options)
    return ParquetSource(folder / "list.parquet", name="list.parquet")


def only(opened: ParquetSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    (part,) = opened.partitions()
    return part.frame, part.rejects


BERLIN = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        ([12125550123, None], pa.int64(), ["12125550123", None]),
        ([12125550123.0, None], pa.float64(), ["12125550123", None]),
        ([0.5, float("nan")], pa.float64(), ["0.5", None]),
        ([2**64 - 1], pa.uint64(), ["18446744073709551615"]),
        ([True, False], pa.bool_(), ["true", "false"]),
        (["NA", "", "null"], pa.string(), ["NA", None, "null"]),
        (["US", "DE", "US"], pa.dictionary(pa.int8(), pa.string()), ["US", "DE", "US"]),
        ([Decimal("1.10")], pa.decimal128(9, 2), ["1.10"]),
        ([datetime.date(2026, 1, 2)], pa.date32(), ["2026-01-02"]),
        ([datetime.datetime(2026, 1, 2, 3)], pa.timestamp("us"), ["2026-01-02T03:00:00"]),
        (
            [datetime.datetime(2026, 1, 2, 3, 0, 0, 120_000)],
            pa.timestamp("ns"),
            ["2026-01-02T03:00:00.12"],
        ),
        (
            [datetime.datetime(2026, 7, 1, 12, tzinfo=BERLIN)],
            pa.timestamp("ms", "Europe/Berlin"),
            ["2026-07-01T10:00:00Z"],
        ),
        ([datetime.time(9, 30)], pa.time64("us"), ["09:30:00"]),
        ([b"Zo\xc3\xab"], pa.binary(), ["Zoë"]),
        ([["a", "b"], []], pa.list_(pa.string()), ['["a","b"]', "[]"]),
        ([{"x": 1}], pa.struct([("x", pa.int64())]), ['{"x":1}']),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_values_become_text(
    tmp_path: Path, values: list[object], kind: pa.DataType, texts: list[str | None]
) -> None:
    rows = [str(number) for number in range(len(values))]
    table = pa.table({"id": rows, "value": pa.array(values, kind)})
    frame, rejects = only(source(tmp_path, table))
    assert [None if pd.isna(text) else text for text in frame["value"]] == texts
    assert str(frame["value"].dtype) == "str"
    assert rejects.empty


def test_bad_values_are_rejects_under_their_row(tmp_path: Path) -> None:
    table = pa.table({"a": ["1", "2", None, "4", "5"], "b": ["x", "a\0b", None, "y" * 65_537, "z"]})
    frame, rejects = only(source(tmp_path, table))
    assert frame.index.tolist() == [1, 5]
    assert rejects[["row", "reason"]].values.tolist() == [
        [2, "nul_byte"],
        [3, "blank_row"],
        [4, "field_too_long"],
    ]


@pytest.mark.parametrize("kind", [pa.binary(), pa.string()])
def test_text_that_is_not_utf8_is_a_reject(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([b"Zo\xc3\xab", b"Zo\xeb"], pa.binary())
    column = pa.Array.from_buffers(kind, 2, column.buffers())
    _, rejects = only(source(tmp_path, pa.table({"name": column})))
    assert rejects.values.tolist() == [[2, "name", "undecodable_text"]]


def test_rows_are_numbered_across_row_groups_and_partitions(tmp_path: Path) -> None:
    table = pa.table({"id": [str(number) for number in range(1, 251)]})
    parts = list(source(tmp_path, table, row_group_size=70).partitions(100))
    rows = [row for part in parts for row in part.frame.index]
    assert rows == list(range(1, 251))
    assert max(len(part.frame) for part in parts) <= 100
    assert [text for part in parts for text in part.frame["id"]] == [str(row) for row in rows]


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (pa.table({"a": pa.array([], pa.string())}), "has columns but no rows: export it again"),
        (pa.table([["1"], ["2"]], names=["a", "a"]), "columns 1 and 2 have the same name"),
        (pa.table({" ": ["1"]}), "column 1 has no name"),
    ],
    ids=["no rows", "same name", "no name"],
)
def test_what_is_no_list_is_refused(tmp_path: Path, table: pa.Table, line: str) -> None:
    with pytest.raises(SourceError, match=rf"^list\.parquet: {line}"):
        source(tmp_path, table)


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"", "is empty"), (b"a,b\n1,2\n", "is not a readable Parquet file")],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "list.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=line):
        ParquetSource(tmp_path / "list.parquet", name="list.parquet")


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_small_file_cannot_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dictionary: bool
) -> None:
    monkeypatch.setattr(base, "LARGEST_PARTITION", 20_000_000)
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["x" * 2_000])
    table = pa.table({"phone": long if dictionary else long.dictionary_decode()})
    opened = source(tmp_path, table, compression="zstd", use_dictionary=dictionary)
    assert (tmp_path / "list.parquet").stat().st_size < 100_000
    with pytest.raises(SourceError, match=r"list\.parquet, row 10000: .* more than 512 MiB"):
        list(opened.partitions())


def test_damage_halfway_is_an_error_with_its_row(tmp_path: Path) -> None:
    table = pa.table({"id": [str(number) for number in range(2_000)]})
    opened = source(tmp_path, table, row_group_size=1_000, use_dictionary=False)
    second = pq.ParquetFile(tmp_path / "list.parquet").metadata.row_group(1).column(0)
    with (tmp_path / "list.parquet").open("r+b") as file:
        file.seek(second.data_page_offset)
        file.write(b"\xff" * 40)
    with pytest.raises(SourceError, match=r"list\.parquet: is damaged after row 1000"):
        list(opened.partitions(1_000))
