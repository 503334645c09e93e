"""What people change while a campaign is being sent, and what happens when its process dies.

The calls are those that the Prefect UI makes for its buttons (Pause, Resume, Cancel) and its page
of concurrency limits. Counted is at the gateway.
"""

import csv
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import psutil
import pytest

from tests.plans import numbers

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

LIMIT = "sms sandbox +15005550006"
_numbers = iter(numbers(5_000)[2_000:])
_keys = count(1)


class Started:
    """A campaign that was started by a form, and what can be seen of it."""

    def __init__(self, installation: Any, people: int, rate: int) -> None:
        self.installation = installation
        self.name = f"Controlled {next(_keys)}"
        self.people = [next(_numbers) for _ in range(people)]
        set_limit(installation, rate)
        self.flow_run_id = self._start()

    def _start(self) -> str:
        folder = self.installation.home / "audiences"
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["phone"], *([number] for number in self.people)])
        blocks = self.installation.api("/block_documents/filter", {})
        gateway = next(block["id"] for block in blocks if block["name"] == "sandbox")
        campaign = {
            "name": self.name,
            "key": self.name,
            "purpose": "transactional",
            "audience": {"kind": "csv", "path": str(path), "default_country": "US"},
            "message": "Your order is ready",
            "gateway": {"$ref": {"block_document_id": gateway}},
            "approval": False,
        }
        deployment = self.installation.deployment("send-campaign")
        body = {"parameters": {"campaign": campaign}}
        made = self.installation.api(f"/deployments/{deployment}/create_flow_run", body)
        return str(made["id"])

    @property
    def run(self) -> tuple[str, str]:
        """Id and state of the run in the ledger; empty while there is none."""
        found = self.installation.query(
            "SELECT id, state FROM campaign_run WHERE key = ?", self.name
        )
        return found[0] if found else ("", "")

    def sent(self) -> int:
        """Messages that the gateway has."""
        return len(self._received())

    def twice(self) -> int:
        received = self._received()
        return len(received) - len(set(received))

    def _received(self) -> list[str]:
        mine = set(self.people)
        with (self.installation.home / "sandbox.jsonl").open() as journal:
            lines = [json.loads(line) for line in journal]
        return [line["to"] for line in lines if "body" in line and line["to"] in mine]

    def wait_until(self, holds: Any, what: str, seconds: float = 120) -> None:
        self.installation.wait_for(holds, f"{self.name}: {what}", seconds)

    def sending(self) -> "Started":
        """Wait until some have been sent and most have not."""
        self.wait_until(lambda: self.sent() > 10, "it sends")
        assert self.sent() < len(self.people) / 2
        return self

    def prefect_state(self) -> str:
        return str(self.installation.api(f"/flow_runs/{self.flow_run_id}")["state"]["name"])

    def set_state(self, **state: object) -> None:
        path = f"/flow_runs/{self.flow_run_id}/set_state"
        self.installation.api(path, {"state": state, "force": True})

    def ends_with_everybody_served_once(self) -> None:
        self.wait_until(lambda: self.sent() == len(self.people), "everybody has got it")
        self.wait_until(lambda: self.run[1] == "finished", "it is finished")
        assert self.twice() == 0
        outcomes = self.installation.outcomes(self.name)
        assert sum(outcomes.values()) == len(self.people)
        assert set(outcomes) <= {"delivered", "undelivered"}


def set_limit(installation: Any, rate: int) -> None:
    """Set the rate as the page of concurrency limits does; makes it where nothing was sent yet."""
    name = urllib.request.quote(LIMIT)  # type: ignore[attr-defined]
    url = f"{installation.url}/api/v2/concurrency_limits/"
    headers = {"content-type": "application/json"}
    for method, where in (("PATCH", name), ("POST", "")):
        body = json.dumps({"limit": rate} | ({} if where else {"name": LIMIT})).encode()
        request = urllib.request.Request(url + where, body, headers, method=method)
        # There is none before something was sent.
        with suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=10).close()
            return


def pause_in_the_ui(started: Started) -> None:
    ends = (datetime.now(UTC) + timedelta(seconds=300)).isoformat()
    details = {"pause_timeout": ends, "pause_reschedule": True}
    started.set_state(type="PAUSED", name="Suspended", state_details=details)


def sms(installation: Any, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        env=installation.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stands_still(started: Started, allowed: int) -> None:
    """At most so many more are sent, and then none."""
    before = started.sent()
    started.wait_until(lambda: started.run[1] in ("paused", "cancelled"), "it stops", 60)
    time.sleep(2)
    after = started.sent()
    assert after - before <= allowed
    time.sleep(2)
    assert started.sent() == after


def test_the_rate_is_the_concurrency_limit_and_can_be_changed_while_it_sends(
    installation: Any,
) -> None:
    started = Started(installation, 600, rate=10).sending()
    set_limit(installation, 300)
    started.wait_until(lambda: started.sent() == 600, "the rest goes out faster", 45)
    started.ends_with_everybody_served_once()


def test_a_limit_of_0_holds_the_lane_and_says_so(installation: Any) -> None:
    started = Started(installation, 100, rate=20).sending()
    set_limit(installation, 0)
    started.wait_until(
        lambda: f"{started.run[0]} STUCK" in sms(installation, "runs"), "it is named", 60
    )
    held = started.sent()
    time.sleep(2)
    assert started.sent() == held
    set_limit(installation, 300)
    started.ends_with_everybody_served_once()


def test_pausing_in_the_ui_stops_it_within_a_window_and_resuming_there_goes_on(
    installation: Any,
) -> None:
    started = Started(installation, 150, rate=10).sending()
    pause_in_the_ui(started)
    # One window is a second's messages; the look at Prefect is a second, and the window after it.
    stands_still(started, allowed=35)
    assert started.prefect_state() == "Suspended"
    installation.api(f"/flow_runs/{started.flow_run_id}/resume", {})
    set_limit(installation, 300)
    started.ends_with_everybody_served_once()


def test_pausing_by_command_suspends_the_prefect_run_so_that_the_ui_can_resume_it(
    installation: Any,
) -> None:
    started = Started(installation, 150, rate=10).sending()
    sms(installation, "pause", started.run[0])
    stands_still(started, allowed=25)
    started.wait_until(lambda: started.prefect_state() == "Suspended", "the UI shows it")
    installation.api(f"/flow_runs/{started.flow_run_id}/resume", {})
    set_limit(installation, 300)
    started.ends_with_everybody_served_once()


def test_cancelling_in_the_ui_stops_it_and_every_row_is_accounted_for(installation: Any) -> None:
    started = Started(installation, 150, rate=10).sending()
    started.set_state(type="CANCELLING", name="Cancelling")
    stands_still(started, allowed=35)
    started.wait_until(lambda: started.prefect_state() == "Cancelled", "the UI shows it", 60)
    assert started.run[1] == "cancelled"
    outcomes = installation.outcomes(started.name)
    assert sum(outcomes.values()) == 150
    assert outcomes["cancelled"] == 150 - started.sent()
    assert "in_doubt" not in outcomes
    set_limit(installation, 300)


def test_a_run_whose_process_was_killed_is_gone_on_with_by_itself(installation: Any) -> None:
    started = Started(installation, 150, rate=10).sending()
    for process in processes_of(started):
        process.kill()
    set_limit(installation, 300)
    everybody = lambda: sum(installation.outcomes(started.name).values()) == 150  # noqa: E731
    started.wait_until(everybody, "it goes on, and every row has its outcome", 150)
    assert started.twice() == 0
    # What was in flight when it was killed is in doubt or settled, and never sent again.
    assert 150 - started.sent() <= 10


def processes_of(started: Started) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") == started.flow_run_id:
                found.append(process)
        except psutil.Error:
            continue
    assert found
    return found
