"""Runs that were interrupted: prepared anew or gone on with, and never sent twice."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from adapters.gateways.base import GatewayError
from data import plan, runs
from data.settings import settings
from data.tables import Message
from flows.campaign import read_file
from flows.reconcile_deliveries import reconcile_deliveries
from flows.resume_campaign import resume_campaign
from flows.send_campaign import send_campaign
from flows.stages import RunStoppedError
from tests.flows.campaigns import Desk, outcomes, run_of
from tests.flows.conftest import save_gateway
from tests.sandboxes import ROOT, wait_until


def state_of(campaign: Path) -> str:
    """The state of the run that a campaign file opened; empty while there is none."""
    try:
        return run_of(campaign).state
    except runs.RunError:
        return ""


def waiting(desk: Desk, people: list[str], **fields: object) -> str:
    """Start a campaign that waits for its approval; return its run."""
    return desk.sms("send", desk.campaign(desk.audience(people), approval=True, **fields)).run_id


def test_a_run_killed_while_it_is_prepared_is_prepared_anew_and_sent_once(desk: Desk) -> None:
    people = desk.people(5)
    campaign = desk.campaign(desk.audience(people))
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "send", str(campaign)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: state_of(campaign) == runs.PREPARING, 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run = run_of(campaign)
    assert (run.state, run.planned) == (runs.PREPARING, False)
    # As if it had been killed later, with a partition already in the plan.
    plan.add_to_plan(
        pd.DataFrame(columns=list(Message.model_fields)),
        pd.DataFrame(
            [{"run_id": run.id, "row": 1, "recipient": "", "outcome": "invalid", "reason": "x"}]
        ).assign(column="", rule="", detail=""),
    )
    assert "belongs to run" in desk.sms("send", campaign).err
    said = desk.sms("resume", run.id)
    assert (said.code, said.err) == (0, "")
    assert desk.messages(people) == [1] * 5
    assert outcomes(run.id) == {"delivered": 5}


def test_an_account_that_fails_while_sending_pauses_the_run_until_it_is_mended(desk: Desk) -> None:
    people = desk.people(4)
    save_gateway("mended")
    run_id = waiting(desk, people, gateway="mended")
    save_gateway("mended", token="expired-meanwhile")
    said = desk.sms("resume", run_id, "--approve")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert f"sms resume {run_id}" in said.err
    assert "expired-meanwhile" not in said.err
    assert runs.get_run(run_id).state == runs.PAUSED
    assert desk.messages(people) == [0] * 4
    save_gateway("mended")
    assert desk.sms("resume", run_id).code == 0
    assert desk.messages(people) == [1] * 4


def test_pause_stops_after_the_window_and_resume_sends_the_rest_once(desk: Desk) -> None:
    people = desk.people(30)
    save_gateway("slow", rate=10)
    run_id = waiting(desk, people, gateway="slow")
    runs.approve(run_id, by="me", note="")
    with ThreadPoolExecutor(1) as beside:
        sending = beside.submit(resume_campaign, run_id)
        wait_until(lambda: sum(desk.messages(people)) > 0, 60)
        assert desk.sms("pause", run_id).code == 0
        with pytest.raises(RunStoppedError, match="paused by hand"):
            sending.result(60)
    assert 0 < sum(desk.messages(people)) < 30
    save_gateway("slow")
    assert desk.sms("resume", run_id).code == 0
    assert desk.messages(people) == [1] * 30


@pytest.mark.parametrize("state", ["Cancelled", "Failed"])
def test_a_waiting_run_ends_with_its_prefect_run(desk: Desk, state: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled, Failed

    people = desk.people(2)
    run_id = waiting(desk, people)
    ended = {"Cancelled": Cancelled(), "Failed": Failed(message="timed out")}[state]
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(runs.get_run(run_id).flow_run_id, ended, force=True)
    reconcile_deliveries()
    run = runs.get_run(run_id)
    assert (run.state, run.note) == (runs.CANCELLED, f"its Prefect run is {state.lower()}")
    assert desk.sms("resume", run_id, "--approve").code == 1
    assert desk.messages(people) == [0, 0]


def test_a_run_that_waits_for_resume_is_not_abandoned(desk: Desk) -> None:
    run_id = waiting(desk, desk.people(1))
    reconcile_deliveries()
    assert runs.get_run(run_id).state == runs.WAITING


def test_the_flow_returns_ids_and_counts_and_does_nothing_more_when_it_is_over(
    desk: Desk,
) -> None:
    people = desk.people(2)
    run_id = waiting(desk, people)
    runs.approve(run_id, by="me", note="")
    for _ in range(2):
        assert resume_campaign(run_id) == {
            "run": run_id,
            "state": runs.FINISHED,
            "outcomes": {"delivered": 2},
        }
    assert desk.messages(people) == [1, 1]


def test_a_mended_run_waits_for_approval_whatever_became_of_its_first_prefect_run(
    desk: Desk,
) -> None:
    people = desk.people(2)
    save_gateway("late", token="not-yet-known")
    campaign = desk.campaign(desk.audience(people), gateway="late", approval=True)
    assert desk.sms("send", campaign).code == 1
    save_gateway("late")
    assert desk.sms("resume", run_of(campaign).id).code == 3
    reconcile_deliveries()
    assert state_of(campaign) == runs.WAITING
    assert desk.messages(people) == [0, 0]


def test_a_retry_in_prefect_prepares_a_failed_run_anew_and_sends_it_once(desk: Desk) -> None:
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import AwaitingRetry

    people = desk.people(2)
    # Not a wrong token: the receiver would go on checking reports by it for up to half a minute.
    save_gateway("retried", address="http://127.0.0.1:9")
    path = desk.campaign(desk.audience(people), gateway="retried")
    parameters = {"campaign": read_file(path)}
    settings().audience_folders = [desk.folder]
    with get_client(sync_client=True) as client:
        started = client.create_flow_run(send_campaign, parameters=parameters)
        with pytest.raises(GatewayError):
            run_flow(send_campaign, flow_run=started, parameters=parameters)
        save_gateway("retried")
        client.set_flow_run_state(started.id, AwaitingRetry(), force=True)
        again = client.read_flow_run(started.id)
        summary = run_flow(send_campaign, flow_run=again, parameters=parameters)
    assert summary["outcomes"] == {"delivered": 2}
    assert desk.messages(people) == [1, 1]
