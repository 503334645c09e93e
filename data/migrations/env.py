"""Alembic's entry: migrations run on the connection that `data.migrate` hands over."""

from typing import Any, Literal

from alembic import context
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from data.database import engine
from data.tables import DecimalText, UtcDateTime

_FROZEN = {
    AutoString: "sa.Text()",
    UtcDateTime: "sa.DateTime(timezone=True)",
    DecimalText: "sa.Text()",
}


def plain_types(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Name only SQLAlchemy's own types in a migration: ours may change after it was written."""
    if kind != "type":
        return False
    return _FROZEN.get(type(item), False)


def run() -> None:
    """Run on the given connection, or on the configured database (`alembic revision`)."""
    given = context.config.attributes.get("connection")
    connection = given if given is not None else engine().connect()
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_as_batch=True,
        render_item=plain_types,
        transactional_ddl=False,
    )
    context.run_migrations()


run()
