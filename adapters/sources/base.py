"""What every audience source has in common: the form's fields, the partitions, the errors.

A source gives every record of an audience exactly once, as text: in a partition's frame, or among
its rejects with the reason. What a column means (phone, opt-in) and whether a value is any good is
decided in `tasks/`; how a kind of source is read is the subject of its own module.
"""

import datetime
import decimal
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from data.errors import SmsError

PARTITION = 100_000
LONGEST_VALUE = 64 * 1024  # bytes of UTF-8; a value that long is a broken file, not a name
LARGEST_PARTITION = 2**29  # bytes; 5 kB a record, while a name and an address take some hundred
REPLACEMENT = "\ufffd"  # what a decoder writes where the bytes made no sense

RejectReason = Literal[
    "ragged_row", "blank_row", "nul_byte", "field_too_long", "undecodable_text", "not_an_object"
]


class SourceError(SmsError):
    """An audience that cannot be read, or not to its end."""


@dataclass
class Partition:
    """A run of consecutive records.

    `frame`: every column of the source as text (dtype `str`, missing or empty is NaN), index `row`
    (int64): the record's number in the source, from 1, the header not counted, every record
    counted. `rejects`: `row, column, reason` of the records that could not become a row of it;
    `column` is NaN where the whole record is at fault. Every record is in exactly one of the two.
    """

    frame: pd.DataFrame
    rejects: pd.DataFrame


class Source(Protocol):
    """An opened audience. `name` goes into error lines, `warnings` are for the preview."""

    name: str
    columns: list[str]
    warnings: list[str]

    def partitions(self, size: int = PARTITION) -> Iterator[Partition]:
        """Stream the records in order, at most `size` at a time; raises SourceError."""
        ...


# ------------------------------------------------------------------ what a marketer fills in


def _blank_is_none(value: object) -> object:
    """A cleared field of a form arrives as an empty string."""
    return None if isinstance(value, str) and not value.strip() else value


def _known_country(value: str | None) -> str | None:
    if value is None:
        return None
    from phonenumbers import SUPPORTED_REGIONS

    country = value.strip().upper()
    if country not in SUPPORTED_REGIONS:
        hint = "the United Kingdom is GB" if country == "UK" else "two letters, such as US or DE"
        raise ValueError(f"is not a country code: {hint}")
    return country


def _known_encoding(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        "a".encode(value)  # of an empty text Python does not look the encoding up
    except (LookupError, UnicodeError, ValueError):
        raise ValueError("is not an encoding: try utf-8, cp1252 or utf-16") from None
    return value


def _usable_delimiter(value: object) -> object:
    if isinstance(value, str) and value.lower() in ("tab", "\\t"):
        return "\t"
    # Not stripped like other fields: a tab is blank, and the commonest delimiter after `;`.
    if value in (None, ""):
        return None
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in '"\r\n\0':
        raise ValueError("must be one character, such as , or ; or the word tab")
    return value


OptionalText = Annotated[str | None, BeforeValidator(_blank_is_none)]


class ColumnMapping(BaseModel):
    """Which column holds what. What is left empty is guessed from the column names."""

    phone: OptionalText = Field(None, description="Column with the mobile number.")
    country: OptionalText = Field(
        None, description="Column with the two-letter country of the recipient."
    )
    timezone: OptionalText = Field(None, description="Column with a time zone as Europe/Berlin.")
    subdivision: OptionalText = Field(None, description="Column with the state or province.")
    opt_in: OptionalText = Field(
        None, description="Column that says whether the recipient agreed to receive messages."
    )
    opt_in_at: OptionalText = Field(
        None, description="Column with the date and time of that agreement."
    )
    age_verified: OptionalText = Field(
        None, description="Column that says whether the age was verified; for content with a limit."
    )


class AudienceFields(BaseModel):
    """What is asked of every audience, wherever it comes from.

    Unknown fields are allowed: a form whose kind was changed still sends the other kind's.
    """

    default_country: Annotated[OptionalText, AfterValidator(_known_country)] = Field(
        None,
        description="Two-letter country for numbers without a country code, such as US. "
        "Used for rows that name no country themselves.",
    )
    columns: ColumnMapping = Field(
        default_factory=ColumnMapping,
        description="Which column holds what. Leave empty what the names already say.",
    )


class CsvAudience(AudienceFields):
    """A CSV file."""

    kind: Literal["csv"] = Field("csv", description="A CSV file.")
    path: str = Field(
        min_length=1, description="CSV file with a header line, in a folder meant for audiences."
    )
    encoding: Annotated[OptionalText, AfterValidator(_known_encoding)] = Field(
        None,
        description="Text encoding, such as cp1252, for a file that is not UTF-8. "
        "Leave empty to have it found out.",
    )
    delimiter: Annotated[str | None, BeforeValidator(_usable_delimiter)] = Field(
        None,
        description="Character between the columns: , or ; or | or the word tab. "
        "Leave empty to have it found out.",
    )


class ParquetAudience(AudienceFields):
    """A Parquet file."""

    kind: Literal["parquet"] = Field("parquet", description="A Parquet file.")
    path: str = Field(min_length=1, description="Parquet file in a folder meant for audiences.")


class SqlAudience(AudienceFields):
    """A query that an operator has set up."""

    kind: Literal["sql"] = Field("sql", description="A database query set up by an operator.")
    connection: str = Field(min_length=1, description="Name of the database connection.")


class HttpAudience(AudienceFields):
    """A web API that an operator has set up."""

    kind: Literal["http"] = Field("http", description="A web API set up by an operator.")
    connection: str = Field(min_length=1, description="Name of the API connection.")


Audience = Annotated[
    CsvAudience | ParquetAudience | SqlAudience | HttpAudience, Field(discriminator="kind")
]


# ------------------------------------------------------------------ what an operator sets up

_LITERAL_OR_COMMENT = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \$(\w*)\$.*?\$\1\$ | --[^\n]* | /\*.*?\*/""",
    re.DOTALL | re.VERBOSE,
)
_WRITES = re.compile(
    r"\b(insert|update|delete|merge|into|create|alter|drop|truncate|grant|revoke|call|copy)\b", re.I
)


def _only_reads(query: str) -> str:
    bare = _LITERAL_OR_COMMENT.sub(" ", query).strip().removesuffix(";").strip()
    if not re.match(r"(select|with)\b", bare, re.I) or ";" in bare or _WRITES.search(bare):
        raise ValueError("must be one SELECT statement (WITH … SELECT is fine) that only reads")
    return query.strip().removesuffix(";")


class SqlConnection(BaseModel):
    """A database and the one query that is run on it.

    The query lives here and not in the form, so that whoever may start a campaign cannot run SQL
    of their own.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    kind: Literal["sql"] = Field("sql", description="A database query.")
    url: SecretStr = Field(description="SQLAlchemy address: postgresql://user:password@host/name.")
    query: Annotated[str, AfterValidator(_only_reads)] = Field(
        description="One SELECT statement; every row of its result is a record of the audience."
    )


class HttpConnection(BaseModel):
    """A web API that lists records as JSON, page by page."""

    model_config = ConfigDict(hide_input_in_errors=True)

    kind: Literal["http"] = Field("http", description="A web API.")
    url: str = Field(
        pattern=r"^https?://[^/\s]+\S*$",
        description="Address of the first page. Keys and passwords belong in the headers.",
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Headers to send, such as Authorization: Bearer …"
    )
    records: str = Field(
        "",
        description="Where the list of records is in the answer, such as data.contacts. "
        "Empty: the answer is the list.",
    )
    next: str = Field(
        "",
        description="Where the address of the next page is in the answer, such as links.next. "
        "Empty: pages are numbered.",
    )
    page_parameter: str = Field(
        "page",
        description="Query parameter that numbers the pages from 1, until an empty page. "
        "Empty: everything comes in one answer.",
    )


# ------------------------------------------------------------------ what the readers share


def to_text(value: Any) -> str | None:
    """Return one value of a database or JSON record as text; None stays None."""
    text: str | None
    match value:
        case None | str():
            text = value
        case bool():
            text = "true" if value else "false"
        case int():
            text = str(value)
        case float():
            text = _float_text(value)
        case decimal.Decimal():
            text = format(value, "f")
        case datetime.datetime() | datetime.date() | datetime.time():
            text = value.isoformat()
        case bytes() | bytearray() | memoryview():
            text = bytes(value).decode("utf-8", "surrogateescape")
        case dict() | list() | tuple():
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=to_text)
        case _:
            text = str(value)
    return text


def _float_text(value: float) -> str | None:
    if math.isnan(value):  # how data frames store "missing"
        return None
    # A column of whole numbers with a gap becomes floats on its way through pandas.
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def text_column(values: Iterable[Any]) -> tuple[pa.Array, bool]:
    """Return values of any type as an Arrow text column, and whether some had no valid text."""
    texts = [to_text(value) or None for value in values]
    try:
        return pa.array(texts, pa.large_string()), False
    except UnicodeEncodeError:  # a lone surrogate, from JSON or from bytes that are not UTF-8
        valid = [text and re.sub("[\ud800-\udfff]", REPLACEMENT, text) for text in texts]
        return pa.array(valid, pa.large_string()), True


def check_columns(columns: Sequence[str], name: str) -> list[str]:
    """Return the column names as a list; raises SourceError for a blank or a repeated one.

    Columns are named by position: in a file without a header the "names" are somebody's data.
    """
    places: dict[str, int] = {}
    for place, column in enumerate(columns, start=1):
        if not column.strip():
            raise SourceError(f"{name}: column {place} has no name: fill in its header")
        if column in places:
            raise SourceError(
                f"{name}: columns {places[column]} and {place} have the same name: rename one"
            )
        places[column] = place
    if not places:
        raise SourceError(f"{name}: has no columns")
    return list(columns)


def reject_frame(rejects: Sequence[tuple[int, str | None, RejectReason]]) -> pd.DataFrame:
    """Return rejects as a frame `row, column, reason`, in order of the rows."""
    ordered = sorted(rejects, key=lambda reject: reject[0])
    rows, columns, reasons = zip(*ordered, strict=True) if ordered else ((), (), ())
    return pd.DataFrame(
        {
            "row": pd.Series(rows, dtype="int64"),
            "column": pd.Series(columns, dtype="str"),
            "reason": pd.Series(reasons, dtype="str"),
        }
    )


def screen(
    table: pa.Table,
    rows: npt.NDArray[np.int64],
    rejects: Sequence[tuple[int, str | None, RejectReason]] = (),
    *,
    undecodable: bool = False,
) -> Partition:
    """Make a partition of text columns, moving what nobody could store or send to the rejects.

    `table`: large_string columns, empty is null. `rows`: the record number of each of its rows.
    `rejects`: records that did not even make it into the table. `undecodable`: whether decoding
    may have left replacement characters; without it they are the source's own and stay.
    """
    found = list(rejects)
    keep = np.ones(len(rows), dtype=bool)

    def reject(mask: Any, column: str | None, reason: RejectReason) -> None:
        bad = pc.fill_null(mask, False).to_numpy(zero_copy_only=False) & keep
        found.extend((int(row), column, reason) for row in rows[bad])
        keep[bad] = False

    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    if len(rows) and all(column.null_count for column in columns.values()):
        empty = [column.is_null().to_numpy(zero_copy_only=False) for column in columns.values()]
        reject(pa.array(np.logical_and.reduce(empty)), None, "blank_row")
    for name, column in columns.items():
        lengths = pc.binary_length(column)
        if (pc.max(lengths).as_py() or 0) > LONGEST_VALUE:
            reject(pc.greater(lengths, LONGEST_VALUE), name, "field_too_long")
        if _holds(column, b"\0"):
            reject(pc.match_substring(column, "\0"), name, "nul_byte")
        if undecodable and _holds(column, REPLACEMENT.encode()):
            reject(pc.match_substring(column, REPLACEMENT), name, "undecodable_text")

    frame = pa.table(columns).to_pandas()
    frame.index = pd.Index(rows, dtype="int64", name="row")
    return Partition(frame if keep.all() else frame[keep], reject_frame(found))


def _holds(column: pa.Array, needle: bytes) -> bool:
    """Whether the bytes occur anywhere in a text column: one search instead of one a row."""
    text = column.buffers()[2]
    return text is not None and needle in text.to_pybytes()


def regroup(partitions: Iterable[Partition], size: int, name: str) -> Iterator[Partition]:
    """Cut consecutive partitions of any length, from record 1 on, into `size` records each.

    Raises SourceError where they hold more than 512 MiB: a small file can unpack to any size.
    """
    frames, rejects = pd.DataFrame(), reject_frame([])
    end = size  # number of the last record of the next partition
    for new in partitions:
        frames = pd.concat([frames, new.frame]) if len(frames) else new.frame
        rejects = pd.concat([rejects, new.rejects]) if len(rejects) else new.rejects
        if frames.memory_usage().sum() > LARGEST_PARTITION:
            raise SourceError(
                f"{name}, row {frames.index[-1]}: the {len(frames):,} rows up to here hold more"
                " than 512 MiB of text: is this an audience?"
            )
        while max(*frames.index[-1:], *rejects["row"].tail(1), 0, 0) > end:
            good = int(np.searchsorted(frames.index.to_numpy(), end, side="right"))
            bad = int(np.searchsorted(rejects["row"].to_numpy(), end, side="right"))
            yield Partition(frames.iloc[:good], rejects.iloc[:bad].reset_index(drop=True))
            frames, rejects = frames.iloc[good:], rejects.iloc[bad:]
            end += size
    if len(frames) or len(rejects):
        yield Partition(frames, rejects.reset_index(drop=True))
