"""Rows of every table at any revision, made from the columns that the database itself has."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, MetaData, Table

from data.database import is_sqlite

ODD = 'He said "no",\nO\'Brien;\t\\N \\ é🎉 陽菜'


def tables(connection: Connection) -> list[Table]:
    """The tables that the database has now, but for Alembic's own."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def fill(connection: Connection, first: int = 1) -> None:
    """Store three rows in every table: all set, texts empty, and nothing that may be missing."""
    for table in tables(connection):
        for number, kind in enumerate(("set", "empty", "missing"), start=first):
            connection.execute(table.insert().values(_row(connection, table, number, kind)))


def _row(connection: Connection, table: Table, number: int, kind: str) -> dict[str, Any]:
    row = {}
    for column in table.columns:
        unique = column.primary_key or column.unique or column.name in {"key", "request_key"}
        if kind == "missing" and column.nullable:
            continue
        value = _value(column, number)
        if kind == "empty" and isinstance(value, str) and not unique:
            value = ""
        if isinstance(value, datetime) and is_sqlite(connection):
            value = value.replace(tzinfo=None)
        row[column.name] = value
    return row


def _value(column: sa.Column[Any], number: int) -> Any:
    match column.type:
        case sa.DateTime():
            return datetime(2026, 3, 29, 1, 59, 58, 100_000 + number, UTC)
        case sa.JSON():
            return {"list": [1, None, ODD], "number": number}
        case sa.Boolean():
            return number % 2 == 1
        case sa.Integer():
            return number
        case sa.Float():
            return 1_764_000_000.123456 + number
        case _:
            return f"{column.name} {number} {ODD}"


def stored(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, by table, in the order of their keys, instants in UTC."""
    found = {}
    for table in tables(connection):
        rows = connection.execute(table.select().order_by(*table.primary_key)).mappings()
        found[table.name] = [{name: _utc(value) for name, value in row.items()} for row in rows]
    return found


def _utc(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
