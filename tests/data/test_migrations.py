"""The database gets the shape that the code expects, and says so when it cannot."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlmodel import SQLModel

from data.database import DatabaseError, reading, writing
from data.migrate import _migrate, migrate


def test_migrations_lead_to_the_tables_of_the_code(database: str) -> None:
    with reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_database_from_a_newer_version_is_refused(database: str) -> None:
    with writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    _migrate.cache_clear()
    with pytest.raises(DatabaseError, match="changed by a newer version of sms-campaigns"):
        migrate()
