"""The consent ledger: what stands, on both databases, against a fold in plain Python."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlmodel import col

from data.consent_ledger import ConsentError, append, fold, opt_out_stands, read_import, standing
from data.database import now, reading, writing
from data.identity import number_keys
from data.rules import PURPOSES
from data.tables import ConsentEvent, Message

EVENTS = ConsentEvent.metadata.tables["consent_event"]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = "+12015550100", "+12015550101"


def events(*rows: dict[str, object]) -> pd.DataFrame:
    usual = {"recipient": A, "scope": "marketing", "basis": "", "source": "", "method": "web_form"}
    frame = pd.DataFrame([usual | row for row in rows])
    return frame.assign(occurred_at=pd.to_datetime(frame["occurred_at"], utc=True))


def opt_out(at: datetime | None, **other: object) -> dict[str, object]:
    return {"type": "opt_out", "occurred_at": at} | other


def opt_in(at: datetime | None, **other: object) -> dict[str, object]:
    return {"type": "opt_in", "occurred_at": at} | other


def record(frame: pd.DataFrame) -> None:
    with writing() as connection:
        append(connection, frame)


def stopped(purpose: str) -> set[str]:
    """The number keys that the clause stops, of all that are in the ledger."""
    with reading() as connection:
        known = select(EVENTS.c.number_key).distinct().subquery()
        rows = select(known.c.number_key).where(opt_out_stands(known.c.number_key, purpose))
        return set(connection.execute(rows).scalars())


def stands(history: list[dict[str, object]], purpose: str) -> bool:
    """The meaning of an opt-out, one event at a time."""
    if purpose == "emergency":
        return False
    heard = [event for event in history if event["scope"] in ("*", purpose)]

    def lifts(back: dict[str, object], out: dict[str, object]) -> bool:
        return (
            back["type"] == "opt_in"
            and back["method"] != ""
            and not str(back["method"]).startswith("import")
            and back["occurred_at"] is not None
            and out["occurred_at"] is not None
            and back["occurred_at"] > out["occurred_at"]
        )

    outs = [event for event in heard if event["type"] == "opt_out"]
    return any(not any(lifts(back, out) for back in heard) for out in outs)


history = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["opt_in", "opt_out", "opt_in_pending", "relationship"]),
            "scope": st.sampled_from(["*", "marketing", "otp"]),
            "method": st.sampled_from(["keyword", "import", "import:web_form", ""]),
            "occurred_at": st.none()
            | st.integers(0, 3).map(lambda day: NOON + timedelta(days=day, microseconds=1)),
        }
    ),
    min_size=1,
    max_size=6,
)
numbers = (f"+1201{n:07}" for n in itertools.count(2_000_000))


@hypothesis(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(history, min_size=10, max_size=40), st.randoms(use_true_random=False))
def test_what_stands_does_not_depend_on_the_order_of_recording(
    database: str, histories: list[list[dict[str, object]]], chance: object
) -> None:
    people = dict(zip(numbers, histories, strict=False))
    rows = [event | {"recipient": who} for who, told in people.items() for event in told]
    chance.shuffle(rows)  # type: ignore[attr-defined]
    record(events(*rows))

    keys = dict(zip(people, number_keys(people), strict=True))
    for purpose in PURPOSES:
        expected = {keys[who] for who, told in people.items() if stands(told, purpose)}
        assert stopped(purpose) & set(keys.values()) == expected
        with reading() as connection:
            folded = standing(connection, pd.Series(list(keys.values())), purpose)
        assert set(folded.loc[folded["opted_out"], "number_key"]) == expected


@pytest.mark.parametrize(
    ("told", "purposes"),
    [
        ([opt_out(NOON, scope="*")], {"marketing", "transactional", "alert", "otp"}),
        ([opt_out(NOON)], {"marketing"}),
        ([opt_out(NOON, scope="otp")], {"otp"}),
        ([opt_out(NOON), opt_in(NOON + timedelta(seconds=1))], set()),
        ([opt_out(NOON), opt_in(NOON)], {"marketing"}),
        ([opt_out(NOON), opt_in(None)], {"marketing"}),
        ([opt_out(None), opt_in(NOON)], {"marketing"}),
        ([opt_out(NOON), opt_in(NOON + timedelta(1), method="import")], {"marketing"}),
        ([opt_out(NOON), opt_in(NOON + timedelta(1), scope="otp")], {"marketing"}),
        ([opt_out(NOON), opt_in(NOON + timedelta(1), scope="*")], set()),
        ([opt_in(NOON + timedelta(1)), opt_out(NOON), opt_out(NOON + timedelta(2))], {"marketing"}),
    ],
)
def test_an_opt_out_stops(sqlite: str, told: list[dict[str, object]], purposes: set[str]) -> None:
    record(events(*told))
    assert {purpose for purpose in PURPOSES if stopped(purpose)} == purposes


def test_the_clause_works_inside_an_update_of_messages(database: str) -> None:
    record(events(opt_out(NOON)))
    (key,) = number_keys([A])
    clause = opt_out_stands(col(Message.number_key), "marketing")
    with writing() as connection:
        done = connection.execute(update(Message).where(clause).values(state="suppressed"))
        assert done.rowcount == 0
    with reading() as connection:
        assert connection.scalar(select(opt_out_stands(EVENTS.c.number_key, "marketing")))
    assert stopped("marketing") == {key}


def test_the_clause_finds_a_number_by_the_index(sqlite: str) -> None:
    clause = opt_out_stands(col(Message.number_key), "marketing")
    statement = update(Message).where(clause).values(state="suppressed")
    with reading() as connection:
        sql = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = " ".join(str(row) for row in connection.execute(text("EXPLAIN QUERY PLAN " + sql)))
    assert plan.count("INDEX ix_consent_event_number (number_key=? AND type=?)") == 2
    assert "SCAN opted" not in plan


def test_standing_tells_the_latest_opt_in_its_basis_and_the_events(database: str) -> None:
    record(
        events(
            opt_in(NOON, basis="express_written"),
            opt_in(None, basis="unknown_day"),
            opt_in(NOON - timedelta(9), basis="older"),
            opt_out(NOON - timedelta(1)),
            opt_in(NOON + timedelta(9), scope="otp", basis="other purpose"),
            opt_out(NOON, recipient=B),
        )
    )
    keys = pd.Series([*number_keys([A, B, "+12015550199"]), None, *number_keys([A])])
    with reading() as connection:
        told = standing(connection, keys, "marketing").set_index("number_key")

    assert list(told.index) == number_keys([A, B])
    assert told["opted_out"].tolist() == [False, True]
    assert told["opt_in_at"].iloc[0] == NOON
    assert told["basis"].iloc[0] == "express_written"
    assert told["basis"].isna().tolist() == [False, True]
    assert told["event_ids"].tolist() == ["1,2,3,4", "6"]


def test_standing_of_numbers_without_events_is_empty(database: str) -> None:
    with reading() as connection:
        told = standing(connection, pd.Series(number_keys([A])), "marketing")
    assert told.empty
    assert list(told.columns) == ["number_key", "opted_out", "opt_in_at", "basis", "event_ids"]


def test_events_are_kept_with_key_digest_and_evidence(database: str) -> None:
    record(
        events(
            opt_in(NOON, evidence={"form": "summer", "text": 'say "yes",\nplease'}),
            opt_out(None, scope=None, evidence=None),
        )
    )
    with reading() as connection:
        first, second = connection.execute(select(EVENTS).order_by(EVENTS.c.id)).all()
    assert (first.number_key, first.recipient) == (number_keys([A])[0], A)
    assert first.occurred_at == NOON
    assert first.evidence == {"form": "summer", "text": 'say "yes",\nplease'}
    assert (second.scope, second.occurred_at, second.evidence) == ("*", None, {})
    assert len(first.payload_digest) == 64
    assert first.payload_digest != second.payload_digest
    assert (first.previous_seal, first.seal) == (None, None)


def test_an_instant_in_the_future_becomes_the_present(sqlite: str) -> None:
    record(events(opt_in(now() + timedelta(days=400))))
    with reading() as connection:
        row = connection.execute(select(EVENTS)).one()
    assert row.occurred_at == row.recorded_at <= now()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"type": "optin"}, r"consent event 1: its type .* use one of opt_in,"),
        ({"recipient": "2015550100"}, "consent event 1: its recipient .* E.164"),
        ({"recipient": None}, "consent event 1: its recipient"),
        ({"scope": "newsletter"}, "consent event 1: its scope .* marketing"),
    ],
)
def test_events_that_mean_nothing_are_refused(
    sqlite: str, fault: dict[str, object], words: str
) -> None:
    with pytest.raises(ConsentError, match=words) as caught:
        record(events(opt_out(NOON), opt_out(NOON, **fault)))
    assert "5550100" not in str(caught.value)


def test_a_purpose_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConsentError, match="'adverts' is no purpose"):
        opt_out_stands(EVENTS.c.number_key, "adverts")


def test_the_fold_of_a_case_without_a_database_keeps_its_ids() -> None:
    frame = events(opt_in(NOON, id="e1"), opt_out(NOON, id="e2")).assign(number_key="k")
    (row,) = fold(frame, "marketing").itertuples()
    assert (row.opted_out, row.event_ids) == (True, "e1,e2")


# ------------------------------------------------------------------ reading an import


def imported(*rows: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    index = pd.RangeIndex(1, len(rows) + 1, name="row")
    return read_import(pd.DataFrame(rows, index=index, dtype="str"))


def test_an_import_is_marked_as_one_whatever_its_method_says() -> None:
    told, _ = imported(
        {"phone": "1", "type": "opt_in", "method": "Web_Form"},
        {"phone": "2", "type": "opt_out"},
    )
    assert told["method"].tolist() == ["import:web_form", "import"]


def test_an_import_is_read_by_either_name_of_its_columns() -> None:
    told, rejects = imported(
        {
            "Phone": " 0171 5550100 ",
            "Type": "OPT_IN",
            "Purpose": "otp",
            "occurred_at": "2026-03-01T13:00:00+01:00",
            "basis": "express",
            "source": "shop",
        }
    )
    row = told.loc[1]
    assert (row["recipient"], row["type"], row["scope"]) == ("0171 5550100", "opt_in", "otp")
    assert (row["occurred_at"], row["basis"], row["source"]) == (NOON, "express", "shop")
    assert rejects.empty


def test_without_a_scope_an_opt_out_means_all_and_an_opt_in_marketing() -> None:
    told, _ = imported({"phone": "1", "type": "opt_out"}, {"phone": "2", "type": "opt_in"})
    assert told["scope"].tolist() == ["*", "marketing"]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"type": "opt_in"}, "recipient"),
        ({"phone": "1", "type": "subscribed"}, "type"),
        ({"phone": "1"}, "type"),
        ({"phone": "1", "type": "opt_in", "scope": "newsletter"}, "scope"),
        ({"phone": "1", "type": "opt_in", "occurred_at": "01/03/2026"}, "occurred_at"),
        ({"phone": "1", "type": "opt_in", "occurred_at": "2026-03-01T12:00"}, "occurred_at"),
        ({"phone": "1", "type": "opt_in", "occurred_at": "2026-13-01T12:00Z"}, "occurred_at"),
        ({"phone": "1", "type": "opt_in", "occurred_at": "2999-03-01T12:00Z"}, "occurred_at"),
    ],
)
def test_a_record_that_claims_too_little_is_rejected(row: dict[str, str], column: str) -> None:
    told, rejects = imported({"phone": "9", "type": "opt_out"}, row)
    assert told.index.tolist() == [1]
    assert rejects[["row", "column"]].to_numpy().tolist() == [[2, column]]


@pytest.mark.parametrize(
    "row", [{"occurred_at": "yesterday"}, {"occurred_at": "2026-03-01"}, {"scope": "newsletter"}]
)
def test_an_opt_out_is_never_lost_over_a_date_or_scope(row: dict[str, str]) -> None:
    told, rejects = imported({"phone": "1", "type": "opt_out"} | row)
    assert rejects.empty
    assert told["occurred_at"].isna().all()
    assert told["scope"].tolist() == ["*"]
    assert next(iter(row.values())) in json.loads(told["evidence"].iloc[0]).values()


def test_a_file_without_a_type_column_is_refused() -> None:
    with pytest.raises(ConsentError, match="no column type"):
        imported({"phone": "1"})
