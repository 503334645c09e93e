"""Brings the database to the shape that this version of the code expects, at start."""

from functools import cache

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

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
    config = _config()
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head()
    with reading() as connection:
        if MigrationContext.configure(connection).get_current_revision() == newest:
            return
    # SQLite's lock is the write transaction itself; DDL is transactional in both databases.
    with writing() as connection:
        if not is_sqlite(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        present = MigrationContext.configure(connection).get_current_revision()
        known = {revision.revision for revision in script.walk_revisions()}
        if present is not None and present not in known:
            raise DatabaseError(
                f"the database has the shape {present}, which this version does not know: "
                "it was changed by a newer version of sms-campaigns; update this installation"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
