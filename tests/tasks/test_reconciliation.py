"""Reconciliation, from the inbox to the end of a run."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from adapters.gateways.base import Capabilities, GatewayError, Report, Status
from data import deliveries, results
from data.database import reading, writing
from data.privacy import ProgramError
from data.tables import CampaignRun, ConsentEvent, DeliveryEvent, Exclusion, Message, Result
from tasks import reconciliation
from tasks.reconciliation import Reconciled, reconcile

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MINUTES = timedelta(minutes=1)
DAYS = timedelta(days=1)


class PolledGateway:
    """A gateway that answers polls from what the test gives it."""

    capabilities = Capabilities(polls=True)

    def __init__(self, *answers: Report, error: Exception | None = None) -> None:
        self.answers, self.error = answers, error
        self.asked: list[list[str]] = []

    async def __aenter__(self) -> "PolledGateway":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        self.asked.append(list(gateway_message_ids))
        if self.error:
            raise self.error
        return list(self.answers)


def run(id: str = "run", **values: Any) -> None:
    made = CampaignRun(
        **{
            "id": id,
            "key": id,
            "name": "Run",
            "purpose": "marketing",
            "state": "reconciling",
            "parameters": {},
            "gateway": "main",
            "sender": "x",
            "planned": True,
            "records_read": 1,
            "created_at": NOW - 30 * MINUTES,
        }
        | values
    )
    with writing() as connection:
        connection.execute(insert(CampaignRun), [made.model_dump()])


def message(id: str = "m1", **values: Any) -> None:
    number = f"+1415555{int(id[1:]):04d}"
    row = {
        "id": id,
        "run_id": "run",
        "kind": "campaign",
        "request_key": number,
        "row": int(id[1:]),
        "batch": 0,
        "recipient": number,
        "number_key": id,
        "zones": "",
        "text": "Hello",
        "encoding": "GSM-7",
        "segments": 1,
        "sender": "+15005550006",
        "gateway": "main",
        "state": "accepted",
        "reason": "",
        "rule": "",
        "attempt": 1,
        "status_rank": 0,
        "conflict": False,
        "submitted_at": NOW - 10 * MINUTES,
        "gateway_message_id": f"SM{id}",
    } | values
    with writing() as connection:
        connection.execute(insert(Message), [row])


def report(reference: str = "m1", **values: Any) -> None:
    event = {
        "gateway": "main",
        "source": "callback",
        "reference": reference,
        "status": "delivered",
        "received_at": NOW - MINUTES,
    } | values
    with writing() as connection:
        deliveries.append(connection, [event])


def settle(gateway: Any = None, **arguments: Any) -> Reconciled:
    arguments.setdefault("now", NOW)
    return reconcile(lambda _: gateway or PolledGateway(), **arguments)


def rows(table: Any) -> list[Any]:
    with reading() as connection:
        return list(connection.execute(select(table.__table__)))


def outcomes() -> dict[int, str]:
    return {result.row: result.outcome for result in rows(Result)}


def test_a_report_goes_all_the_way_to_a_finished_run(database: str) -> None:
    run()
    message()
    report()
    done = settle()
    assert (done.matched, done.waiting, done.finished, done.problems) == (1, 0, ["run"], [])
    assert outcomes() == {1: "delivered"}
    assert [(found.state, found.finished_at) for found in rows(CampaignRun)] == [("finished", NOW)]


def test_doing_it_twice_changes_nothing(database: str) -> None:
    run()
    message()
    report()
    settle()
    before = [rows(table) for table in (Message, Result, CampaignRun, DeliveryEvent)]
    assert settle() == Reconciled()
    assert [rows(table) for table in (Message, Result, CampaignRun, DeliveryEvent)] == before


@pytest.mark.parametrize("unmatched", [1, 3])
def test_reports_wait_for_their_message(database: str, unmatched: int) -> None:
    for number in range(unmatched):
        report(f"nobody{number}")
    assert settle().waiting == unmatched


def test_many_pages_are_settled_in_one_call(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "_CHUNK", 2)
    for number in range(1, 8):
        message(f"m{number}")
        report(f"nobody{number}")
        report(f"m{number}")
    assert (settle().matched, settle().waiting) == (7, 7)


def test_an_opt_out_in_a_report_reaches_the_consent_ledger_once(database: str) -> None:
    run()
    message()
    for _ in range(2):
        report(status="undelivered", error_class="optout", error_code="21610")
    assert settle().opt_outs == 1
    report(status="undelivered", error_class="optout", error_code="21610")
    assert settle().opt_outs == 0
    (event,) = rows(ConsentEvent)
    assert (event.type, event.recipient, event.scope) == ("opt_out", "+14155550001", "*")
    assert event.evidence == {"reason": "gateway_21610"}


def test_a_consent_ledger_that_fails_leaves_the_report_open(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message()
    report(status="undelivered", error_class="optout")

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(reconciliation.consent_ledger, "append", fail)
    with pytest.raises(ProgramError):
        settle()
    assert rows(Message)[0].status is None
    monkeypatch.undo()


def test_polling_settles_what_no_report_came_for(database: str) -> None:
    run()
    message()
    gateway = PolledGateway(
        Report(Status.DELIVERED, None, "SMm1", price=Decimal("0.0079"), currency="USD")
    )
    done = settle(gateway)
    assert (done.polled, done.finished) == (1, ["run"])
    (found,) = rows(Message)
    assert (found.status, found.price, found.polled_at) == ("delivered", Decimal("0.0079"), NOW)
    (event,) = rows(DeliveryEvent)
    assert (event.source, event.reference, event.message_id) == ("poll", "m1", "m1")
    assert "delivered" in event.raw


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({}, True),
        ({"submitted_at": NOW - MINUTES}, False),
        ({"polled_at": NOW - 5 * MINUTES}, False),
        ({"polled_at": NOW - 11 * MINUTES}, True),
        ({"status": "delivered", "status_rank": deliveries.FINAL}, False),
        ({"state": "in_doubt"}, False),
        ({"gateway_message_id": None}, False),
    ],
)
def test_which_messages_are_polled(sqlite: str, values: dict[str, Any], asked: bool) -> None:
    message(**values)
    gateway = PolledGateway()
    settle(gateway)
    assert gateway.asked == ([["SMm1"]] if asked else [])


def test_a_poll_asks_for_a_bounded_number_the_longest_waiting_first(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "POLL_MOST", 2)
    message("m1", polled_at=NOW - 20 * MINUTES)
    message("m2", submitted_at=NOW - 20 * MINUTES)
    message("m3", submitted_at=NOW - 30 * MINUTES)
    gateway = PolledGateway()
    settle(gateway)
    assert gateway.asked == [["SMm3", "SMm2"]]


def test_a_poll_that_tells_nothing_new_is_not_kept(sqlite: str) -> None:
    message(status="sent", status_rank=deliveries.RANK["sent"])
    settle(PolledGateway(Report(Status.SENT, None, "SMm1")))
    assert rows(DeliveryEvent) == []


def test_a_gateway_that_fails_stops_nothing_else(sqlite: str) -> None:
    message("m1", gateway="broken")
    message("m2", gateway="gone")
    message("m3", gateway="mute")
    message("m4", gateway="main")
    mute = PolledGateway()
    mute.capabilities = Capabilities(polls=False)
    gateways: dict[str, Any] = {
        "broken": PolledGateway(error=GatewayError("HTTP 500 for +14155550001")),
        "gone": None,
        "mute": mute,
        "main": PolledGateway(Report(Status.DELIVERED, None, "SMm4")),
    }
    done = reconcile(gateways.__getitem__, now=NOW)
    assert [found.status for found in rows(Message)] == [None, None, None, "delivered"]
    assert [problem.split(":")[0] for problem in done.problems] == [
        "gateway gone",
        "gateway broken",
    ]
    assert "4155550001" not in " ".join(done.problems)
    assert mute.asked == []


def test_what_gets_no_report_expires(database: str) -> None:
    run()
    message(submitted_at=NOW - 4 * DAYS)
    done = settle()
    assert (done.expired, done.finished) == (1, ["run"])
    (result,) = rows(Result)
    assert (result.outcome, result.reason, result.final_at) == ("expired", "no_report", NOW)


def test_a_late_report_still_changes_the_result_of_a_finished_run(database: str) -> None:
    run()
    message(submitted_at=NOW - 4 * DAYS)
    settle()
    report(received_at=NOW + MINUTES)
    assert settle(now=NOW + 2 * MINUTES).finished == []
    assert outcomes() == {1: "delivered"}


@pytest.mark.parametrize(
    ("values", "finished"),
    [
        ({"state": "queued"}, False),
        ({"state": "deferred"}, False),
        ({"state": "sending"}, False),
        ({"state": "accepted"}, False),
        ({"state": "in_doubt"}, False),
        ({"state": "in_doubt", "submitted_at": NOW - 4 * DAYS}, True),
        ({"state": "in_doubt", "submitted_at": None, "lease_until": NOW - 4 * DAYS}, True),
        ({"state": "in_doubt", "submitted_at": None}, False),
        ({"state": "failed"}, True),
        ({"state": "cancelled"}, True),
    ],
)
def test_a_run_is_finished_when_nothing_of_it_is_open(
    database: str, values: dict[str, Any], finished: bool
) -> None:
    run()
    message(**values)
    assert settle().finished == (["run"] if finished else [])


@pytest.mark.parametrize("state", ["sending", "paused", "cancelled"])
def test_only_a_reconciling_run_is_finished(database: str, state: str) -> None:
    run(state=state)
    message()
    report()
    assert settle().finished == []
    assert outcomes() == {1: "delivered"}


def test_a_report_changes_the_rows_that_it_speaks_of(database: str) -> None:
    run(records_read=2)
    message("m1")
    message("m2")
    settle(run_ids=["run"])
    report("m2")
    assert settle().rebuilt == 0
    assert outcomes() == {1: "pending", 2: "delivered"}


def test_a_run_that_does_not_add_up_is_not_finished_and_is_said(sqlite: str) -> None:
    run(records_read=2)
    message(state="failed")
    done = settle()
    assert done.finished == []
    assert "1 of 2 records" in done.problems[0]
    assert rows(CampaignRun)[0].state == "reconciling"


def test_only_the_runs_that_were_asked_for_are_finished(sqlite: str) -> None:
    run("run", records_read=1)
    run("other", records_read=0)
    message()
    report()
    assert settle(run_ids=["other"]).finished == ["other"]
    assert settle(run_ids=["run"]).finished == ["run"]


def test_what_is_answered_after_the_end_of_a_cancelled_run_reaches_its_results(
    database: str,
) -> None:
    run(state="cancelled", finished_at=NOW)
    message(state="sending", lease_until=NOW + DAYS)
    settle(run_ids=["run"])
    assert outcomes() == {1: "pending"}
    with writing() as connection:
        connection.execute(update(Message).values(state="rejected"))
    assert settle().changed == ["run"]
    assert outcomes() == {1: "rejected"}
    assert settle().changed == []


def test_a_cancelled_run_has_results_though_its_cancelling_died(sqlite: str) -> None:
    run(state="cancelled", finished_at=NOW)
    run("other", records_read=0)
    message(state="queued", attempt=0, submitted_at=None)
    settle(run_ids=["other"])
    settle()
    assert outcomes() == {1: "cancelled"}


def test_messages_outside_campaigns_are_settled_too(sqlite: str) -> None:
    message(run_id="api", kind="api")
    report()
    done = settle()
    assert (done.matched, done.rebuilt) == (1, 0)
    assert rows(Message)[0].status == "delivered"


def test_exclusions_are_part_of_the_account(database: str) -> None:
    run(records_read=2)
    message()
    with writing() as connection:
        connection.execute(
            insert(Exclusion),
            [
                {
                    "run_id": "run",
                    "row": 2,
                    "outcome": "invalid",
                    "reason": "x",
                    "recipient": "",
                    "column": "",
                    "rule": "",
                    "detail": "",
                }
            ],
        )
        connection.execute(update(Message).values(status="delivered", status_rank=deliveries.FINAL))
    assert settle().finished == ["run"]
    with reading() as connection:
        assert results.check(connection, "run").outcomes == {"delivered": 1, "invalid": 1}
