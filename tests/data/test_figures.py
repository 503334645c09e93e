"""The figures of a run on both databases: exact money, bounded answers, the same numbers."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from data import figures, results, runs
from data.database import insert_frame, reading, writing
from data.deliveries import FINAL

AT = datetime(2026, 11, 24, 8, tzinfo=UTC)
SIZE = 1_000

pytestmark = pytest.mark.usefixtures("database")


def a_run() -> str:
    return runs.open_run(
        key="sale",
        name="Sale",
        purpose="marketing",
        parameters={},
        gateway="main",
        sender="ACME",
        not_after=None,
        flow_run_id=None,
    ).id


def add_messages(run_id: str, **columns: Any) -> None:
    order = pd.Series(range(SIZE))
    number = "+1" + (2_025_550_000 + order).astype("str")
    values = {
        "id": run_id + order.astype("str"),
        "run_id": run_id,
        "kind": "campaign",
        "request_key": number,
        "row": order + 1,
        "batch": order // 500,
        "recipient": number,
        "number_key": number,
        "country": ["US" if place % 4 else "CA" for place in order],
        "zones": "UTC",
        "text": "Hello " + order.astype("str"),
        "encoding": "GSM-7",
        "segments": 1,
        "sender": "ACME",
        "gateway": "main",
        "state": "queued",
        "reason": "",
        "rule": "",
        "attempt": 0,
        "status_rank": 0,
        "conflict": False,
    }
    with writing() as connection:
        insert_frame(connection, "message", pd.DataFrame({**values, **columns}))


def add_sent_messages(run_id: str) -> None:
    """One every 0.1 s; the report of the nth comes n ms later; one in ten is undelivered."""
    order = pd.Series(range(SIZE))
    sent = pd.Series(pd.to_datetime([AT] * SIZE)) + pd.to_timedelta(order * 100, unit="ms")
    add_messages(
        run_id,
        state="accepted",
        status=["delivered" if place % 10 else "undelivered" for place in order],
        status_rank=FINAL,
        submitted_at=sent,
        final_at=sent + pd.to_timedelta(order, unit="ms"),
        planned_price="0.0083",
        planned_currency="USD",
        price=[None if place == 7 else "0.0079" for place in order],
        currency="USD",
    )
    with writing() as connection:
        results.rebuild(connection, run_id)


def test_the_plan_is_counted_by_what_becomes_of_its_records() -> None:
    run_id = a_run()
    add_messages(run_id, state=["deferred"] * 10 + ["queued"] * 990)
    exclusion = {"run_id": [run_id] * 2, "row": [1001, 1002], "outcome": "invalid"}
    with writing() as connection:
        frame = pd.DataFrame({**exclusion, "reason": "blank_row", "recipient": ""})
        insert_frame(connection, "exclusion", frame.assign(column="", rule="", detail=""))
    with reading() as connection:
        planned = figures.planned(connection, run_id)
    assert planned.drop(columns=["first", "last"]).to_dict("split")["data"] == [
        ["queued", "", "", 990],
        ["deferred", "", "", 10],
        ["invalid", "blank_row", "", 2],
    ]


def test_what_is_stopped_or_waits_is_counted_by_rule() -> None:
    run_id = a_run()
    later = [AT + timedelta(minutes=place) for place in range(10)]
    add_messages(
        run_id,
        state=["deferred"] * 10 + ["queued"] * 990,
        reason=["quiet_hours"] * 10 + [""] * 990,
        rule=["us/hours"] * 10 + [""] * 990,
        opens_at=pd.Series([*later, *[pd.NaT] * 990]),
    )
    excluded = {
        "run_id": [run_id] * 3,
        "row": [1001, 1002, 1003],
        "outcome": ["blocked", "blocked", "duplicate"],
        "rule": ["us/basis", "us/basis", ""],
    }
    with writing() as connection:
        frame = pd.DataFrame({**excluded, "reason": "no_consent", "recipient": "+12025550100"})
        insert_frame(connection, "exclusion", frame.assign(column="", detail=""))
        results.rebuild(connection, run_id)
        waiting, blocked = figures.stopped(connection, run_id).to_dict("records")
        planned = figures.planned(connection, run_id).set_index("outcome")
    assert list(waiting.values()) == [
        *("deferred", "quiet_hours", "us/hours", 10, AT, AT + timedelta(minutes=9))
    ]
    assert list(blocked.values())[:4] == ["blocked", "no_consent", "us/basis", 2]
    assert pd.isna(blocked["first"])
    assert planned.loc["deferred", "last"] == AT + timedelta(minutes=9)


def test_numbers_that_begin_alike_stand_for_their_country() -> None:
    run_id = a_run()
    numbers = ["+12025550100", "+12025550101", "+12425550100", "+4917139200"]
    excluded = {"run_id": [run_id] * 4, "row": [1, 2, 3, 4], "recipient": numbers}
    with writing() as connection:
        frame = pd.DataFrame({**excluded, "reason": "opt_out_text", "outcome": "blocked"})
        insert_frame(connection, "exclusion", frame.assign(column="", rule="r", detail=""))
        found = figures.without_opt_out_text(connection, run_id)
    assert found.to_dict("split")["data"] == [
        ["r", "+12025550100", 2],
        ["r", "+12425550100", 1],
        ["r", "+4917139200", 1],
    ]


def test_openings_are_the_first_and_the_last() -> None:
    run_id = a_run()
    with reading() as connection:
        assert figures.openings(connection, run_id) == (None, None)
    opens = pd.Series(pd.to_datetime([AT] * SIZE)) + pd.to_timedelta(range(SIZE), unit="min")
    add_messages(run_id, state="deferred", opens_at=opens)
    with reading() as connection:
        assert figures.openings(connection, run_id) == (AT, AT + timedelta(minutes=SIZE - 1))


def test_samples_hold_one_of_every_kind_and_then_the_first() -> None:
    run_id = a_run()
    segments = [3 if place == 900 else 1 for place in range(SIZE)]
    encoding = ["UCS-2" if place == 700 else "GSM-7" for place in range(SIZE)]
    add_messages(run_id, segments=segments, encoding=encoding)
    with reading() as connection:
        found = figures.sample_messages(connection, run_id, 6)
        texts = figures.ucs2_texts(connection, run_id, 5)
    assert found["row"].tolist() == [1, 2, 3, 4, 701, 901]
    assert texts.tolist() == ["Hello 700"]


def test_costs_are_exact() -> None:
    run_id = a_run()
    add_sent_messages(run_id)
    with reading() as connection:
        (row,) = figures.costs(connection, run_id).to_dict("records")
    assert row == {
        "currency": "USD",
        "messages": 1_000,
        "estimate": Decimal("8.3000"),
        "priced": 999,
        "charged": Decimal("7.8921"),
    }


def test_latencies_are_a_short_histogram() -> None:
    run_id = a_run()
    add_sent_messages(run_id)
    with reading() as connection:
        found = figures.latencies(connection, run_id)
    assert found["rows"].sum() == SIZE
    assert found["seconds"].round(1).tolist() == [round(n / 10, 1) for n in range(11)]


def test_countries_and_doubts_are_counted_and_listed() -> None:
    run_id = a_run()
    add_messages(run_id, state="in_doubt", reason="sender_died", submitted_at=AT)
    with writing() as connection:
        results.rebuild(connection, run_id)
    with reading() as connection:
        countries = figures.countries(connection, run_id).to_dict("split")["data"]
        doubts = figures.in_doubt(connection, run_id, 3)
    assert countries == [["US", "in_doubt", 750], ["CA", "in_doubt", 250]]
    assert doubts["row"].tolist() == [1, 2, 3]
    assert doubts["submitted_at"].tolist() == [AT] * 3


def test_the_timeline_holds_every_message_in_few_steps() -> None:
    run_id = a_run()
    with reading() as connection:
        assert figures.timeline(connection, run_id).empty
    add_sent_messages(run_id)
    with reading() as connection:
        found = figures.timeline(connection, run_id, steps=20)
    assert found.groupby("outcome")["rows"].sum().to_dict() == {
        "delivered": 900,
        "submitted": 1_000,
        "undelivered": 100,
    }
    assert found["at"].nunique() <= 21
    assert found["at"].min() == AT
    assert abs(found["at"].max() - (AT + timedelta(milliseconds=99_900 + 999))).total_seconds() < 5
