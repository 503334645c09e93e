"""Brings the database to the shape that this version of the code expects, at start."""

from functools import cache

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from data.database import DatabaseError, is_sqlite, reading, writing
from data.settings import PROJECT, settings

_LOCK = 7_735_001  # any number: PostgreSQL's advisory lock that every migrating process takes


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "data" / "migrations"))
    return config


def migrate() -> None:
    """Run what migrations are missing, once even when several processes start together.

    Raises `DatabaseError` on a database that a newer version of the program has changed.
    """
    _migrate(settings().database)


@cache
def _migrate(_url: str) -> None:
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    with reading() as connection:
        if shape(connection) == newest:
            return
    # SQLite's lock is the write transaction itself; DDL is transactional in both databases.
    with writing() as connection:
        lock(connection)
        present = shape(connection)
        if present is not None and present not in shapes():
            raise DatabaseError(
                f"the database has the shape {present}, which this version does not know: "
                "it was changed by a newer version of sms-campaigns; update this installation"
            )
        upgrade(connection)


def shape(connection: Connection) -> str | None:
    """The revision that the database is at; None: it holds no tables of ours."""
    return MigrationContext.configure(connection).get_current_revision()


def shapes() -> list[str]:
    """Every revision that this version knows, the oldest first."""
    script = ScriptDirectory.from_config(_config())
    return [revision.revision for revision in script.walk_revisions()][::-1]


def lock(connection: Connection) -> None:
    """Keep other processes from changing the shape, until the transaction ends."""
    if not is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def upgrade(connection: Connection, to: str = "head") -> None:
    """Bring the database to a revision, inside the caller's writing transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)
