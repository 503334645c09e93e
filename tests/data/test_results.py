"""The results table: one outcome for each record, accounted for, and exported unchanged."""

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert, select, update

from data import results
from data.database import reading, writing
from data.deliveries import FINAL
from data.tables import CampaignRun, Exclusion, Message, Result

AT = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
RUN = "run"


def message(row: int, **values: Any) -> dict[str, Any]:
    return {
        "id": f"m{row}",
        "run_id": RUN,
        "kind": "campaign",
        "request_key": f"+1415555{row:04d}",
        "row": row,
        "batch": 0,
        "recipient": f"+1415555{row:04d}",
        "number_key": f"key{row}",
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
        "status": None,
        "status_rank": 0,
        "error_code": None,
        "conflict": False,
        "submitted_at": AT,
        "final_at": None,
        "gateway_message_id": f"SM{row}",
        "price": None,
        "currency": None,
    } | values


def exclusion(row: int, **values: Any) -> dict[str, Any]:
    return {
        "run_id": RUN,
        "row": row,
        "recipient": "",
        "outcome": "invalid",
        "reason": "not_a_number",
        "column": "mobile",
        "rule": "",
        "detail": "",
    } | values


def store(
    messages: list[dict[str, Any]],
    exclusions: list[dict[str, Any]] | None = None,
    read: int | None = None,
) -> None:
    exclusions = exclusions or []
    run = CampaignRun(
        id=RUN,
        key=RUN,
        name="Run",
        purpose="marketing",
        state="reconciling",
        parameters={},
        gateway="main",
        sender="x",
        planned=True,
        records_read=len(messages) + len(exclusions) if read is None else read,
        created_at=AT,
    )
    with writing() as connection:
        connection.execute(insert(CampaignRun), [run.model_dump()])
        if messages:
            connection.execute(insert(Message), messages)
        if exclusions:
            connection.execute(insert(Exclusion), exclusions)


def rebuilt() -> list[Any]:
    with writing() as connection:
        results.rebuild(connection, RUN)
        table = Result.__table__  # type: ignore[attr-defined]
        return list(connection.execute(select(table).order_by(table.c.row)))


def final(status: str, **values: Any) -> dict[str, Any]:
    return {"state": "accepted", "status": status, "status_rank": FINAL, "final_at": AT} | values


@pytest.mark.parametrize(
    ("values", "outcome", "reason"),
    [
        ({"state": "queued"}, "pending", "queued"),
        ({"state": "sending"}, "pending", "sending"),
        ({"state": "deferred", "reason": "quiet_hours"}, "deferred", "quiet_hours"),
        ({"state": "in_doubt", "reason": "timeout"}, "in_doubt", "timeout"),
        ({"state": "accepted"}, "pending", "accepted"),
        ({"state": "accepted", "status": "sent", "status_rank": 4}, "pending", "sent"),
        (final("delivered"), "delivered", "delivered"),
        (final("delivered", error_code="0"), "delivered", "delivered"),
        (final("undelivered", error_code="30005"), "undelivered", "gateway_30005"),
        (final("failed"), "failed", "failed"),
        (final("expired"), "expired", "expired"),
        (final("rejected", error_code=""), "rejected", "rejected"),
        ({"state": "failed", "error_code": "21211"}, "failed", "gateway_21211"),
        ({"state": "expired", "reason": "no_report"}, "expired", "no_report"),
        ({"state": "blocked", "reason": "deadline"}, "blocked", "deadline"),
        ({"state": "suppressed", "reason": "opted_out"}, "suppressed", "opted_out"),
        ({"state": "cancelled"}, "cancelled", "cancelled"),
    ],
)
def test_a_message_becomes_an_outcome_with_a_reason(
    sqlite: str, values: dict[str, Any], outcome: str, reason: str
) -> None:
    store([message(1, **values)])
    (row,) = rebuilt()
    assert (row.outcome, row.reason) == (outcome, reason)


def test_every_record_has_one_row(database: str) -> None:
    store(
        [message(1, **final("delivered")), message(3, state="queued")],
        [exclusion(2), exclusion(4, outcome="duplicate", reason="")],
    )
    store_test_message()
    assert [(row.row, row.outcome, row.reason) for row in rebuilt()] == [
        (1, "delivered", "delivered"),
        (2, "invalid", "not_a_number"),
        (3, "pending", "queued"),
        (4, "duplicate", "duplicate"),
    ]


def store_test_message() -> None:
    with writing() as connection:
        connection.execute(insert(Message), [message(99) | {"kind": "test", "row": None}])


def test_rebuilding_follows_the_messages(database: str) -> None:
    store([message(1)])
    rebuilt()
    with writing() as connection:
        connection.execute(update(Message).values(status="delivered", status_rank=FINAL))
    assert [row.outcome for row in rebuilt()] == ["delivered"]


def test_the_account_adds_up(database: str) -> None:
    store([message(1, **final("delivered")), message(2)], [exclusion(3)])
    rebuilt()
    with reading() as connection:
        found = results.check(connection, RUN)
    assert found == results.Account(3, {"delivered": 1, "invalid": 1, "pending": 1}, 3)


@pytest.mark.parametrize("rows", [[1, 2], [1, 2, 4], [0, 1, 2]])
def test_a_record_without_an_outcome_is_not_accounted(sqlite: str, rows: list[int]) -> None:
    store([message(row) for row in rows], read=3)
    rebuilt()
    with reading() as connection, pytest.raises(results.NotAccounted, match=f"{len(rows)} of 3"):
        results.check(connection, RUN)


def test_a_run_that_was_not_read_to_its_end_is_not_accounted(sqlite: str) -> None:
    with reading() as connection, pytest.raises(results.NotAccounted, match="records"):
        results.check(connection, RUN)


def test_a_record_with_two_outcomes_is_not_accounted(database: str) -> None:
    store([message(1), message(2)], [exclusion(2)], read=2)
    with writing() as connection, pytest.raises(results.NotAccounted, match="row 2: 2 outcomes"):
        results.rebuild(connection, RUN)


def test_reasons_and_funnel_count_records(database: str) -> None:
    store(
        [
            message(1, **final("delivered")),
            message(2, state="queued", submitted_at=None),
            message(3, state="suppressed", reason="opted_out", rule="opt_out", submitted_at=None),
        ],
        [exclusion(4), exclusion(5, outcome="duplicate"), exclusion(6)],
    )
    rebuilt()
    with reading() as connection:
        reasons = results.reasons(connection, RUN)
        funnel = results.funnel(connection, RUN)
    assert reasons.iloc[0].to_list() == ["invalid", "not_a_number", "", 2]
    assert {"suppressed", "delivered", "pending"} <= set(reasons["outcome"])
    assert list(funnel.items()) == [
        ("read", 6),
        ("valid", 4),
        ("unique", 3),
        ("allowed", 2),
        ("submitted", 1),
        ("delivered", 1),
    ]


def exported(format: str) -> bytes:
    out = io.BytesIO()
    results.export(RUN, format, out)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.fixture
def two_rows(database: str) -> None:
    store(
        [
            message(
                2,
                **final("delivered"),
                price=Decimal("0.00790"),
                currency="USD",
            )
        ],
        [exclusion(1, recipient="=1+1", reason="not_a_number")],
    )
    rebuilt()


@pytest.mark.usefixtures("two_rows")
def test_csv() -> None:
    assert exported("csv").decode().splitlines() == [
        "row,recipient,outcome,reason,gateway,gateway_message_id,segments,price,currency,attempts,"
        "submitted_at,final_at",
        "1,'=1+1,invalid,not_a_number,,,,,,,,",
        "2,+14155550002,delivered,delivered,main,SM2,1,0.00790,USD,1,"
        "2026-11-24T09:00:00.000000Z,2026-11-24T09:00:00.000000Z",
    ]


@pytest.mark.usefixtures("two_rows")
def test_json() -> None:
    first, second = json.loads(exported("json"))
    assert list(first) == list(second) == list(results.COLUMNS)
    assert (first["recipient"], first["segments"], first["price"]) == ("=1+1", None, None)
    assert (second["row"], second["segments"], second["price"]) == (2, 1, "0.00790")
    assert second["final_at"] == "2026-11-24T09:00:00.000000Z"


@pytest.mark.usefixtures("two_rows")
def test_parquet() -> None:
    table = pq.read_table(io.BytesIO(exported("parquet")))
    assert table.column_names == list(results.COLUMNS)
    second = table.to_pylist()[1]
    assert (second["price"], second["final_at"]) == (Decimal("0.0079"), AT)
    assert table.to_pylist()[0]["recipient"] == "=1+1"


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_an_export_in_chunks_is_the_same(
    sqlite: str, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store([message(row, **final("delivered")) for row in range(1, 6)])
    rebuilt()
    whole = exported(format)
    monkeypatch.setattr(results, "_CHUNK", 2)
    parts = exported(format)
    if format == "parquet":
        whole_table, parts_table = (pq.read_table(io.BytesIO(it)) for it in (whole, parts))
        assert whole_table == parts_table
    else:
        assert parts == whole


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_an_export_without_rows_is_readable(sqlite: str, format: str) -> None:
    out = exported(format)
    if format == "csv":
        assert out.decode().strip() == ",".join(results.COLUMNS)
    elif format == "json":
        assert json.loads(out) == []
    else:
        assert pq.read_table(io.BytesIO(out)).column_names == list(results.COLUMNS)


@pytest.mark.parametrize(
    ("recipient", "cell"),
    [
        ("+14155550100", "+14155550100"),
        ("+1415+cmd", "'+1415+cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-1", "'-1"),
        ("\tx", "'\tx"),
        ("07911 123456", "07911 123456"),
    ],
)
def test_a_csv_cell_is_never_a_formula(sqlite: str, recipient: str, cell: str) -> None:
    store([], [exclusion(1, recipient=recipient)])
    rebuilt()
    assert exported("csv").decode().splitlines()[1].startswith(f"1,{cell},")


def test_rejects_name_row_column_and_reason(database: str) -> None:
    store(
        [],
        [exclusion(2, detail="too short"), exclusion(1, outcome="duplicate"), exclusion(3)],
    )
    out = io.BytesIO()
    assert results.rejects(RUN, out) == 2
    assert out.getvalue().decode().splitlines() == [
        "row,column,reason,detail",
        "2,mobile,not_a_number,too short",
        "3,mobile,not_a_number,",
    ]
