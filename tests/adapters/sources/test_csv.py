"""CSV audiences: each record once, under its own number, whatever the file looks like."""

import csv
import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.sources import csv as csv_module
from adapters.sources.base import SourceError
from adapters.sources.csv import CsvSource


def source(path: Path, content: str | bytes, **options: str) -> CsvSource:
    path = path / "list.csv" if path.is_dir() else path
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return CsvSource(path, name="list.csv", **options)


def read(opened: CsvSource, size: int = 100_000) -> tuple[pd.DataFrame, pd.DataFrame]:
    parts = list(opened.partitions(size))
    return (
        pd.concat([part.frame for part in parts]),
        pd.concat([part.rejects for part in parts], ignore_index=True),
    )


def rejected(opened: CsvSource) -> list[tuple[int, str]]:
    _, rejects = read(opened)
    return list(zip(rejects["row"], rejects["reason"], strict=True))


def test_values_are_text_as_written(tmp_path: Path) -> None:
    frame, _ = read(source(tmp_path, "phone,note\n07911123456,NA\n+1 212,null\n007, NaN \n"))
    assert frame["phone"].tolist() == ["07911123456", "+1 212", "007"]
    assert frame["note"].tolist() == ["NA", "null", " NaN "]
    assert [str(dtype) for dtype in frame.dtypes] == ["str", "str"]


@pytest.mark.parametrize("empty", ["1,\n", '1,""\n'])
def test_an_empty_value_is_missing(tmp_path: Path, empty: str) -> None:
    frame, _ = read(source(tmp_path, "phone,note\n" + empty))
    assert frame["note"].isna().all()


def test_good_and_bad_records_share_one_numbering(tmp_path: Path) -> None:
    opened = source(tmp_path, 'a,b\n1,x\n\n3\n"4\n4",x\n5,x,x\n6,x\n,\n8,x\n\n')
    frame, rejects = read(opened)
    assert frame.index.tolist() == [1, 4, 6, 8]
    assert frame["a"].tolist() == ["1", "4\n4", "6", "8"]
    assert frame.index.name == "row"
    assert frame.index.dtype == "int64"
    assert rejects["row"].dtype == "int64"
    assert rejects["column"].isna().all()
    assert rejects[["row", "reason"]].values.tolist() == [
        [2, "blank_row"],
        [3, "ragged_row"],
        [5, "ragged_row"],
        [7, "blank_row"],
        [9, "blank_row"],
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("trailing", [True, False])
def test_line_ends_of_every_kind_count_alike(tmp_path: Path, line_end: str, trailing: bool) -> None:
    lines = ["a,b", "1,x", "", "3,x"] + ([""] if trailing else [])
    frame, rejects = read(source(tmp_path, line_end.join(lines)))
    assert frame.index.tolist() == [1, 3]
    assert rejects["row"].tolist() == [2]


def test_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    opened = source(tmp_path, "phone\n1\n\n3\n4,5\n")
    frame, _ = read(opened)
    assert frame["phone"].tolist() == ["1", "3"]
    assert rejected(opened) == [(2, "blank_row"), (4, "ragged_row")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [("a\0b", "nul_byte"), ("x" * 65_537, "field_too_long"), ("x" * 10_000_000, "field_too_long")],
    ids=["nul", "long", "10 MB"],
)
def test_a_value_that_cannot_be_stored_is_a_reject(tmp_path: Path, value: str, reason: str) -> None:
    opened = source(tmp_path, f"a,b\n1,x\n2,{value}\n3,x\n")
    frame, rejects = read(opened)
    assert frame.index.tolist() == [1, 3]
    assert rejects.values.tolist() == [[2, "b", reason]]


def test_a_value_of_64_kib_is_no_reject(tmp_path: Path) -> None:
    assert rejected(source(tmp_path, f"a,b\n1,{'x' * 65_536}\n")) == []


@pytest.mark.parametrize("rows_after", [0, 3, 200])
def test_a_quote_never_closed_is_an_error_at_its_row(tmp_path: Path, rows_after: int) -> None:
    opened = source(tmp_path, 'a,b\n1,x\n2,"y\nz"\n\n4,"open\n' + "5,x\n" * rows_after)
    with pytest.raises(SourceError, match=r"list\.csv, row 4: opens a quote that is never closed"):
        read(opened)


def test_a_quote_never_closed_does_not_swallow_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_module, "BLOCK", 1_000)
    monkeypatch.setattr(csv_module, "LONGEST_RECORD", 5_000)
    opened = source(tmp_path, "a,b\n" + "1,x\n" * 1_000 + '2,"open\n' + "3,x\n" * 9_000)
    with pytest.raises(SourceError, match="row 1001: is longer than 16 MiB"):
        read(opened)


@pytest.mark.parametrize(
    ("delimiter", "warning"),
    [(",", None), (";", "a semicolon"), ("\t", "a tab"), ("|", "'|'")],
)
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str, warning: str | None) -> None:
    opened = source(tmp_path, f'phone{delimiter}name\n1{delimiter}"Doe, J"\n2{delimiter}"Roe, R"\n')
    frame, _ = read(opened)
    assert frame["name"].tolist() == ["Doe, J", "Roe, R"]
    assert opened.warnings == ([f"read with {warning} between the columns"] if warning else [])


def test_a_declared_delimiter_is_taken(tmp_path: Path) -> None:
    opened = source(tmp_path, "a;b,c\n1;2,3\n", delimiter=";")
    assert opened.columns == ["a", "b,c"]
    assert opened.warnings == []


@pytest.mark.parametrize(
    ("codec", "bom", "warning"),
    [
        ("utf-8", b"", None),
        ("utf-8", b"\xef\xbb\xbf", None),
        ("utf-16-le", b"\xff\xfe", None),
        ("utf-16-be", b"\xfe\xff", None),
        ("utf-16-le", b"", "read as utf-16-le: every other byte is NUL"),
        ("utf-16-be", b"", "read as utf-16-be: every other byte is NUL"),
        ("cp1252", b"", "read as cp1252: not valid UTF-8"),
    ],
)
def test_the_encoding_is_found(tmp_path: Path, codec: str, bom: bytes, warning: str | None) -> None:
    text = "phone,name\r\n+49157,Zoë\r\n+49158,Müller\r\n"
    opened = source(tmp_path, bom + text.encode(codec))
    frame, _ = read(opened)
    assert opened.columns == ["phone", "name"]
    assert frame["name"].tolist() == ["Zoë", "Müller"]
    assert opened.warnings == ([warning] if warning else [])


def test_the_declared_encoding_is_taken_where_the_file_is_not_utf8(tmp_path: Path) -> None:
    opened = source(tmp_path, "a,b\n1,Привет\n".encode("cp1251"), encoding="cp1251")
    assert read(opened)[0]["b"].tolist() == ["Привет"]
    assert opened.warnings == []


def test_valid_utf8_wins_over_a_wrong_declaration(tmp_path: Path) -> None:
    opened = source(tmp_path, "a,b\n1,Zoë\n", encoding="cp1252")
    assert read(opened)[0]["b"].tolist() == ["Zoë"]
    assert opened.warnings == ["read as UTF-8, not as cp1252: it is valid UTF-8"]


def test_a_declaration_that_looks_like_ascii_is_believed(tmp_path: Path) -> None:
    opened = source(tmp_path, "a,b\n1,日本\n".encode("iso2022_jp"), encoding="iso2022_jp")
    assert read(opened)[0]["b"].tolist() == ["日本"]


def test_broken_rows_of_a_utf8_file_are_rejects(tmp_path: Path) -> None:
    content = "a,b\n1,Zoë\n2,Müller\n".encode() + b"3,M\xfcller\n" + "4,Çelik\n".encode()
    opened = source(tmp_path, content)
    frame, rejects = read(opened)
    assert frame["b"].tolist() == ["Zoë", "Müller", "Çelik"]
    assert rejects.values.tolist() == [[3, "b", "undecodable_text"]]
    assert opened.warnings == ["read as UTF-8, of which some is broken: those rows are rejected"]


def test_a_byte_that_cp1252_does_not_know_is_a_reject(tmp_path: Path) -> None:
    assert rejected(source(tmp_path, b"a,b\n1,Zo\xeb\n2,\x81\n")) == [(2, "undecodable_text")]


def test_a_replacement_character_of_the_source_stays(tmp_path: Path) -> None:
    frame, rejects = read(source(tmp_path, "a,b\n1,\ufffd\n"))
    assert frame["b"].tolist() == ["\ufffd"]
    assert rejects.empty


def test_multibyte_text_across_blocks_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_module, "BLOCK", 7)
    for codec in ("utf-8", "utf-16"):
        frame, _ = read(source(tmp_path, "a,b\n1,Ünïcödé😀\n2,ß\n".encode(codec)))
        assert frame["b"].tolist() == ["Ünïcödé😀", "ß"]


def excel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("list.csv", "a,b\n1,2\n")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty"),
        (b"a,b\n", "has a header but no rows: export it again"),
        (b"a,b", "has a header but no rows: export it again"),
        (b"\xef\xbb\xbf", "the first line is blank: it has to be the header"),
        (b"\na,b\n1,2\n", "the first line is blank: it has to be the header"),
        (b"a,b,a\n1,2,3\n", "columns 1 and 3 have the same name: rename one"),
        (b"a, a\n1,2\n", "columns 1 and 2 have the same name: rename one"),
        (b"a,,c\n1,2,3\n", "column 2 has no name: fill in its header"),
        (b'a,"b\n1,2\n', "the header cannot be read: is a quote opened and never closed?"),
        (b"PAR1\0\0", "looks like a Parquet file: choose Parquet as the kind"),
        (excel(), "looks like an Excel file: save as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "looks like an Excel file: save as CSV"),
        (zipped(), "looks like a ZIP file: unpack it first"),
        (b"PK\x03\x04", "looks like a ZIP file: unpack it first"),
        (bytes(range(256)) * 8, "is a binary file, not text: export the list as CSV"),
        (b"abcd" + b"\0" * 400, "is a binary file, not text: export the list as CSV"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_list_is_refused_in_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    with pytest.raises(SourceError) as error:
        source(tmp_path, content)
    assert str(error.value) == f"list.csv: {line}"


def test_a_header_may_span_lines_and_hold_other_scripts(tmp_path: Path) -> None:
    opened = source(tmp_path, '"phone\nnumber",名前,naïve\n1,2,3\n')
    assert opened.columns == ["phone\nnumber", "名前", "naïve"]
    assert read(opened)[0].values.tolist() == [["1", "2", "3"]]


def test_partitions_hold_the_asked_number_of_records(tmp_path: Path) -> None:
    lines = ["x" if row % 7 == 0 else f"{row},x" for row in range(1, 251)]
    parts = list(source(tmp_path, "a,b\n" + "\n".join(lines)).partitions(100))
    assert [len(part.frame) + len(part.rejects) for part in parts] == [100, 100, 50]
    assert parts[1].frame.index.min() == 101
    assert parts[1].rejects["row"].tolist() == list(range(105, 201, 7))


def test_partitions_of_rejects_alone_are_given_too(tmp_path: Path) -> None:
    parts = list(source(tmp_path, "a,b\n" + "x\n" * 25).partitions(10))
    assert [len(part.rejects) for part in parts] == [10, 10, 5]
    assert all(list(part.frame.columns) == ["a", "b"] for part in parts)


def test_a_file_can_be_read_again(tmp_path: Path) -> None:
    opened = source(tmp_path, "a,b\n1,2\n")
    assert read(opened)[0].equals(read(opened)[0])


cell = st.text(st.sampled_from("ab1é\",;\n\r '\\"), max_size=6)
records = st.lists(
    st.one_of(
        st.lists(cell, min_size=3, max_size=3),
        st.lists(cell, min_size=1, max_size=5),
        st.just([]),
    ),
    min_size=1,
    max_size=30,
)


def as_csv(records: list[list[str]], line_end: str, quote_all: bool) -> str:
    def written(value: str) -> str:
        if quote_all or any(special in value for special in ',"\r\n'):
            return '"' + value.replace('"', '""') + '"'
        return value

    return "".join(",".join(map(written, record)) + line_end for record in records)


@settings(max_examples=150, deadline=None)
@given(
    written=records,
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quote_all=st.booleans(),
    block=st.integers(16, 60),  # the header has to fit into the first block
    size=st.integers(1, 9),
    trailing=st.booleans(),
)
def test_each_record_is_in_exactly_one_place(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[list[str]],
    line_end: str,
    quote_all: bool,
    block: int,
    size: int,
    trailing: bool,
) -> None:
    text = as_csv([["a", "b", "c"], *written], line_end, quote_all)
    if not trailing and any(written[-1]):  # a last blank line is a record by its line end alone
        text = text.removesuffix(line_end)
    expected = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert len(expected) == len(written)

    path = tmp_path_factory.getbasetemp() / "property.csv"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_module, "BLOCK", block)
        parts = list(CsvSource(path, name="p", delimiter=",").partitions(size))

    good = {
        row: record
        for part in parts
        for row, record in zip(part.frame.index, part.frame.fillna("").values.tolist(), strict=True)
    }
    bad = dict(
        pair
        for part in parts
        for pair in zip(part.rejects["row"], part.rejects["reason"], strict=True)
    )
    assert sum(len(part.frame) + len(part.rejects) for part in parts) == len(written)
    assert sorted([*good, *bad]) == list(range(1, len(written) + 1))
    for row, record in enumerate(expected, start=1):
        if len(record) == 3 and any(record):
            assert good[row] == record
        elif not any(record) and len(record) in (0, 3):
            assert bad[row] == "blank_row"
        else:
            assert bad[row] in ("ragged_row", "blank_row")


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(st.sampled_from('ab,"\n\r '), min_size=1, max_size=60), block=st.integers(16, 40)
)
def test_quotes_in_odd_places_are_read_as_the_csv_module_reads_them(
    tmp_path_factory: pytest.TempPathFactory, text: str, block: int
) -> None:
    expected = list(csv.reader(io.StringIO(text, newline="")))
    probe = text + ("" if text[-1] in "\r\n" else "\n") + "end"
    closed = list(csv.reader(io.StringIO(probe, newline="")))[-1] == ["end"]
    path = tmp_path_factory.getbasetemp() / "odd.csv"
    path.write_bytes(b"x,y\n" + text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_module, "BLOCK", block)
        opened = CsvSource(path, name="p", delimiter=",")
        if not closed:
            with pytest.raises(SourceError, match=f"row {len(expected)}: opens a quote"):
                read(opened)
            return
        frame, rejects = read(opened)
    assert len(frame) + len(rejects) == len(expected)
    assert dict(zip(frame.index, frame.fillna("").values.tolist(), strict=True)) == {
        row: record
        for row, record in enumerate(expected, start=1)
        if len(record) == 2 and any(record)
    }
