"""The connection to the database: engine, transactions, bulk writing, and errors in plain words.

Statements of one subject are in that subject's module; changes of shape in `data/migrations`.
"""

import io
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from data.errors import SmsError
from data.settings import settings

_BUSY_SECONDS = 30


class DatabaseError(SmsError):
    """The database cannot do what was asked, in words for its operator."""


UNAVAILABLE = (DatabaseError, OperationalError, InterfaceError)
"""What is raised while the database is away, locked, full or restarting: trying again may help."""


PATIENCE = 120.0
"""Seconds that what must not get lost is tried again while the database is away."""

_T = TypeVar("_T")


def now() -> datetime:
    """The present instant, UTC."""
    return datetime.now(UTC)


def engine() -> Engine:
    """The engine of this process for the configured database."""
    return _engine(settings().database)


@cache
def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        return _sqlite(url)
    url = url.replace("postgres://", "postgresql://", 1)
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    return create_engine(
        url,
        pool_size=10,
        max_overflow=20,
        pool_pre_ping=True,
        hide_parameters=True,
        # A network that goes silent would else be waited for as long as the kernel sees fit.
        connect_args={"connect_timeout": 10, "tcp_user_timeout": 20_000},
    )


def _sqlite(url: str) -> Engine:
    made = create_engine(
        url,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        # An error text must not carry a row's values: numbers and texts of people.
        hide_parameters=True,
    )
    if made.url.database and made.url.database != ":memory:":
        Path(made.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(made, "connect")
    def prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        # The driver's own BEGIN is deferred: a transaction that reads and then writes is
        # refused at once when another one wrote in between, whatever the busy timeout.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        # The default of 2 MB is written out and read back all the time where 100,000 rows meet
        # five indexes: reconciling them takes twice as long. In KiB; only what is used is taken.
        for pragma in ("cache_size=-65536", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(made, "begin")
    def begin(connection: Connection) -> None:
        kind = "IMMEDIATE" if connection.get_execution_options().get("writing") else "DEFERRED"
        connection.exec_driver_sql(f"BEGIN {kind}")

    return made


@contextmanager
def writing() -> Iterator[Connection]:
    """A transaction that writes; committed at the end, rolled back on an error."""
    connected = engine().connect
    with _plain_words(), connected() as connection:
        connection.execution_options(writing=True)
        with connection.begin():
            yield connection


@contextmanager
def reading() -> Iterator[Connection]:
    """A transaction that only reads: one snapshot."""
    with _plain_words(), engine().connect() as connection, connection.begin():
        yield connection


@contextmanager
def _plain_words() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        words = _words(error)
        if words is None:
            raise
        raise DatabaseError(words) from None


def _words(error: DBAPIError) -> str | None:
    """Say what the common failures mean; None leaves a programming error as it is."""
    where = engine().url.render_as_string(hide_password=True)
    told = str(error.orig).lower()
    hints = {
        "database is locked": "is locked by another process: stop it, or try again",
        "readonly database": "cannot be written: check the rights of the file and its folder",
        "read-only": "is read-only: give the user of SMS_DATABASE_URL the right to write",
        "unable to open": "cannot be opened: check that its folder exists and can be written",
        "disk is full": "is full: free disk space, then run the command again",
        "no space left": "is full: free disk space, then run the command again",
        "disk i/o error": "cannot be read or written (disk I/O error): check the disk",
        "not a database": "is not a SQLite database: check SMS_DATABASE_URL",
        "malformed": "is damaged: restore it from a backup",
    }
    for sign, hint in hints.items():
        if sign in told:
            return f"the database {where} {hint}"
    unreachable = ("connection", "could not connect", "shutting down", "starting up")
    if isinstance(error, OperationalError) and any(sign in told for sign in unreachable):
        return f"the database {where} cannot be reached: start it, or mend SMS_DATABASE_URL"
    return None


def patiently(work: Callable[[], _T]) -> _T:
    """Do what a database that is away, locked or restarting makes wait, for up to two minutes."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except UNAVAILABLE:
            if time.monotonic() > ends:
                raise
            time.sleep(0.5)


def clock(connection: Connection) -> datetime:
    """The present instant by the database's clock, which every host that shares it agrees on."""
    if is_sqlite(connection):
        return now()
    instant: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return instant.astimezone(UTC)


def is_sqlite(connection: Connection) -> bool:
    """Whether this connection leads to SQLite."""
    return connection.dialect.name == "sqlite"


def insert_frame(connection: Connection, table: str, frame: pd.DataFrame) -> None:
    """Append the rows of `frame` to `table`, column names alike, at bulk speed.

    Missing values become NULL. Instants must be UTC `datetime64` columns.
    """
    if frame.empty:
        return
    if is_sqlite(connection):
        _insert_sqlite(connection, table, frame)
    else:
        _copy_postgres(connection, table, frame)


def _insert_sqlite(connection: Connection, table: str, frame: pd.DataFrame) -> None:
    names = ", ".join(f'"{name}"' for name in frame.columns)
    marks = ", ".join("?" * len(frame.columns))
    columns = [_plain(frame[name]) for name in frame.columns]
    connection.exec_driver_sql(
        f'INSERT INTO "{table}" ({names}) VALUES ({marks})',  # noqa: S608 - names are ours
        list(zip(*columns, strict=True)),
    )


def _plain(column: pd.Series) -> list[Any]:
    """A column as Python values; instants in the text that `UtcDateTime` stores."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # Each instant is written once: rows share a few, and writing is slow.
        places, instants = pd.factorize(column)
        written = pd.DatetimeIndex(instants).tz_convert("UTC").strftime("%Y-%m-%d %H:%M:%S.%f")
        # A missing one has place -1.
        return [*map([*written, None].__getitem__, places.tolist())]
    return column.astype(object).where(column.notna(), None).tolist()


def _copy_postgres(connection: Connection, table: str, frame: pd.DataFrame) -> None:
    names = ", ".join(f'"{name}"' for name in frame.columns)
    buffer = io.BytesIO()
    # Everything that is there is quoted, and COPY takes what is not for NULL.
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    pyarrow.csv.write_csv(rows, buffer, options)
    cursor = connection.connection.cursor()
    with cursor.copy(f'COPY "{table}" ({names}) FROM STDIN WITH (FORMAT csv)') as copy:
        copy.write(buffer.getvalue())


def ping() -> None:
    """Raise `DatabaseError` where the database does not answer."""
    with reading() as connection:
        connection.execute(text("SELECT 1"))
