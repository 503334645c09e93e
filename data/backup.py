"""Backup and restore: one archive of the ledger, its key and the reports, for both databases.

A ZIP with a compressed Arrow stream for each table, and files as they lie in SMS_HOME. Written
from one snapshot while everything runs. Not here: what else belongs to an installation (`flows`).
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import Connection, MetaData, Table, func, select, text, update
from sqlmodel import SQLModel, col

from data import doubts, ledger, results, runs
from data.database import clock, insert_frame, is_sqlite, reading, writing
from data.errors import SmsError
from data.migrate import lock, shape, shapes, upgrade
from data.settings import settings
from data.tables import CampaignRun, Message

_FORMAT = 1
_CHUNK = 20_000  # rows in memory at one time
_HOME = "home/"  # what lies in SMS_HOME
_KEY = "secret.key"
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


class BackupError(SmsError):
    """A backup cannot be made or restored."""


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself."""

    format: int
    taken_at: str
    """An instant before the snapshot, ISO 8601, UTC."""
    shape: str
    """Revision of the tables."""
    key: str
    """Fingerprint of the secret key, which itself may be kept elsewhere (SMS_SECRET_KEY)."""
    rows: dict[str, int]
    """By table."""

    @property
    def taken(self) -> datetime:
        """The instant before the snapshot."""
        return datetime.fromisoformat(self.taken_at)


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    manifest: Manifest
    stopped: dict[str, int]
    """Runs that wait for a person now, and how many of their messages may have been sent since."""
    ended: list[str]
    """Runs without a plan, ended because they may have been planned and sent since."""


# --- write -----------------------------------------------------------------------------------


def backup(path: Path, more: Mapping[str, Path]) -> Manifest:
    """Write an archive of the database, the key file and the runs' reports; others may go on.

    `more` are further files, by their place in SMS_HOME. The archive is readable by its owner
    alone, and there only when it is whole. Raises `BackupError`; what exists is not replaced.
    """
    files = {**_own_files(), **more}
    # Before the snapshot: what waits in it may have been sent from this instant on, not before.
    with reading() as connection:
        taken = clock(connection)
    try:
        with _new_archive(path) as archive:
            with reading() as connection:
                if not is_sqlite(connection):
                    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                present = _known_shape(connection)
                rows = {
                    table.name: _write_table(archive, connection, table)
                    for table in _tables(connection)
                }
            for name, source in files.items():
                archive.write(source, _HOME + name, zipfile.ZIP_DEFLATED)
            key = _fingerprint(settings().key)
            manifest = Manifest(_FORMAT, taken.isoformat(), present, key, rows)
            archive.writestr("manifest.json", json.dumps(asdict(manifest), indent=1))
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror or error}") from None
    return manifest


def _own_files() -> dict[str, Path]:
    """The key, unless it is kept elsewhere, and what runs have reported."""
    home = settings().home
    settings().key  # noqa: B018 - makes the file of an installation that is new
    files = {} if settings().secret_key else {_KEY: home / _KEY}
    for report in sorted((home / "runs").glob("*/*")):
        # Not the sign that a process prepares the run, nor the audience (a folder).
        if report.is_file() and report.name != "preparing":
            files[report.relative_to(home).as_posix()] = report
    return files


@contextmanager
def _new_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    if path.exists():
        raise BackupError(f"{path} exists: name a new file")
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        # Never readable by others, not even while it is written: it holds the key and numbers.
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b") as file:
            with zipfile.ZipFile(file, "w") as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _known_shape(connection: Connection) -> str:
    present = shape(connection)
    if present is None:
        raise BackupError("the database is empty: there is nothing to back up")
    if present not in shapes():
        raise BackupError(
            f"the database has the shape {present}, which this version does not know:"
            " back it up with the version of sms-campaigns that changed it"
        )
    return present


def _tables(connection: Connection) -> list[Table]:
    """Our tables as the database has them, which an earlier version may have made."""
    found = MetaData()
    found.reflect(connection, only=lambda name, _: name in SQLModel.metadata.tables)
    return found.sorted_tables


def _write_table(archive: zipfile.ZipFile, connection: Connection, table: Table) -> int:
    kinds = pa.schema([(column.name, _arrow(column)) for column in table.columns])
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    # JSON as the text that it is stored as: nothing is read into it, nothing is lost.
    wanted = [
        sa.cast(column, sa.Text) if isinstance(column.type, sa.JSON) else column
        for column in table.columns
    ]
    stored = connection.execution_options(yield_per=_CHUNK).execute(select(*wanted))
    count = 0
    with (
        archive.open(_member(table.name), "w", force_zip64=True) as member,
        pa.ipc.new_stream(member, kinds, options=options) as stream,
    ):
        for rows in stored.partitions():
            count += len(rows)
            columns = zip(*rows, strict=True)
            arrays = [pa.array(c, kind.type) for c, kind in zip(columns, kinds, strict=True)]
            stream.write_batch(pa.record_batch(arrays, schema=kinds))
    return count


def _arrow(column: sa.Column[Any]) -> pa.DataType:
    """The type that both databases' values of a column fit in."""
    match column.type:
        case sa.DateTime():
            return pa.timestamp("us", "UTC")
        case sa.Boolean():
            return pa.bool_()
        case sa.Integer():
            return pa.int64()
        case sa.Float():
            return pa.float64()
        case _:
            return pa.string()


def _member(table: str) -> str:
    return f"tables/{table}.arrow"


def _fingerprint(key: bytes) -> str:
    return hashlib.blake2b(digest_size=16, key=key[:64], person=b"backup").hexdigest()


# --- read ------------------------------------------------------------------------------------


def restore(path: Path, *, nothing_sent_since: bool) -> Restored:
    """Restore an archive into an empty place, all of it or nothing, in the shape of this version.

    Unless nothing was sent since the backup, what waited in it may have been: it is put in doubt
    and its runs are paused, so that nobody gets a message twice. Raises `BackupError`.
    """
    written: list[Path] = []
    try:
        with _opened(path) as archive:
            manifest = _manifest(path, archive)
            files = _files(path, archive, manifest)
            with writing() as connection:
                lock(connection)
                _make_shape(connection, manifest.shape)
                _load(path, archive, connection, manifest)
                upgrade(connection)
                restored = Restored(manifest, {}, [])
                if not nothing_sent_since:
                    restored = _doubt(connection, manifest)
                # Before the commit: without its key a database must never be used.
                _write_files(archive, files, written)
    except BaseException:
        for file in written:
            file.unlink()
        raise
    return restored


def _opened(path: Path) -> zipfile.ZipFile:
    """Open an archive of which every byte is as it was written."""
    try:
        archive = zipfile.ZipFile(path)
        if archive.testzip() is None and "manifest.json" in archive.namelist():
            return archive
        archive.close()
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        pass
    raise BackupError(
        f"{path} is no backup or is damaged: nothing was restored; take another copy of it"
    )


def _manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    fields = json.loads(archive.read("manifest.json"))
    if fields.get("format") != _FORMAT or fields["shape"] not in shapes():
        raise BackupError(
            f"{path} was made by a newer version of sms-campaigns (its tables have the shape"
            f" {fields.get('shape')}): update this installation, then restore it"
        )
    return Manifest(**fields)


def _files(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> dict[str, Path]:
    """Where files are to be written, by member. Refused where something is there already."""
    home, files = settings().home, {}
    for name in archive.namelist():
        if name.startswith(_HOME):
            files[name] = home / name.removeprefix(_HOME)
            # `..`, or an absolute path behind the prefix: an archive is not to write elsewhere.
            if not files[name].resolve().is_relative_to(home.resolve()):
                raise BackupError(
                    f"{path} is no backup of sms-campaigns: {name} lies outside of it"
                )
    here, brought = home / _KEY, archive.read(_HOME + _KEY) if _HOME + _KEY in files else b""
    given = settings().secret_key
    if given is not None:
        if _fingerprint(given.get_secret_value().encode()) != manifest.key:
            raise BackupError(f"SMS_SECRET_KEY is not the key of {path}: set it to that one")
        files.pop(_HOME + _KEY, None)
    elif here.exists() and _fingerprint(here.read_bytes().strip()) == manifest.key:
        files.pop(_HOME + _KEY, None)
    elif here.exists():
        raise BackupError(f"{here} is not the key of {path}: restore into an empty SMS_HOME")
    elif _fingerprint(brought.strip()) != manifest.key:
        raise BackupError(
            f"{path} does not hold its key, which was kept in SMS_SECRET_KEY: set that first"
        )
    if taken := next((file for file in files.values() if file.exists()), None):
        raise BackupError(f"{taken} exists: restore into an empty SMS_HOME")
    return files


def _make_shape(connection: Connection, wanted: str) -> None:
    """Make the tables of a revision in a database without any rows of ours."""
    present, tables = shape(connection), _tables(connection)
    strange = tables and present not in shapes()
    if strange or any(connection.execute(select(table).limit(1)).first() for table in tables):
        where = connection.engine.url.render_as_string(hide_password=True)
        raise BackupError(f"the database {where} is not empty: restore into a new one")
    if present not in {None, wanted}:
        for table in tables:
            table.drop(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    upgrade(connection, wanted)


def _load(path: Path, archive: zipfile.ZipFile, connection: Connection, manifest: Manifest) -> None:
    tables = {table.name: table for table in _tables(connection)}
    if tables.keys() != manifest.rows.keys():
        raise BackupError(f"{path} does not hold the tables that it should: it is no backup")
    for name, table in tables.items():
        with archive.open(_member(name)) as member, pa.ipc.open_stream(member) as stream:
            for batch in stream:
                insert_frame(connection, name, batch.to_pandas(types_mapper=_NULLABLE.get))
        _go_on_counting(connection, table)
        stored = connection.execute(select(func.count()).select_from(table)).scalar_one()
        if stored != manifest.rows[name]:
            raise BackupError(
                f"{path} holds {stored:,} rows of {name} instead of {manifest.rows[name]:,}:"
                " nothing was restored; take another copy of it"
            )


def _go_on_counting(connection: Connection, table: Table) -> None:
    """Let PostgreSQL number the next row after the last one; SQLite does by itself."""
    for column in table.primary_key:
        if not is_sqlite(connection) and isinstance(column.type, sa.Integer):
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            connection.execute(
                select(func.setval(sequence, select(func.max(column)).scalar_subquery()))
            )


def _doubt(connection: Connection, manifest: Manifest) -> Restored:
    """Stop what may have gone on since the backup, or been stopped, and show it."""
    doubts.doubt_restored(connection, manifest.taken)
    state, mine = col(CampaignRun.state), col(CampaignRun.id)
    note = f"restored from a backup of {manifest.taken:%Y-%m-%d %H:%M} UTC: "
    # Nobody knows whom it may have been sent to since: its plan was not made yet.
    unplanned = state.in_((runs.PREPARING, runs.FAILED)) & ~col(CampaignRun.planned)
    lost = note + "it may have been planned and sent since; if it was not, start it under a new key"
    ended = {"state": runs.CANCELLED, "finished_at": clock(connection), "note": lost}
    statement = update(CampaignRun).where(unplanned).values(**ended).returning(mine)
    gone = sorted(connection.execute(statement).scalars())
    # Deferred messages as well: somebody may have cancelled them since.
    unsent = mine.in_(
        select(col(Message.run_id)).where(
            (col(Message.state) == ledger.DEFERRED) | (col(Message.reason) == "restored")
        )
    )
    note += "what may have been sent since is in doubt"
    for which, values in (
        (state == runs.WAITING, {"note": note}),
        (
            (state == runs.SENDING) | ((state == runs.RECONCILING) & unsent),
            {"note": note, "state": runs.PAUSED},
        ),
    ):
        connection.execute(update(CampaignRun).where(which).values(**values))
    counted = (
        select(mine, func.count(col(Message.id)))
        .outerjoin(Message, (col(Message.run_id) == mine) & (col(Message.reason) == "restored"))
        .where(state.in_((runs.PAUSED, runs.WAITING)))
        .group_by(mine)
        .order_by(mine)
    )
    stopped = {run_id: count for run_id, count in connection.execute(counted)}  # noqa: C416
    for run_id, count in stopped.items():
        if count:
            results.rebuild(connection, run_id)
    return Restored(manifest, stopped, gone)


def _write_files(archive: zipfile.ZipFile, files: Mapping[str, Path], written: list[Path]) -> None:
    """Write the files, and note each in `written` as soon as it is there."""
    for name, path in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            written.append(path)
            with os.fdopen(handle, "wb") as file:
                file.write(archive.read(name))
        except OSError as error:
            raise BackupError(f"{path} cannot be written: {error.strerror}") from None
