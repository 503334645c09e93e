"""Standing runs: each request is queued once, late ones are never sent, and every run adds up."""

from datetime import date, timedelta

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from data import batches, ledger, results, runs, standing_runs
from data.database import now, reading, writing
from data.identity import number_keys
from data.standing_runs import ANSWERS, CONFIRMATIONS, ToSend
from data.tables import CampaignRun, Message
from tests import plans

pytestmark = pytest.mark.usefixtures("database")
DAY = date(2026, 11, 24)
NEXT_DAY = date(2026, 11, 25)
PHONE = "+12025550101"


def to_send(
    key: str, recipient: str = PHONE, *, minutes: float = 5, gateway: str = "main"
) -> ToSend:
    return ToSend(
        request_key=key,
        recipient=recipient,
        number_key=number_keys([recipient])[0],
        country="US",
        text="You are opted out",
        encoding="GSM-7",
        segments=1,
        sender="+15005550006",
        gateway=gateway,
        closes_at=now() + timedelta(minutes=minutes),
    )


def add(*messages: ToSend, purpose: str = CONFIRMATIONS, day: date = DAY) -> dict[str, str]:
    with writing() as connection:
        return standing_runs.add(connection, purpose, day, messages)


def run_of_day(key: str = "confirmations-2026-11-24") -> CampaignRun:
    return runs.find_run(key)


def claim(run: CampaignRun) -> list[ledger.Claimed]:
    held = batches.take(run.id)
    if held is None:
        return []
    return ledger.claim(
        run, held.batch, gateway="main", sender="me", lease=timedelta(seconds=60), limit=10
    )


def messages() -> list[tuple[str, str, str]]:
    with reading() as connection:
        statement = select(col(Message.request_key), col(Message.state), col(Message.reason))
        return [tuple(row) for row in connection.execute(statement.order_by(col(Message.row)))]


def test_a_purpose_and_day_have_one_run_that_sends() -> None:
    add(to_send("a"))
    add(to_send("b", "+12025550102"))
    run = run_of_day()
    assert (run.state, run.purpose, run.records_read) == (runs.SENDING, CONFIRMATIONS, 2)
    assert standing_runs.is_standing(run)
    assert len(runs.list_runs()) == 1
    add(to_send("c"), day=NEXT_DAY)
    add(to_send("c"), purpose=ANSWERS)
    assert len(runs.list_runs()) == 3


def test_nothing_to_add_opens_no_run() -> None:
    assert add() == {}
    assert runs.list_runs() == []


def test_a_request_is_queued_once_also_on_the_next_day() -> None:
    assert list(add(to_send("a"), to_send("a"), to_send("b"))) == ["a", "b"]
    assert add(to_send("a")) == {}
    assert add(to_send("b"), day=NEXT_DAY) == {}
    assert messages() == [("a", "queued", ""), ("b", "queued", "")]


def test_what_is_rolled_back_was_never_asked_for() -> None:
    def fail() -> None:
        with writing() as connection:
            standing_runs.add(connection, ANSWERS, DAY, [to_send("a")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(add(to_send("a"), purpose=ANSWERS)) == ["a"]


@pytest.mark.parametrize("ended", ["campaign", runs.CANCELLED, runs.RECONCILING])
def test_a_key_that_is_taken_or_whose_run_is_over_does_not_stop_answers(ended: str) -> None:
    if ended == "campaign":
        plans.open_run("confirmations-2026-11-24")
    else:
        add(to_send("a"))
        runs.move(run_of_day().id, ended)
    assert list(add(to_send("b"))) == ["b"]
    other = run_of_day("confirmations-2026-11-24-2")
    assert standing_runs.is_standing(other)
    assert [waiting.id for waiting in standing_runs.open_runs()] == [other.id]


def test_a_paused_run_keeps_its_answers() -> None:
    add(to_send("a"))
    runs.move(run_of_day().id, runs.PAUSED)
    add(to_send("b", "+12025550102"))
    assert run_of_day().records_read == 2


def test_it_is_claimed_like_every_message() -> None:
    add(to_send("a"))
    claimed = claim(run_of_day())
    assert [message.recipient for message in claimed] == [PHONE]
    assert claim(run_of_day()) == []


@pytest.mark.parametrize(
    ("purpose", "reason"),
    [(CONFIRMATIONS, "confirmation_too_late"), (ANSWERS, "deadline")],
)
def test_what_is_late_is_never_sent(purpose: str, reason: str) -> None:
    add(to_send("late", minutes=0), to_send("in time", "+12025550102"), purpose=purpose)
    run = runs.list_runs()[0]
    found = standing_runs.open_runs()[0]
    assert (found.queued, found.late) == (2, 1)
    assert [message.recipient for message in claim(run)] == ["+12025550102"]
    assert standing_runs.end_late(run.id) == 1
    assert messages()[0] == ("late", "blocked", reason)


def test_gateways_have_batches_of_their_own_and_the_lane_of_their_sender() -> None:
    add(to_send("a"), to_send("b", gateway="other"))
    run = run_of_day()
    with reading() as connection:
        assert len(set(connection.execute(select(col(Message.batch))).scalars())) == 2
    assert run.route["senders"] == {"main": "+15005550006", "other": "+15005550006"}


def test_a_batch_that_is_put_off_waits_and_others_do_not() -> None:
    add(to_send("a"), to_send("b", gateway="other"))
    run = run_of_day()
    first = batches.take(run.id)
    assert first is not None
    standing_runs.put_off(run.id, first.batch, 30)
    batches.give_back(first)
    second = batches.take(run.id)
    assert second is not None
    assert second.batch != first.batch
    assert batches.take(run.id) is None


def test_a_day_that_is_over_is_closed_when_all_is_sent() -> None:
    add(to_send("a"))
    run = run_of_day()
    assert not standing_runs.close(run.id)
    with writing() as connection:
        connection.execute(update(Message).values(state="accepted", submitted_at=now()))
    assert standing_runs.close(run.id)
    assert run_of_day().state == runs.RECONCILING
    assert standing_runs.open_runs() == []


def test_every_answer_has_one_outcome_and_they_add_up() -> None:
    add(to_send("a"), to_send("late", "+12025550102", minutes=0), to_send("c", "+12025550103"))
    run = run_of_day()
    standing_runs.end_late(run.id)
    with writing() as connection:
        connection.execute(
            update(Message)
            .where(col(Message.request_key) == "a")
            .values(state="accepted", submitted_at=now(), status="delivered", status_rank=5)
        )
        results.rebuild(connection, run.id)
    with reading() as connection:
        found = results.check(connection, run.id)
        assert found.outcomes == {"blocked": 1, "delivered": 1, "pending": 1}
        assert results.funnel(connection, run.id)["submitted"] == 1
