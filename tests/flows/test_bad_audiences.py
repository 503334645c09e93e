"""Audiences as the world sends them: refused with a reason, or only their bad rows left out."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from data import runs
from tests.flows.campaigns import Desk, outcomes, run_of

PHONES = ["+12025550101", "+12025550102"]


def nothing(path: Path) -> None:
    pass


def holding(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(nothing, ["there is no such file"], id="no file"),
        pytest.param(Path.mkdir, ["folder"], id="a folder"),
        pytest.param(holding(b""), ["empty"], id="empty"),
        pytest.param(holding(b"phone\n"), ["header", "no rows"], id="header alone"),
        pytest.param(holding(b"\x7fELF\x02\x01\x01" + bytes(4000)), [], id="a program"),
        pytest.param(holding(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9), [], id="a picture"),
        pytest.param(holding(b"name,city\nAnn,Bonn\n"), ["phone", "name", "city"], id="no phone"),
        pytest.param(holding(b"phone,phone\n+12025550101,x\n"), ["same name"], id="two of a name"),
        pytest.param(holding(b"+12025550101\n+12025550102\n"), ["phone"], id="no header"),
    ],
)
def test_an_audience_that_cannot_be_read_sends_nothing(
    desk: Desk, make: Callable[[Path], None], words: list[str]
) -> None:
    before = desk.accepted()
    make(desk.folder / "audience.csv")
    campaign = desk.campaign(desk.folder / "audience.csv")
    said = desk.sms("send", campaign)
    assert said.code == 1, said.out
    assert said.err.count("\n") == 1, said.err
    assert [word for word in ["audience.csv", *words] if word not in said.err] == [], said.err
    assert not any(phone in said.err for phone in PHONES)
    assert desk.accepted() == before
    run = run_of(campaign)
    assert (run.state, f"sms: {run.note}\n") == (runs.FAILED, said.err)


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "../../../etc/passwd"])
def test_a_path_outside_the_folders_is_refused_whatever_is_there(desk: Desk, path: str) -> None:
    campaign = desk.campaign({"kind": "csv", "path": path})
    said = desk.sms("send", campaign)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "SMS_AUDIENCE_FOLDERS" in said.err
    assert "root:" not in said.err


def test_bad_rows_are_quarantined_and_the_others_are_sent(desk: Desk) -> None:
    good = desk.people(6)
    rows = [
        *(f"{phone},Ann" for phone in good),
        f"{desk.people(1)[0]},Ann,more",
        f"{desk.people(1)[0]},Nu\0l",
        f"{desk.people(1)[0]},{'x' * 10_000_000}",
        "",
        f"{desk.people(1)[0]}",
    ]
    path = desk.folder / "audience.csv"
    path.write_text("phone,name\n" + "\n".join(rows) + "\n", encoding="utf-8")
    said = desk.sms("send", desk.campaign(path))
    assert said.code == 0, said.err
    assert desk.messages(good) == [1] * 6
    assert outcomes(said.run_id) == {"delivered": 6, "invalid": 5}
    rejects = desk.sms("rejects", said.run_id).out.splitlines()[1:]
    assert [line.split(",")[2] for line in rejects] == [
        *("ragged_row", "nul_byte", "field_too_long", "blank_row", "ragged_row")
    ]


def test_a_query_that_fails_is_told_without_the_password(desk: Desk) -> None:
    path = desk.folder / "shop.db"
    sqlite3.connect(path).close()
    query = "query=SELECT phone FROM people"
    desk.sms("source", "add", "broken", "sql", "--set", f"url=sqlite:///{path}", "--set", query)
    campaign = desk.campaign({"kind": "sql", "connection": "broken"})
    said = desk.sms("send", campaign)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "broken: the query failed" in said.err
    assert run_of(campaign).state == runs.FAILED


def test_a_connection_that_nobody_set_up_is_named(desk: Desk) -> None:
    said = desk.sms("send", desk.campaign({"kind": "http", "connection": "nowhere"}))
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "nowhere" in said.err
