"""Databases: the one query of a connection, streamed.

The query is the operator's and was checked with the connection. No error line holds the address,
the query or what the database said, because all three can hold passwords and people's data.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from adapters.sources.base import (
    PARTITION,
    Partition,
    SourceError,
    SqlConnection,
    check_columns,
    screen,
    text_column,
)

FIRST_ROWS = 1_000  # fetched on opening, to know the columns and that there are rows


class SqlSource:
    """A query's result, opened: the query runs once, and its rows can be read once.

    Moments are ISO 8601, decimals plain, booleans `true` and `false`, NULL is missing. A row
    without any value counts as blank.
    """

    def __init__(self, connection: SqlConnection, *, name: str) -> None:
        """Run the query; raises SourceError for what fails or has no rows."""
        self.name = name
        self.warnings: list[str] = []
        self._connection = _connect(connection, name)
        try:
            self._result = self._run(connection.query)
            self.columns = check_columns(list(self._result.keys()), name)
            self._first = self._fetch(FIRST_ROWS, before=0)
            if not self._first:
                raise SourceError(f"{name}: the query gave no rows")
        except BaseException:
            self._connection.close()
            raise

    def partitions(self, size: int = PARTITION) -> Iterator[Partition]:
        """Stream the rows; raises SourceError where the database fails on the way."""
        held, self._first = self._first, []
        if not held:
            raise SourceError(f"{self.name}: was read already: open it again")
        before = 0
        try:
            while held:
                if len(held) < size:
                    held = held + self._fetch(size - len(held), before + len(held))
                yield self._partition(held[:size], before)
                before += len(held[:size])
                held = held[size:] or self._fetch(size, before)
        finally:
            self._connection.close()

    def _run(self, query: str) -> "sa.CursorResult[Any]":
        # Without parameters, or the driver would take a % or : inside the query for one.
        options = {"stream_results": True, "no_parameters": True, "max_row_buffer": FIRST_ROWS}
        try:
            if self._connection.dialect.name == "sqlite":
                self._connection.exec_driver_sql("PRAGMA query_only = ON")
            return self._connection.exec_driver_sql(query, execution_options=options)
        except sa.exc.SQLAlchemyError as error:
            raise SourceError(
                f"{self.name}: the query failed ({_kind(error)}):"
                " try it in the database, then save it again with `sms source add`"
            ) from None

    def _fetch(self, count: int, before: int) -> list[Sequence[Any]]:
        try:
            return list(self._result.fetchmany(count))
        except Exception as error:  # noqa: BLE001 - drivers raise types of their own while streaming
            raise SourceError(
                f"{self.name}: the database failed after row {before} ({_kind(error)})"
            ) from None

    def _partition(self, rows: Sequence[Sequence[Any]], before: int) -> Partition:
        texts = [text_column(column) for column in zip(*rows, strict=True)]
        return screen(
            pa.table(dict(zip(self.columns, (text for text, _ in texts), strict=True))),
            np.arange(before + 1, before + 1 + len(rows), dtype=np.int64),
            undecodable=any(undecodable for _, undecodable in texts),
        )


def _connect(connection: SqlConnection, name: str) -> sa.Connection:
    try:
        url = sa.make_url(connection.url.get_secret_value())
    except sa.exc.ArgumentError:
        raise SourceError(f"{name}: the address of the database cannot be read") from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    database = url.database or ""
    if url.get_backend_name() == "sqlite" and not Path(database).is_file():
        raise SourceError(f"{name}: there is no such SQLite file")  # SQLite would create it
    try:
        engine = sa.create_engine(url, poolclass=NullPool, hide_parameters=True)
        if engine.dialect.is_async:
            raise SourceError(f"{name}: {url.drivername} is asynchronous: name another driver")
        return engine.connect().execution_options(
            **({"postgresql_readonly": True} if engine.dialect.name == "postgresql" else {})
        )
    except (sa.exc.NoSuchModuleError, ImportError):
        raise SourceError(f"{name}: no driver is installed for {url.drivername}") from None
    except sa.exc.SQLAlchemyError as error:
        raise SourceError(f"{name}: cannot connect ({_kind(error)})") from None


def _kind(error: Exception) -> str:
    """Name an error without its text: `OperationalError`, `UndefinedTable 42P01`."""
    original = getattr(error, "orig", None) or error
    return " ".join(filter(None, [type(original).__name__, getattr(original, "sqlstate", None)]))
