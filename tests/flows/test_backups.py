"""`sms backup` and `sms restore`: while a run is sent, into a new place, and resumed there."""

import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from data import runs
from flows.resume_campaign import resume_campaign
from flows.stages import RunStoppedError
from tests.flows.campaigns import Desk, outcomes
from tests.flows.conftest import inside, save_gateway
from tests.flows.test_commands import WITHOUT_PREFECT
from tests.sandboxes import ROOT, wait_until


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Where the backup goes."""
    return tmp_path / "backup.zip"


@pytest.fixture
def elsewhere(installation: dict[str, str], tmp_path: Path) -> inside:
    """A new and empty place; its flows are recorded by the server that runs."""
    return inside({**installation, "SMS_HOME": str(tmp_path / "new"), "SMS_REPORT_WAIT": "0"})


def approved(desk: Desk, people: list[str]) -> str:
    """A run that may be sent, slowly."""
    save_gateway("slow", rate=10)
    campaign = desk.campaign(desk.audience(people), approval=True, gateway="slow")
    run_id = desk.sms("send", campaign).run_id
    runs.approve(run_id, by="me", note="")
    return run_id


def test_what_was_sent_while_and_after_it_was_backed_up_is_sent_once(
    desk: Desk, archive: Path, elsewhere: inside
) -> None:
    people = desk.people(30)
    run_id = approved(desk, people)
    with ThreadPoolExecutor(1) as beside:
        sending = beside.submit(resume_campaign, run_id)
        wait_until(lambda: sum(desk.messages(people)) > 3, 60)
        said = desk.sms("backup", archive)
        at_the_backup = sum(desk.messages(people))
        sending.result(60)
    assert (said.code, said.err) == (0, "")
    assert at_the_backup < 30 == sum(desk.messages(people))
    with elsewhere:
        restored = desk.sms("restore", archive)
        assert (restored.code, restored.err) == (0, "")
        assert f"`sms resume {run_id}` asks the gateway about them and goes on" in restored.out
        assert runs.get_run(run_id).state == runs.PAUSED
        resumed = desk.sms("resume", run_id)
        assert (resumed.code, resumed.err) == (0, "")
        assert "Accounted for 30 of 30 rows" in resumed.out
        # Every one was found at the gateway.
        assert "in_doubt" not in outcomes(run_id)
    assert desk.messages(people) == [1] * 30


def test_a_run_that_was_stopped_first_is_simply_resumed(
    desk: Desk, archive: Path, elsewhere: inside
) -> None:
    people = desk.people(30)
    run_id = approved(desk, people)
    with ThreadPoolExecutor(1) as beside:
        sending = beside.submit(resume_campaign, run_id)
        wait_until(lambda: sum(desk.messages(people)) > 3, 60)
        desk.sms("pause", run_id)
        with pytest.raises(RunStoppedError):
            sending.result(60)
    assert desk.sms("backup", archive).code == 0
    assert sum(desk.messages(people)) < 30
    save_gateway("slow")
    with elsewhere:
        restored = desk.sms("restore", archive, "--nothing-sent-since")
        assert (restored.code, restored.err, "doubt" in restored.out) == (0, "", False)
        assert desk.sms("resume", run_id).code == 0
        assert "in_doubt" not in outcomes(run_id)
    assert desk.messages(people) == [1] * 30


def test_a_restored_run_that_waited_is_not_sent_without_its_approval(
    desk: Desk, archive: Path, elsewhere: inside
) -> None:
    people = desk.people(2)
    run_id = desk.sms("send", desk.campaign(desk.audience(people), approval=True)).run_id
    desk.sms("backup", archive)
    assert desk.sms("resume", run_id, "--approve").code == 0
    with elsewhere:
        desk.sms("restore", archive)
        assert desk.sms("resume", run_id).code == 3
        assert desk.sms("resume", run_id, "--approve").code == 0
        assert "in_doubt" not in outcomes(run_id)
    assert desk.messages(people) == [1, 1]


@pytest.mark.heavy
def test_gateways_come_along_with_their_secrets_and_prefects_runs_do_not(
    desk: Desk, archive: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    desk.sms("send", desk.campaign(desk.audience(desk.people(1))))
    said = desk.sms("backup", archive)
    assert "gateways and sources in it: " in said.out
    assert "sandbox" in said.out
    home, port = tmp_path / "new", free_port()
    place = {
        "SMS_HOME": str(home),
        "SMS_PREFECT_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(home / "prefect"),
    }
    assert desk.process("restore", archive, **place).code == 0
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        for table in ("flow_run", "task_run", "deployment", "deployment_schedule", "artifact"):
            assert database.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
    checked = desk.process("gateway", "check", "sandbox", "--sender", "+15005550006", **place)
    assert (checked.out, checked.err) == ("gateway sandbox is ready\n", "")


def test_a_second_restore_is_refused_in_one_line(
    desk: Desk, archive: Path, elsewhere: inside
) -> None:
    desk.sms("backup", archive)
    with elsewhere:
        desk.sms("restore", archive)
        said = desk.sms("restore", archive)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "restore into an empty SMS_HOME" in said.err


def test_a_prefect_that_is_elsewhere_keeps_its_gateways(
    desk: Desk, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.com/api")
    assert "gateways are not in it" in desk.sms("backup", archive).out
    with zipfile.ZipFile(archive) as held:
        assert "home/prefect/prefect.db" not in held.namelist()


@pytest.mark.slow
def test_neither_imports_prefect_or_starts_a_process(
    desk: Desk, archive: Path, tmp_path: Path
) -> None:
    lines = ["backup --help", "restore --help", f"backup {archive}", f"restore {archive}"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PREFECT],
        cwd=ROOT,
        env=os.environ,
        input="\n".join(lines),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    # Into the very place it came from: refused.
    assert "exists: restore into an empty SMS_HOME" in done.stderr
