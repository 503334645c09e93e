"""One key, one run; and the states it may move through."""

import pytest

from data import runs
from tests import plans


def test_a_key_belongs_to_one_run(database: str) -> None:
    first = plans.open_run("spring")
    with pytest.raises(runs.RunError, match=rf"“spring” belongs to run {first.id}.*sms resume"):
        plans.open_run("spring")


def test_the_same_prefect_run_finds_its_run_again(database: str) -> None:
    first = plans.open_run("spring", state=runs.PREPARING, flow_run_id="f1")
    again = plans.open_run("spring", state=runs.PREPARING, flow_run_id="f1")
    assert again.id == first.id


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ([runs.SENDING, runs.RECONCILING, runs.FINISHED], runs.SENDING),
        ([runs.WAITING, runs.REJECTED], runs.SENDING),
        ([runs.SENDING, runs.CANCELLED], runs.SENDING),
        ([runs.FAILED], runs.SENDING),
    ],
)
def test_what_has_ended_is_not_sent(database: str, path: list[str], refused: str) -> None:
    run = plans.open_run(state=runs.PREPARING)
    for state in path:
        assert runs.move(run.id, state)
    with pytest.raises(runs.RunError, match=f"is {path[-1]}: it cannot become {refused}"):
        runs.move(run.id, refused)


def test_moving_to_the_state_it_has_changes_nothing(database: str) -> None:
    run = plans.open_run()
    assert runs.move(run.id, runs.PAUSED) is True
    assert runs.move(run.id, runs.PAUSED) is False


def test_a_run_is_found_by_id_and_by_key(database: str) -> None:
    run = plans.open_run("spring")
    assert runs.find_run("spring").id == runs.find_run(run.id).id == run.id


def test_a_run_that_is_not_there_is_said_so(database: str) -> None:
    with pytest.raises(runs.RunError, match="there is no run nothing"):
        runs.find_run("nothing")


@pytest.mark.parametrize("state", [runs.PREPARING, runs.PAUSED, runs.CANCELLED])
def test_only_what_waits_for_approval_can_be_approved(database: str, state: str) -> None:
    run = plans.open_run(state=runs.PREPARING)
    if state != runs.PREPARING:
        runs.move(run.id, runs.SENDING)
        runs.move(run.id, state)
    with pytest.raises(runs.RunError, match="nothing to approve"):
        runs.approve(run.id, by="ann", note="")


def test_a_failed_run_without_a_plan_is_taken_over_by_a_mended_campaign(database: str) -> None:
    first = plans.open_run("spring", state=runs.FAILED)
    mended = plans.open_run("spring", state=runs.PREPARING, gateway="other")
    assert (mended.id, mended.state, mended.gateway) == (first.id, runs.PREPARING, "other")
