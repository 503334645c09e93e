"""Who works on a batch: one sender at a time, and what a lost one held comes back."""

from datetime import timedelta

import pytest

from data import batches, runs
from data.database import now, writing
from data.tables import BatchHold, CampaignRun
from tests import plans


@pytest.fixture
def run(database: str) -> CampaignRun:
    """A run of three batches of two messages."""
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(6), batch=[0, 0, 1, 1, 2, 2])
    return run


def taken(run: CampaignRun) -> list[int]:
    """Take until there is none."""
    found = []
    while held := batches.take(run.id):
        found.append(held.batch)
    return found


def test_every_batch_is_taken_once(run: CampaignRun) -> None:
    assert taken(run) == [0, 1, 2]


def test_a_batch_that_is_given_back_can_be_taken_again(run: CampaignRun) -> None:
    first = batches.take(run.id)
    assert first is not None
    batches.give_back(first)
    assert taken(run) == [0, 1, 2]


def test_a_batch_comes_back_when_its_hold_runs_out(run: CampaignRun) -> None:
    assert taken(run) == [0, 1, 2]
    change(owner="another-host/|1|1.00|token", held_until=now() - timedelta(seconds=1))
    assert taken(run) == [0, 1, 2]


def test_a_batch_of_another_host_is_left_alone_until_then(run: CampaignRun) -> None:
    assert taken(run) == [0, 1, 2]
    change(owner="another-host/|1|1.00|token")
    assert taken(run) == []


def test_a_batch_of_a_process_that_is_known_to_be_dead_comes_back_at_once(
    run: CampaignRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken(run) == [0, 1, 2]
    monkeypatch.setattr(batches, "is_dead", lambda _: True)
    assert batches.take(run.id) is not None


def test_a_batch_whose_messages_wait_for_their_retry_is_not_taken(run: CampaignRun) -> None:
    for message in plans.messages(run).values():
        if message.batch == 1:
            plans.change(message.id, retry_at=now() + timedelta(seconds=60))
    assert taken(run) == [0, 2]


def test_a_sender_whose_batch_was_taken_over_learns_of_it(run: CampaignRun) -> None:
    held = batches.take(run.id)
    assert held is not None
    with writing() as connection:
        assert batches.renew(connection, held)
    change(owner="another-host/|1|1.00|token")
    with writing() as connection:
        assert not batches.renew(connection, held)


def test_batches_of_other_runs_do_not_count(run: CampaignRun) -> None:
    other = plans.open_run("other", state=runs.SENDING)
    assert batches.take(other.id) is None


def change(**columns: object) -> None:
    with writing() as connection:
        connection.execute(BatchHold.__table__.update().values(**columns))
