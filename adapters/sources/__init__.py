"""Audience sources, one module a kind; this is where they are listed and opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from adapters.sources.base import (
    Audience,
    ColumnMapping,
    CsvAudience,
    HttpAudience,
    HttpConnection,
    ParquetAudience,
    Partition,
    Source,
    SourceError,
    SqlAudience,
    SqlConnection,
)

LONGEST_PATH, LONGEST_NAME = 4095, 255  # bytes, of Linux: PATH_MAX, NAME_MAX

_C = TypeVar("_C", SqlConnection, HttpConnection)

__all__ = [
    "Audience",
    "ColumnMapping",
    "CsvAudience",
    "HttpAudience",
    "HttpConnection",
    "ParquetAudience",
    "Partition",
    "Source",
    "SourceError",
    "SqlAudience",
    "SqlConnection",
    "open_source",
]


def open_source(
    audience: CsvAudience | ParquetAudience | SqlAudience | HttpAudience,
    *,
    folders: Sequence[Path],
    connections: Mapping[str, SqlConnection | HttpConnection] | None = None,
) -> Source:
    """Open an audience for reading; raises SourceError.

    `folders`: where files may come from (the setting SMS_AUDIENCE_FOLDERS), links followed.
    `connections`: what the operator has set up, by name.
    """
    # Imported here: a command that opens a CSV file need not wait for SQLAlchemy and httpx.
    match audience:
        case CsvAudience():
            from adapters.sources.csv import CsvSource

            path = _allowed_file(audience.path, folders)
            return CsvSource(
                path,
                name=audience.path,
                encoding=audience.encoding,
                delimiter=audience.delimiter,
            )
        case ParquetAudience():
            from adapters.sources.parquet import ParquetSource

            return ParquetSource(_allowed_file(audience.path, folders), name=audience.path)
        case SqlAudience(connection=name):
            from adapters.sources.sql import SqlSource

            return SqlSource(_connection(name, SqlConnection, connections or {}), name=name)
        case HttpAudience(connection=name):
            from adapters.sources.http import HttpSource

            return HttpSource(_connection(name, HttpConnection, connections or {}), name=name)


def _allowed_file(given: str, folders: Sequence[Path]) -> Path:
    if not given.isprintable():
        raise SourceError("the path of the audience file holds characters that no path needs")
    if len(given.encode()) > LONGEST_PATH or any(
        len(part.encode()) > LONGEST_NAME for part in Path(given).parts
    ):
        raise SourceError("the path of the audience file is too long for any file")
    try:
        path = Path(given).resolve()
    except (OSError, RuntimeError):  # a loop of links; RuntimeError until Python 3.12
        raise SourceError(f"{given}: cannot be resolved: it links to itself") from None
    # Before anything is said about the file: what lies outside is nobody's business.
    if not any(path.is_relative_to(folder.resolve()) for folder in folders):
        shown = ", ".join(map(str, folders)) or "none is set"
        raise SourceError(
            f"{given}: is outside the folders for audiences ({shown}): "
            "move it there, or add its folder to SMS_AUDIENCE_FOLDERS"
        )
    if path.is_dir():
        raise SourceError(f"{given}: is a folder: name a file in it")
    if not path.is_file():
        raise SourceError(f"{given}: there is no such file")
    return path


def _connection(
    name: str, kind: type[_C], connections: Mapping[str, SqlConnection | HttpConnection]
) -> _C:
    found = connections.get(name)
    if not isinstance(found, kind):
        fitting = [key for key, value in connections.items() if isinstance(value, kind)]
        shown = ", ".join(sorted(fitting)) or "there is none yet"
        raise SourceError(f"{name}: there is no connection of this name and kind ({shown})")
    return found
