"""SQL audiences: streamed, as text, and silent about addresses, queries and data."""

import sqlite3
import traceback
from pathlib import Path

import pandas as pd
import pytest

from adapters.sources.base import SourceError, SqlConnection
from adapters.sources.sql import SqlSource


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "crm.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE contact (phone TEXT, age INTEGER, score REAL, note TEXT, photo BLOB)"
        )
        connection.executemany(
            "INSERT INTO contact VALUES (?, ?, ?, ?, ?)",
            [
                ("+12125550123", 41, 0.5, "100% :sure", None),
                ("07911123456", None, 3.0, "", b"Zo\xc3\xab"),
                (None, None, None, None, None),
                ("4", 1, 1, "a\0b", None),
                ("5", 1, 1, "x", b"\xff"),
            ],
        )
        connection.execute("CREATE TABLE number (n INTEGER)")
        connection.executemany("INSERT INTO number VALUES (?)", [(n,) for n in range(1, 2_501)])
    return path


def source(database: Path, query: str) -> SqlSource:
    return SqlSource(
        SqlConnection.model_validate({"url": f"sqlite:///{database}", "query": query}), name="crm"
    )


def test_rows_become_text_and_bad_ones_rejects(database: Path) -> None:
    opened = source(database, "SELECT * FROM contact ORDER BY rowid")
    assert opened.columns == ["phone", "age", "score", "note", "photo"]
    (part,) = opened.partitions()
    assert part.frame.index.tolist() == [1, 2]
    assert part.frame.astype(object).where(part.frame.notna(), None).values.tolist() == [
        ["+12125550123", "41", "0.5", "100% :sure", None],
        ["07911123456", None, "3", None, "Zoë"],
    ]
    assert {str(dtype) for dtype in part.frame.dtypes} == {"str"}
    assert part.rejects[["row", "reason"]].values.tolist() == [
        [3, "blank_row"],
        [4, "nul_byte"],
        [5, "undecodable_text"],
    ]


@pytest.mark.parametrize("size", [7, 100, 1_000, 1_001, 100_000])
def test_rows_are_streamed_in_partitions_of_the_asked_size(database: Path, size: int) -> None:
    parts = list(source(database, "SELECT n FROM number ORDER BY n").partitions(size))
    frame = pd.concat([part.frame for part in parts])
    assert frame.index.tolist() == list(range(1, 2_501))
    assert frame["n"].tolist() == [str(n) for n in range(1, 2_501)]
    assert {len(part.frame) for part in parts[:-1]} <= {size}


def test_percent_and_colon_in_a_query_are_no_parameters(database: Path) -> None:
    query = "SELECT phone, ' :x 10:30' AS t FROM contact WHERE note LIKE '%sure%'"
    (part,) = source(database, query).partitions()
    assert part.frame["t"].tolist() == [" :x 10:30"]


def test_an_error_halfway_names_the_row_and_nothing_else(database: Path) -> None:
    # abs() of the smallest integer is an overflow error, which SQLite raises when it gets there.
    query = (
        "SELECT CASE n WHEN 2000 THEN abs(-9223372036854775808) ELSE n END AS secret_x FROM number"
    )
    opened = source(database, query)
    with pytest.raises(SourceError) as error:
        list(opened.partitions(500))
    assert str(error.value).startswith("crm: the database failed after row 1")
    shown = "".join(traceback.format_exception(error.value))
    assert "secret_x" not in shown
    assert "crm.db" not in shown


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("SELECT secret_x FROM nowhere", r"crm: the query failed \(OperationalError\)"),
        ("SELECT n FROM number WHERE n < 0", "crm: the query gave no rows"),
        ("SELECT n, n FROM number", "crm: columns 1 and 2 have the same name"),
    ],
)
def test_a_query_that_gives_no_list_is_refused(database: Path, query: str, line: str) -> None:
    with pytest.raises(SourceError, match=line) as error:
        source(database, query)
    assert "secret_x" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sqlite:////nowhere/hunter2.db", "there is no such SQLite file"),
        ("hunter2", "the address of the database cannot be read"),
        ("nosuchdb://u:hunter2@h/x", "no driver is installed for nosuchdb"),
        ("postgresql://u:hunter2@127.0.0.1:9/x", r"cannot connect \(OperationalError\)"),
    ],
)
def test_a_connection_that_fails_does_not_show_its_address(url: str, line: str) -> None:
    with pytest.raises(SourceError, match=line) as error:
        SqlSource(SqlConnection.model_validate({"url": url, "query": "SELECT 1"}), name="crm")
    assert "hunter2" not in "".join(traceback.format_exception(error.value))


def test_the_database_itself_refuses_to_write(database: Path) -> None:
    opened = source(database, "SELECT n FROM number")
    with pytest.raises(Exception, match="readonly"):
        opened._connection.exec_driver_sql("DELETE FROM number")


def test_a_function_of_postgresql_cannot_write_either(postgresql: str) -> None:
    # The words of a query cannot tell what a function does; the read-only transaction can.
    query = "SELECT nextval(pg_get_serial_sequence('delivery_event', 'id')) AS phone"
    with pytest.raises(SourceError, match=r"the query failed \(ReadOnlySqlTransaction 25006\)"):
        SqlSource(SqlConnection.model_validate({"url": postgresql, "query": query}), name="crm")


def test_a_second_reading_is_refused_rather_than_empty(database: Path) -> None:
    opened = source(database, "SELECT n FROM number")
    list(opened.partitions())
    with pytest.raises(SourceError, match="was read already"):
        list(opened.partitions())
