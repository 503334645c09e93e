"""The database gets the shape that the code expects, and says so when it cannot."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlmodel import SQLModel

from data.database import DatabaseError, reading, writing
from data.migrate import _migrate, migrate, shape, shapes, upgrade
from tests import rows
from tests.places import Places


def differences(connection: Connection) -> list[object]:
    """What the tables of the code have otherwise than the database."""
    context = MigrationContext.configure(connection, opts={"compare_type": False})
    return list(compare_metadata(context, SQLModel.metadata))


def test_migrations_lead_to_the_tables_of_the_code(database: str) -> None:
    with reading() as connection:
        assert differences(connection) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("revision", shapes())
def test_every_earlier_shape_is_brought_up_with_its_rows(
    places: Places, kind: str, revision: str
) -> None:
    places.go(kind)
    with writing() as connection:
        upgrade(connection, revision)
        rows.fill(connection)
        before = rows.stored(connection)
    assert all(len(found) == 3 for found in before.values())

    migrate()

    with reading() as connection:
        assert shape(connection) == shapes()[-1]
        assert differences(connection) == []
        after = rows.stored(connection)
    # A column that is gone took its values with it; what there is of them is what there was.
    for table, old in before.items():
        kept = [{name: row[name] for name in old[0] if name in row} for row in after[table]]
        assert kept == [{name: row[name] for name in kept[0]} for row in old], table


def test_a_database_from_a_newer_version_is_refused(database: str) -> None:
    with writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    _migrate.cache_clear()
    with pytest.raises(DatabaseError, match="changed by a newer version of sms-campaigns"):
        migrate()
