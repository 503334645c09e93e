"""CSV files: any delimiter, any encoding, any size; every record keeps its exact number.

Arrow parses, a block at a time: five times the speed of Python's csv module, the same rules for
quotes. This module decides encoding and delimiter, finds where the last record of a block ends,
and says in one line what is wrong with a file. The caller has checked the folder.
"""

import codecs
import csv
import io
import itertools
import re
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from adapters.sources.base import (
    PARTITION,
    REPLACEMENT,
    Partition,
    RejectReason,
    SourceError,
    check_columns,
    regroup,
    screen,
)

BLOCK = 4 * 2**20  # bytes parsed at once
LONGEST_RECORD = 16 * 2**20  # bytes; whatever is longer is a quote that was never closed
LONGEST_HEADER = 2**20
DELIMITERS = ",;\t|"  # the first wins a tie
DELIMITER_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}

BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Their bytes can pass for ASCII or UTF-8, so here the declaration has to win over the look.
LOOK_LIKE_ASCII = re.compile(r"(iso.?2022|hz|utf.?7|utf.?16|utf.?32)", re.IGNORECASE)
# The first bytes of what people save under the name of a CSV, and what to do about it.
FOREIGN = {
    b"PAR1": "looks like a Parquet file: choose Parquet as the kind",
    b"\xd0\xcf\x11\xe0": "looks like an Excel file: save as CSV",
    b"\x1f\x8b": "looks like a compressed file: unpack it first",
    b"%PDF": "looks like a PDF: export the list as CSV",
    b"SQLite format 3": "looks like a SQLite database: export the list as CSV",
}
CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\x0b\x0c\x1b"))


@dataclass(frozen=True)
class Encoding:
    """How to turn the file into UTF-8: the codec, and the length of the byte order mark."""

    codec: str
    bom: int = 0
    valid: bool = False  # the bytes are UTF-8 as they are

    def blocks(self, path: Path) -> Iterator[bytes]:
        """Yield the file's text as UTF-8; what cannot be decoded becomes U+FFFD."""
        with path.open("rb") as file:
            file.seek(self.bom)
            if self.valid:
                yield from iter(lambda: file.read(BLOCK), b"")
                return
            decoder = codecs.getincrementaldecoder(self.codec)(errors="replace")
            for block in iter(lambda: file.read(BLOCK), b""):
                yield decoder.decode(block).encode("utf-8", "replace")
            yield decoder.decode(b"", True).encode("utf-8", "replace")


class CsvSource:
    """A CSV file with a header line, opened: encoding, delimiter and columns are known.

    A record whose values are all empty counts as blank, as a blank line does.
    """

    def __init__(
        self, path: Path, *, name: str, encoding: str | None = None, delimiter: str | None = None
    ) -> None:
        """Open the file; raises SourceError for what is no CSV file with rows."""
        self.name = name
        self.warnings: list[str] = []
        self._path = path
        try:
            check_looks_like_text(path, name)
            self._encoding = find_encoding(path, encoding, self.warnings)
            first = next(filter(None, self._encoding.blocks(path)), b"")
            head = first[:LONGEST_HEADER].decode("utf-8", "ignore")
            self._delimiter = delimiter or self._sniffed(head)
            self.columns, self._header_bytes = read_header(head, self._delimiter, name)
            if not any(self._data()):
                raise SourceError(f"{name}: has a header but no rows: export it again")
        except OSError as error:
            raise SourceError(f"{name}: cannot be read: {error.strerror}") from error

    def partitions(self, size: int = PARTITION) -> Iterator[Partition]:
        """Stream the records; a quote that is never closed raises SourceError at its row."""
        try:
            yield from regroup(self._screened(), size, self.name)
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {error.strerror}") from error

    def _sniffed(self, head: str) -> str:
        delimiter = sniff_delimiter(head)
        if delimiter != ",":
            shown = DELIMITER_NAMES.get(delimiter, repr(delimiter))
            self.warnings.append(f"read with {shown} between the columns")
        return delimiter

    def _data(self) -> Iterator[bytes]:
        """Yield the file without its header, as UTF-8."""
        blocks = filter(None, self._encoding.blocks(self._path))
        yield from filter(None, [next(blocks, b"")[self._header_bytes :]])
        yield from blocks

    def _screened(self) -> Iterator[Partition]:
        for table, rows, rejects in self._records():
            yield screen(table, rows, rejects, undecodable=not self._encoding.valid)

    def _records(
        self,
    ) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64], list[tuple[int, None, RejectReason]]]]:
        """Yield the records block by block: the well-formed ones, their numbers, the others."""
        before = 0  # records in earlier blocks
        pending = b""
        for block, last in _with_last(self._data()):
            text = pending + block
            end = len(text) if last else _last_line_end(text)
            parsed = self._parse(text[:end], first=before + 1) if end else None
            if parsed:
                if parsed.open_at is not None and last:
                    self._refuse(before + parsed.count + 1, "opens a quote that is never closed")
                if parsed.open_at is not None:
                    end = parsed.open_at
                before += parsed.count
                yield parsed.table, parsed.rows, parsed.rejects
            pending = text[end:]
            if len(pending) > LONGEST_RECORD:
                self._refuse(before + 1, "is longer than 16 MiB: is a quote never closed?")

    def _refuse(self, row: int, why: str) -> None:
        raise SourceError(f"{self.name}, row {row}: {why}: correct the file from there on")

    def _parse(self, text: bytes, first: int) -> "_Parsed":
        """Parse whole lines, of which the last may end inside a quoted value.

        A tail of our own goes behind the text, made so that Arrow calls it ragged either way. If
        the text ended outside quotes, the tail is a record to itself. If not, the tail closes the
        quote, and Arrow hands us the whole unfinished record, and so the place where it starts.
        """
        width = len(self.columns)
        mark = uuid.uuid4().hex
        tail = self._delimiter.join([mark + '"'] + [mark] * width).encode()
        line_end = b"" if text.endswith((b"\n", b"\r")) else b"\n"
        ragged: list[tuple[int, bool]] = []
        last_text = ""

        def skip(row: Any) -> str:
            nonlocal last_text
            last_text = row.text
            ragged.append((row.number, not row.text.strip()))
            return "skip"

        data = b"".join([text, line_end, tail])
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(data),
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False, block_size=len(data) + 1, column_names=self.columns
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self._delimiter,
                    newlines_in_values=True,
                    ignore_empty_lines=False,
                    invalid_row_handler=skip,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(self.columns, pa.large_string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid:
            raise SourceError(
                f"{self.name}: cannot be parsed after row {first - 1}: was it changed meanwhile?"
            ) from None
        count = ragged.pop()[0] - 1
        if not last_text.endswith(mark) or count != table.num_rows + len(ragged):
            raise SourceError(f"{self.name}: records after row {first - 1} cannot be counted")
        whole = np.ones(count, dtype=bool)
        whole[[number - 1 for number, _ in ragged]] = False
        return _Parsed(
            table=table,
            rows=np.flatnonzero(whole).astype(np.int64) + first,
            rejects=[
                (first + number - 1, None, "blank_row" if blank else "ragged_row")
                for number, blank in ragged
            ],
            count=count,
            open_at=None if last_text.startswith(mark) else len(data) - len(last_text.encode()),
        )


@dataclass
class _Parsed:
    table: pa.Table
    rows: npt.NDArray[np.int64]
    rejects: list[tuple[int, None, RejectReason]]
    count: int
    open_at: int | None  # where in the text the record starts whose quote is still open


def _with_last(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    previous: bytes | None = None
    for block in blocks:
        if previous is not None:
            yield previous, False
        previous = block
    if previous is not None:
        yield previous, True


def _last_line_end(text: bytes) -> int:
    """Return the length of the whole lines; a \\r at the very end may be half of a \\r\\n."""
    return text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, len(text) - 1) + 1


# ------------------------------------------------------------------ header and delimiter


def read_header(head: str, delimiter: str, name: str) -> tuple[list[str], int]:
    """Return the column names and the header's length in bytes of UTF-8."""
    consumed: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(head, newline=""):
            consumed.append(line)
            yield line

    try:
        header = next(csv.reader(lines(), delimiter=delimiter, strict=True), [])
    except csv.Error:
        raise SourceError(
            f"{name}: the header cannot be read: is a quote opened and never closed?"
        ) from None
    if not header:
        raise SourceError(f"{name}: the first line is blank: it has to be the header")
    if any(REPLACEMENT in column for column in header):
        raise SourceError(f"{name}: the header cannot be decoded: set the encoding")
    columns = check_columns([column.strip() for column in header], name)
    if "\0" in "".join(columns):
        raise SourceError(f"{name}: the header holds NUL bytes: save the file as CSV again")
    return columns, len("".join(consumed).encode())


def sniff_delimiter(head: str) -> str:
    """Return the delimiter with which most of the first records are as wide as the header."""

    def score(delimiter: str) -> tuple[int, int]:
        lines = io.StringIO(head, newline="")
        try:
            records = list(itertools.islice(csv.reader(lines, delimiter=delimiter), 50))
        except csv.Error:  # a value longer than the csv module likes
            return 0, 0
        width = len(records[0]) if records else 0
        if width < 2:
            return 0, 0
        return sum(len(record) == width for record in records), width

    return max(DELIMITERS, key=score)


# ------------------------------------------------------------------ encoding


def check_looks_like_text(path: Path, name: str) -> None:
    """Raise SourceError for an empty file and for what is plainly something else than CSV."""
    with path.open("rb") as file:
        head = file.read(64 * 1024)
    if not head:
        raise SourceError(f"{name}: is empty")
    if head.startswith(b"PK\x03\x04"):
        raise SourceError(f"{name}: {_what_zip(path)}")
    for magic, advice in FOREIGN.items():
        if head.startswith(magic):
            raise SourceError(f"{name}: {advice}")
    if head.startswith(tuple(BOMS)) or _utf16_without_bom(head):
        return
    controls = len(head) - len(head.translate(None, CONTROLS))
    if controls >= 16 and controls > len(head) / 20:
        raise SourceError(f"{name}: is a binary file, not text: export the list as CSV")


def _what_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        names = []
    if any(entry.startswith("xl/") for entry in names):
        return "looks like an Excel file: save as CSV"
    return "looks like a ZIP file: unpack it first"


def find_encoding(path: Path, declared: str | None, warnings: list[str]) -> Encoding:
    """Decide how to read the file: its byte order mark, UTF-8 if valid, the declaration, a guess.

    The guess counts: where sequences that only UTF-8 makes outnumber the broken bytes, it is UTF-8
    with some broken rows; else it is cp1252, in which hardly any text is invalid.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    for bom, codec in BOMS.items():
        if head.startswith(bom):
            valid = codec == "utf-8" and not _count_utf8(path)[1]
            return Encoding(codec, len(bom), valid)
    if declared and LOOK_LIKE_ASCII.match(declared):
        return Encoding(declared)
    if guess := _utf16_without_bom(head):
        warnings.append(f"read as {guess}: every other byte is NUL")
        return Encoding(guess)
    return _eight_bit_encoding(path, declared, warnings)


def _eight_bit_encoding(path: Path, declared: str | None, warnings: list[str]) -> Encoding:
    sequences, broken = _count_utf8(path)
    if not broken:
        if declared and sequences and codecs.lookup(declared).name not in ("utf-8", "utf-8-sig"):
            warnings.append(f"read as UTF-8, not as {declared}: it is valid UTF-8")
        return Encoding("utf-8", valid=True)
    if declared:
        return Encoding(declared)
    if sequences > broken:
        warnings.append("read as UTF-8, of which some is broken: those rows are rejected")
        return Encoding("utf-8")
    warnings.append("read as cp1252: not valid UTF-8")
    return Encoding("cp1252")


def _utf16_without_bom(head: bytes) -> str | None:
    """Recognise UTF-16 by its NULs: digits and commas have one in every other byte."""
    half = max(len(head) // 2, 1)
    even, odd = head[::2].count(0) / half, head[1::2].count(0) / half
    if odd > 0.25 and even < 0.05:
        return "utf-16-le"
    if even > 0.25 and odd < 0.05:
        return "utf-16-be"
    return None


def _count_utf8(path: Path) -> tuple[int, int]:
    """Return how many multibyte UTF-8 sequences a file holds, and how many bytes are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    sequences = broken = 0
    with path.open("rb") as file:
        for block in itertools.chain(iter(lambda: file.read(2**20), b""), [b""]):
            text = decoder.decode(block, final=not block)
            if text.isascii():
                continue
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
            escaped = int(((codes >= 0xDC80) & (codes <= 0xDCFF)).sum())
            broken += escaped
            sequences += int((codes > 0x7F).sum()) - escaped
    return sequences, broken
