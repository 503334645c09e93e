"""The command line at its edges: usage, commands without Prefect, databases that cannot be used."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from data import migrate as migrations
from data import runs
from data.database import engine
from data.settings import settings
from tests.flows.campaigns import Desk, run_of
from tests.sandboxes import ROOT, SID, TOKEN

WITHOUT_PREFECT = """
import contextlib, sys, psutil
from flows import cli

for line in sys.stdin.read().splitlines():
    sys.argv = ["sms", *line.split()]
    with contextlib.suppress(SystemExit):
        cli.main()
    if "prefect" in sys.modules:
        sys.exit(f"{line}: imports Prefect")
    if psutil.Process().children():
        sys.exit(f"{line}: starts a process")
"""


def test_commands_that_need_no_prefect_neither_import_nor_start_it(
    desk: Desk, tmp_path: Path
) -> None:
    run_id = desk.sms("send", desk.campaign(desk.audience(desk.people(1)), approval=True)).run_id
    (tmp_path / "ledger.csv").write_text("phone,type,occurred_at\n")
    (tmp_path / "cases.jsonl").write_text("")
    lines = [
        *("--help", "send --help", "sandbox --help", "web --help", "up --help", "demo --help"),
        *("runs", f"results {run_id}", f"rejects {run_id}", f"pause {run_id}", f"cancel {run_id}"),
        *("gateway --help", "gateway add --help", "resume", "consent", "nonsense"),
        f"consent import {tmp_path}/ledger.csv",
        f"consent explain --file {tmp_path}/cases.jsonl",
        f"resume {run_id} --reject",
        "resume no-such-run",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PREFECT],
        cwd=ROOT,
        input="\n".join(lines),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "send",
        "send a.yaml b.yaml",
        "send a.yaml --colour red",
        "results",
        "results x --format xml",
        "resume x --approve --reject",
        "runs --limit 0",
        "runs --limit many",
        "gateway add main",
        "demo --gateway nobody",
        "consent explain",
    ],
)
def test_wrong_usage_exits_2_and_does_nothing(desk: Desk, line: str) -> None:
    said = desk.sms(*line.split())
    assert (said.code, said.out) == (2, "")
    assert "Usage: sms" in said.err


@pytest.mark.parametrize(
    "line", ["results x", "rejects x", "pause x", "cancel x", "resume x", "resume x --approve"]
)
def test_a_run_that_does_not_exist_is_told_in_one_line(desk: Desk, line: str) -> None:
    said = desk.sms(*line.split())
    assert (said.code, said.out) == (1, "")
    assert said.err == "sms: there is no run x: `sms runs` lists them\n"


def test_a_run_is_found_by_its_key_too(desk: Desk) -> None:
    campaign = desk.campaign(desk.audience(desk.people(1)), approval=True)
    run_id = desk.sms("send", campaign).run_id
    assert desk.sms("cancel", run_of(campaign).key).out == f"run {run_id} is cancelled\n"
    assert run_id in desk.sms("runs").out


def test_a_failing_command_says_one_line_on_stderr_and_shows_no_traceback(desk: Desk) -> None:
    campaign = desk.campaign(desk.audience(desk.people(1)), message="Hi {{ nobody }}")
    said = desk.process("send", campaign)
    assert said.code == 1
    assert said.err == f"sms: {run_of(campaign).note}\n"
    assert "Traceback" not in said.out


def test_gateways_are_added_listed_and_checked_without_showing_their_secret(desk: Desk) -> None:
    url = f"http://127.0.0.1:{desk.sandbox.port}"
    fields = [f"base_url={url}", f"account_sid={SID}", f"auth_token={TOKEN}"]
    wrong = [f"base_url={url}", f"account_sid={SID}", "auth_token=a-wrong-one"]
    for name, given in (("added", fields), ("added-wrong", wrong)):
        sets = [part for field in given for part in ("--set", field)]
        said = desk.sms("gateway", "add", name, "twilio", *sets)
        assert (said.code, said.err) == (0, "")
    listed = desk.sms("gateway", "list").out
    assert f"added\ttwilio\t{url}" in listed
    assert TOKEN not in listed
    checked = desk.sms("gateway", "check", "added", "--sender", "+15005550006")
    assert (checked.code, checked.out) == (0, "gateway added is ready\n")
    refused = desk.sms("gateway", "check", "added-wrong", "--sender", "+15005550006")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "auth_token" in refused.err
    assert "a-wrong-one" not in refused.err


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (["twillio"], ["twillio", "twilio"]),
        (["twilio"], ["account_sid", "--set account_sid="]),
        (["twilio", "--set", "colour=red"], ["colour", "account_sid"]),
        (["twilio", "--set", "account_sid"], ["field=value"]),
        (["twilio", "--set", "account_sid=AC1", "--set", "auth_token=hidden"], ["account_sid"]),
    ],
)
def test_a_gateway_that_cannot_be_saved_names_the_field(
    desk: Desk, fields: list[str], words: list[str]
) -> None:
    said = desk.sms("gateway", "add", "new", *fields)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert [word for word in words if word not in said.err] == []
    assert "hidden" not in said.err
    assert "new\t" not in desk.sms("gateway", "list").out


def test_reconcile_says_what_it_did(desk: Desk) -> None:
    said = desk.sms("reconcile")
    assert (said.code, said.err) == (0, "")
    names = [line.split()[0] for line in said.out.splitlines()]
    assert names == ["matched", "waiting", "polled", "expired", "rebuilt"]


def test_a_prefect_server_elsewhere_that_does_not_answer_is_told_at_once(
    desk: Desk, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    said = desk.sms("gateway", "list")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert url in said.err
    assert "PREFECT_API_URL" in said.err


@pytest.fixture
def own_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A database of this test alone; Prefect, sandbox and receiver stay."""
    path = tmp_path / "own.db"
    monkeypatch.setenv("SMS_DATABASE_URL", f"sqlite:///{path}")
    monkeypatch.setenv("SMS_REPORT_WAIT", "0.1")  # the receiver stores reports in the other one
    settings.cache_clear()
    migrations.migrate()
    yield path
    engine().dispose()
    migrations._migrate.cache_clear()


def test_a_database_of_a_newer_version_is_left_alone(desk: Desk, own_database: Path) -> None:
    with sqlite3.connect(own_database) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999_future'")
    database.close()
    migrations._migrate.cache_clear()
    campaign = desk.campaign(desk.audience(desk.people(1)))
    for line in (["runs"], ["send", campaign]):
        said = desk.sms(*line)
        assert (said.code, said.out) == (1, "")
        assert said.err.count("\n") == 1
        assert "9999_future" in said.err
        assert "newer version" in said.err


def test_a_file_that_is_no_database_is_told(desk: Desk, own_database: Path) -> None:
    engine().dispose()
    for file in own_database.parent.glob("own.db*"):
        file.unlink()
    own_database.write_bytes(b"not a database, but long enough to be read as one" * 100)
    migrations._migrate.cache_clear()
    said = desk.sms("runs")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "is not a SQLite database" in said.err


def test_a_database_that_cannot_be_written_sends_nothing(desk: Desk, own_database: Path) -> None:
    people = desk.people(2)
    campaign = desk.campaign(desk.audience(people))
    # Rights on files do not bind root, who may run these tests.
    with event_on_connect("PRAGMA query_only = ON"):
        said = desk.sms("send", campaign)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "cannot be written" in said.err
    assert desk.messages(people) == [0, 0]


def test_a_full_disk_sends_nothing_and_the_run_can_be_resumed(
    desk: Desk, own_database: Path
) -> None:
    people = desk.people(100)
    campaign = desk.campaign(desk.audience(people))
    pages = own_database.stat().st_size // 4096 + 3
    with event_on_connect(f"PRAGMA max_page_count = {pages}"):
        said = desk.sms("send", campaign)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "is full: free disk space" in said.err
    assert sum(desk.messages(people[:5])) == 0
    run = run_of(campaign)
    assert run.state in (runs.PREPARING, runs.FAILED)
    assert not run.planned
    assert desk.sms("resume", run.id).code == 0
    assert desk.messages(people[:5]) == [1] * 5


class event_on_connect:  # noqa: N801 - reads as what it is: a context
    """A statement on every new connection of this process."""

    def __init__(self, statement: str) -> None:
        self._statement = statement

    def __enter__(self) -> None:
        engine().dispose()
        event.listen(engine(), "connect", self._run)

    def __exit__(self, *_: object) -> None:
        event.remove(engine(), "connect", self._run)
        engine().dispose()

    def _run(self, connection: sqlite3.Connection, _: object) -> None:
        connection.execute(self._statement)


def test_the_fields_of_a_gateway_say_what_they_mean_and_which_are_needed(desk: Desk) -> None:
    said = desk.sms("gateway", "fields", "kannel")
    fields = {name: rest for name, *rest in (line.split("\t") for line in said.out.splitlines())}
    assert fields["password"][0] == "needed"
    assert fields["rate"][0] == "default 10"
    assert all(meaning for _, meaning in fields.values())
    assert next(iter(fields)) != "rate"
