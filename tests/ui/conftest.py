"""A whole installation, started by `sms up`, and a real browser that looks at it."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build-output" / "ui"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
INSTALL = "uv sync && apt-get install -y chromium"


@dataclass
class Installation:
    """What `sms up` started, and how to ask it."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    home: Path
    url: str
    ports: list[int]

    def api(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api{path}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def deployment(self, name: str) -> str:
        return str(self.api(f"/deployments/name/{name}/{name}")["id"])

    def flow_run(self, name: str) -> dict[str, Any]:
        found = self.api("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
        return found[0] if found else {}

    def wait_for(self, holds: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        ends = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < ends, f"not within {seconds} s: {what}"
            time.sleep(0.3)
        return found

    def wait_for_state(self, name: str, state: str) -> dict[str, Any]:
        """Wait until the flow run of this name is in a state; fail where it ends in another."""

        def reached() -> bool:
            run = self.flow_run(name)
            now = run.get("state") or {}
            over = now.get("type") in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            assert not over or now["name"] == state, f"{name} is {now['name']}: {now['message']}"
            return now.get("name") == state

        self.wait_for(reached, f"{name} is {state}")
        return self.flow_run(name)

    def query(self, statement: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(self.home / "sms.db")) as connection:
            return connection.execute(statement, values).fetchall()

    def outcomes(self, name: str) -> dict[str, int]:
        """The results table of the campaign of this name: rows by outcome."""
        return dict(
            self.query(
                "SELECT outcome, count(*) FROM result WHERE run_id ="
                " (SELECT id FROM campaign_run WHERE name = ?) GROUP BY outcome",
                name,
            )
        )


@pytest.fixture(scope="session")
def installation(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Installation]:
    """`sms up` in a folder of its own; at the end it must stop, and everything with it."""
    home = tmp_path_factory.mktemp("up") / "home"
    ports = [free_port() for _ in range(3)]
    names = ("SMS_PREFECT_PORT", "SMS_RECEIVER_PORT", "SMS_SANDBOX_PORT")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SMS_", "PREFECT_"))
    }
    environment = {
        **inherited,
        **{name: str(port) for name, port in zip(names, ports, strict=True)},
        "SMS_HOME": str(home),
        "SMS_REPORT_WAIT": "10",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "up"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C stops all" in line:
            break
    else:
        pytest.fail(f"`sms up` ended: {''.join(said)}")
    yield Installation(process, environment, home, f"http://127.0.0.1:{ports[0]}", ports)
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    assert not _left_over(home), "processes outlived `sms up`"


def _left_over(home: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SMS_HOME") == str(home):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page of a headless Chromium. Not longer than a module: Playwright keeps a loop running."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    if browser is None:
        # In CI nobody reads a list of skipped tests.
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"no Chromium or no playwright: {INSTALL}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS.split())
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(20_000)
        yield page
        chromium.close()


@pytest.fixture(scope="module")
def picture(page: Any) -> Callable[[str], None]:
    """A function that saves what the page shows, for people to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)

    def save(name: str) -> None:
        page.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    return save
