"""A marketer's way through the Prefect UI: fill in the form, read the preview, approve, read on."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

pytestmark = pytest.mark.slow

MESSAGE = (
    "Hi {{ first_name | default('there') }}, our spring sale is on: 20% off everything until"
    " Sunday at example.com/spring. Reply STOP to opt out"
)
ROWS = 3000  # of data/samples/audience.csv
AT_ONCE, ASKED, DROPPED = "Spring sale", "Summer sale", "Autumn sale"


def choose(page: Any, field: str, option: str) -> None:
    """Pick from a dropdown of the form, which is a button with the label's id."""
    from playwright.sync_api import TimeoutError as TooLateError

    choice = page.get_by_role("option", name=option, exact=True)
    for _ in range(10):
        # While the form is still loading, a dropdown that was opened closes again.
        button(page, field).click()
        with suppress(TooLateError):
            choice.click(timeout=2000)
            return
    pytest.fail(f"{field} offers no {option}")


def button(page: Any, field: str) -> Any:
    label = page.locator("label", has_text=re.compile(rf"^{field}( \(Optional\))?$"))
    return page.locator(f'[id="{label.first.get_attribute("for")}"]')


def open_form(page: Any, installation: Any) -> None:
    deployment = installation.deployment("send-campaign")
    page.goto(f"{installation.url}/v2/deployments/deployment/{deployment}/run")


def fill_in(page: Any, name: str, *, path: str = "data/samples/audience.csv") -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Path (Optional)", exact=True).fill(path)
    page.get_by_label("Message", exact=True).fill(MESSAGE)
    choose(page, "Gateway", "sandbox")


def submit(page: Any) -> str:
    """Submit the form and return what the UI says to it."""
    toast = page.locator("[data-sonner-toast]")
    for _ in range(5):
        page.get_by_role("button", name="Submit", exact=True).click()
        said = str(toast.first.inner_text())
        # The server's database was busy and nothing was started; the UI does not try again.
        if "Unknown error" not in said:
            return said
        toast.first.wait_for(state="detached")
    pytest.fail(said)


def open_run(page: Any, installation: Any, name: str, tab: str = "") -> None:
    run = installation.flow_run(name)["id"]
    page.goto(f"{installation.url}/v2/runs/flow-run/{run}?tab={tab}")


def pick(page: Any, action: str) -> None:
    """Choose from the menu of a run."""
    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name=action, exact=True).click()


def open_artifact(page: Any, installation: Any, kind: str, name: str) -> str:
    """Open an artifact from the run's page, by way of its versions, and return its text."""
    open_run(page, installation, name, "Artifacts")
    page.get_by_role("link", name=re.compile(f"{kind}-")).first.click()
    page.locator('a[href*="/artifacts/artifact/"]').first.click()
    title = f"{kind.capitalize()}: {name}"
    page.get_by_role("heading", name=title).wait_for()
    # The page puts the document into its place once more after it has shown it.
    page.wait_for_function(
        "title => document.querySelector('main').innerText.includes(title)", arg=title
    )
    return str(page.locator("main").inner_text())


def until_left(installation: Any, name: str, state: str, act: Callable[[], None]) -> None:
    """Do what ends a run's state, again where Prefect's busy database turned it away.

    Its Python client would try again; the UI shows an error and leaves that to the person.
    """
    for _ in range(5):
        act()
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            if installation.flow_run(name)["state"]["name"] != state:
                return
            time.sleep(0.2)
    pytest.fail(f"{name} is still {state}")


@pytest.fixture(scope="module")
def started(page: Any, installation: Any, picture: Callable[[str], None]) -> None:
    """Three campaigns, started from the form one after the other; they prepare side by side."""
    for name in (AT_ONCE, ASKED, DROPPED):
        open_form(page, installation)
        fill_in(page, name)
        if name == AT_ONCE:
            button(page, "Approval").click()
            picture("form")
        assert "scheduled to start now" in submit(page)


def test_a_form_without_its_audience_is_refused_at_the_field(page: Any, installation: Any) -> None:
    open_form(page, installation)
    fill_in(page, "Nobody", path="")
    assert "campaign.audience.path" in submit(page)
    assert installation.flow_run("Nobody") == {}


def test_the_report_shows_the_numbers_of_the_results_table(
    started: None, page: Any, installation: Any, picture: Callable[[str], None]
) -> None:
    installation.wait_for_state(AT_ONCE, "Completed")
    text = open_artifact(page, installation, "report", AT_ONCE)
    picture("report")
    table = page.locator("table").first.locator("tbody tr")
    shown = [row.locator("td").all_inner_texts()[:2] for row in table.all()]
    outcomes = installation.outcomes(AT_ONCE)
    assert {name: int(rows.replace(",", "")) for name, rows in shown} == outcomes
    assert sum(outcomes.values()) == ROWS
    assert f"Accounted for {ROWS:,} of {ROWS:,} rows" in text
    assert outcomes["delivered"] > 0


def test_an_approved_preview_is_sent(
    started: None, page: Any, installation: Any, picture: Callable[[str], None]
) -> None:
    installation.wait_for_state(ASKED, "Suspended")
    text = open_artifact(page, installation, "preview", ASKED)
    picture("preview")
    go_now = re.search(r"([\d,]+) messages go out now", text)
    assert go_now is not None
    assert "delivered" not in installation.outcomes(ASKED)

    def approve() -> None:
        open_run(page, installation, ASKED)
        pick(page, "Resume")
        dialog = page.get_by_role("dialog")
        dialog.get_by_text(f"{go_now[1]} messages go out now").wait_for()
        dialog.get_by_role("switch").click()
        dialog.get_by_label("Name (Optional)").fill("Ada")
        picture("approval")
        dialog.get_by_role("button", name="Resume", exact=True).click()

    until_left(installation, ASKED, "Suspended", approve)
    installation.wait_for_state(ASKED, "Completed")
    outcomes = installation.outcomes(ASKED)
    assert sum(outcomes.values()) == ROWS
    assert outcomes["delivered"] > 0
    assert installation.query("SELECT approved_by FROM campaign_run WHERE name = ?", ASKED) == [
        ("Ada",)
    ]


def test_cancelling_instead_of_approving_cancels_every_message(
    started: None, page: Any, installation: Any
) -> None:
    installation.wait_for_state(DROPPED, "Suspended")

    def cancel() -> None:
        open_run(page, installation, DROPPED)
        pick(page, "Cancel")
        page.get_by_role("alertdialog").get_by_role("button", name="Cancel Flow Run").click()

    until_left(installation, DROPPED, "Suspended", cancel)
    installation.wait_for_state(DROPPED, "Cancelled")
    reconcile = installation.deployment("reconcile-deliveries")

    def ended() -> bool:
        # One that is asked for while the scheduled one runs is dropped: its limit is one.
        run = installation.api(f"/deployments/{reconcile}/create_flow_run", {"name": "by hand"})
        installation.wait_for(lambda: _is_over(installation, run["id"]), "reconciliation ends")
        state = "SELECT state FROM campaign_run WHERE name = ?"
        return bool(installation.query(state, DROPPED) == [("cancelled",)])

    installation.wait_for(ended, "the run is cancelled in the ledger")
    outcomes = installation.outcomes(DROPPED)
    assert sum(outcomes.values()) == ROWS
    assert outcomes["cancelled"] > 0
    assert not {"pending", "deferred", "delivered"} & set(outcomes)


def _is_over(installation: Any, run: str) -> bool:
    state = installation.api(f"/flow_runs/{run}")["state"]["type"]
    return state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.mark.parametrize("name", ["reconcile-deliveries", "release-deferred"])
def test_the_server_has_runs_of_it_scheduled(name: str, installation: Any) -> None:
    asked = {
        "flow_runs": {
            "deployment_id": {"any_": [installation.deployment(name)]},
            "state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]}},
        }
    }
    installation.wait_for(lambda: installation.api("/flow_runs/count", asked), f"{name} is due")


def test_a_second_one_says_which_ports_are_taken(installation: Any) -> None:
    command = [sys.executable, "-m", "flows", "up"]
    done = subprocess.run(
        command, env=installation.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "SMS_SANDBOX_PORT" in done.stderr
    assert len(done.stderr.splitlines()) == 1
