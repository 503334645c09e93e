"""A campaign that waits for a person: shown, then approved or rejected from the command line."""

from pathlib import Path

import pytest

from data import runs
from tests.flows.campaigns import Desk, run_of


@pytest.fixture
def people(desk: Desk) -> list[str]:
    return desk.people(3)


@pytest.fixture
def campaign(desk: Desk, people: list[str]) -> Path:
    return desk.campaign(desk.audience([*people, people[0], "123"]), approval=True)


def test_a_campaign_waits_with_exit_code_3_and_nothing_is_sent(
    desk: Desk, campaign: Path, people: list[str]
) -> None:
    said = desk.sms("send", campaign)
    assert (said.code, said.err) == (3, "")
    assert said.out.splitlines()[-1] == f"run {run_of(campaign).id}"
    assert not any(phone.removeprefix("+") in said.out for phone in people)
    assert run_of(campaign).state == runs.WAITING
    again = desk.sms("resume", said.run_id)
    assert (again.code, again.err, again.run_id) == (3, "", said.run_id)
    assert desk.messages(people) == [0, 0, 0]


def test_a_rejected_campaign_sends_nothing_and_accounts_for_every_row(
    desk: Desk, campaign: Path, people: list[str]
) -> None:
    run_id = desk.sms("send", campaign).run_id
    said = desk.sms("resume", run_id, "--reject", "--note", "wrong week")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-2:] == ["Accounted for 5 of 5 rows", f"run {run_id}"]
    run = runs.get_run(run_id)
    assert (run.state, run.note) == (runs.REJECTED, "wrong week")
    assert run.approved_by
    for arguments in ([], ["--approve"]):
        over = desk.sms("resume", run_id, *arguments)
        assert (over.code, over.err.count("\n")) == (1, 1)
        assert "rejected" in over.err
    assert desk.messages(people) == [0, 0, 0]


def test_an_approved_campaign_is_sent_once_as_it_was_previewed(
    desk: Desk, campaign: Path, people: list[str]
) -> None:
    run_id = desk.sms("send", campaign).run_id
    audience = desk.folder / "audience.csv"
    audience.unlink()
    said = desk.process("resume", run_id, "--approve", "--note", "as agreed")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-2:] == ["Accounted for 5 of 5 rows", f"run {run_id}"]
    run = runs.get_run(run_id)
    assert (run.state, run.approved_at is not None) == (runs.FINISHED, True)
    assert desk.messages(people) == [1, 1, 1]
    again = desk.sms("resume", run_id, "--approve")
    assert again.code == 1
    assert again.err.count("\n") == 1
    assert desk.messages(people) == [1, 1, 1]


def test_approve_on_the_command_line_does_not_wait(
    desk: Desk, campaign: Path, people: list[str]
) -> None:
    assert desk.sms("send", campaign, "--approve").code == 0
    assert desk.messages(people) == [1, 1, 1]


def test_a_waiting_campaign_can_be_cancelled(desk: Desk, campaign: Path, people: list[str]) -> None:
    run_id = desk.sms("send", campaign).run_id
    assert desk.sms("cancel", run_id).code == 0
    said = desk.sms("resume", run_id, "--approve")
    assert said.code == 1
    assert "cancelled" in said.err
    assert desk.messages(people) == [0, 0, 0]
