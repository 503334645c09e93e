"""What Prefect keeps of a campaign: no number, no name, no secret, wherever one looks."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data import runs
from data.settings import settings
from tests.flows.campaigns import Desk
from tests.flows.conftest import save_gateway
from tests.sandboxes import TOKEN

NAMES = ["Wolfdietrich", "Zephyrine", "Quirinius"]


def stored() -> Iterator[tuple[str, str]]:
    """Every text in Prefect's database, each with its table and column."""
    path = settings().home / "prefect" / "prefect.db"
    with sqlite3.connect(path) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            found = database.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in found.description]
            for row in found:
                for name, value in zip(names, row, strict=True):
                    if isinstance(value, str | bytes):
                        text = value if isinstance(value, str) else value.decode(errors="replace")
                        yield f"{table}.{name}", text
    database.close()


def artifacts(run_id: str) -> set[str]:
    return {
        text.removesuffix(f"-{run_id}")
        for place, text in stored()
        if place == "artifact.key" and text.endswith(run_id)
    }


def flush() -> None:
    """Wait until the server has stored what the flows have told it."""
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=5)
    time.sleep(1.5)


@pytest.mark.parametrize("token", [TOKEN, "a-wrong-token-nobody-may-see"])
def test_prefect_keeps_no_number_no_name_and_no_secret(
    desk: Desk, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_gateway("private", token=token)
    people = desk.people(4)
    rows = [*zip(people, [*NAMES, ""], strict=True), ("0049 30 x 4711471", "Wolfdietrich")]
    audience = desk.folder / "audience.csv"
    lines = [f"{phone},{name}" for phone, name in rows]
    audience.write_text("\n".join(["phone,first_name", *lines, ""]))
    campaign = desk.campaign(audience, gateway="private", message="Hi {{ first_name }}, ready")
    said = desk.sms("send", campaign)
    assert (said.code == 0) == (token == TOKEN)
    flush()
    digits = [phone[2:] for phone in people] + ["4711471"]
    hidden = [*digits, *NAMES, token]
    told = [*stored(), ("log", caplog.text), ("stdout", said.out), ("stderr", said.err)]
    if token == TOKEN:
        report = settings().home / "runs" / said.run_id / "report.md"
        page = report.with_name("validation.html")
        told += [(path.name, path.read_text()) for path in (report, page)]
        assert artifacts(said.run_id) >= {"validation", "preview", "rejects", "report", "sending"}
    # Else there would be nothing to find it in.
    assert {place for place, _ in told} >= {
        *("artifact.data", "flow_run.parameters", "flow_run_state.message", "log.message"),
        *("task_run.name", "task_run_state.name", "block_document.data"),
    }
    assert [(place, word) for place, text in told for word in hidden if word in text] == []


def test_the_audience_is_deleted_from_the_disk_once_it_is_planned(desk: Desk) -> None:
    campaign = desk.campaign(desk.audience(desk.people(2)), approval=True)
    run_id = desk.sms("send", campaign).run_id
    folder: Path = settings().home / "runs" / run_id
    assert runs.get_run(run_id).state == runs.WAITING
    assert [path.name for path in folder.iterdir()] == ["validation.html"]
