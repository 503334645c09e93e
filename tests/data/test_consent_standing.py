"""What stands, as SQL and on columns, on both databases, against a fold in plain Python."""

import itertools
from datetime import datetime, timedelta
from random import Random

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, select, text, true, update
from sqlmodel import col

from data.consent_ledger import ConsentError, Standing, fold, is_import, opt_out_stands, standing
from data.database import reading, writing
from data.identity import number_keys
from data.rules import PURPOSES
from data.tables import ConsentEvent, Message
from tests.data import consent_events as plain
from tests.data.consent_events import DAY, NOON, A, B, Event, event, events, opt_in, opt_out, record

EVENTS = ConsentEvent.metadata.tables["consent_event"]
SERVICE = {"marketing", "transactional", "alert"}


def stopped(purpose: str, everything: ColumnElement[bool] | None = None) -> set[str]:
    """The number keys that the clause stops, of all that are in the ledger."""
    with reading() as connection:
        known = select(EVENTS.c.number_key).distinct().subquery()
        clause = opt_out_stands(known.c.number_key, purpose, everything)
        return set(connection.execute(select(known.c.number_key).where(clause)).scalars())


def of_history(told: list[Event], purpose: str = "marketing", at: datetime | None = None) -> Event:
    """The people row of one number."""
    frame = events(*told).assign(number_key="k")
    frame["id"] = [f"e{place}" for place in range(len(frame))]
    (row,) = fold(frame, purpose, at).people.to_dict("records")
    return row


def bases(told: list[Event], purpose: str = "marketing", at: datetime | None = None) -> set[str]:
    frame = events(*told).assign(number_key="k", id=range(len(told)))
    return set(fold(frame, purpose, at).consents["basis"])


told = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["opt_in", "opt_in", "opt_out", "opt_out", "opt_in_pending", "deactivated"]
        ),
        "scope": st.sampled_from(["*", "marketing", "otp"]),
        "basis": st.sampled_from(["express", "express_written"]),
        "method": st.sampled_from(["keyword", "import", "import:web_form", ""]),
        "occurred_at": st.none()
        | st.integers(0, 3).map(lambda day: NOON + timedelta(days=day, microseconds=1)),
    }
)
histories = st.lists(st.lists(told, min_size=1, max_size=6), min_size=10, max_size=40)
numbers = (f"+1201{n:07}" for n in itertools.count(2_000_000))


@hypothesis(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(histories, st.randoms(use_true_random=False))
def test_sql_and_columns_have_one_meaning_whatever_the_order_of_recording(
    database: str, histories: list[list[Event]], chance: Random
) -> None:
    people = dict(zip(numbers, histories, strict=False))
    rows = [event | {"recipient": who} for who, told in people.items() for event in told]
    chance.shuffle(rows)
    record(events(*rows))

    keys = dict(zip(people, number_keys(people), strict=True))
    for purpose in PURPOSES:
        out = {keys[who] for who, told in people.items() if plain.opted_out(told, purpose)}
        of_any = {
            keys[who] for who, told in people.items() if plain.opted_out_of_any(told, purpose)
        }
        gone = {keys[who] for who, told in people.items() if plain.deactivated(told)}
        everything = of_any if purpose in SERVICE else out
        assert stopped(purpose) & set(keys.values()) == out | gone
        assert stopped(purpose, true()) & set(keys.values()) == everything | gone
        with reading() as connection:
            found = standing(connection, pd.Series(list(keys.values())), purpose)
        folded = found.people.set_index("number_key")
        assert set(folded.index[folded["opted_out"]]) == out
        assert set(folded.index[folded["opted_out_of_any"]]) == of_any
        assert set(folded.index[folded["deactivated"]]) == gone
        assert consents_of(found) == {
            (keys[who], basis, at)
            for who, told in people.items()
            for basis, at in plain.consents(told, purpose).items()
        }


def consents_of(found: Standing) -> set[tuple[str, str, datetime | None]]:
    rows = found.consents[["number_key", "basis", "occurred_at"]].itertuples(index=False)
    return {(key, basis, None if pd.isna(at) else at) for key, basis, at in rows}


@hypothesis(max_examples=150, deadline=None)
@given(st.lists(told, min_size=1, max_size=6), told, st.sampled_from(["marketing", "otp"]))
def test_only_a_persons_own_later_opt_in_lifts_an_opt_out(
    history: list[Event], more: Event, purpose: str
) -> None:
    before = of_history(history, purpose)
    after = of_history([*history, more], purpose)
    dates = [one["occurred_at"] for one in history if one["type"] == "opt_out"]
    lifts = (
        more["type"] == "opt_in"
        and more["method"] == "keyword"
        and more["occurred_at"] is not None
        and any(date is not None and date < more["occurred_at"] for date in dates)
    )
    if before["opted_out"] and not lifts:
        assert after["opted_out"]


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
        ([opt_out(NOON), opt_in(NOON + DAY, method="import")], {"marketing"}),
        ([opt_out(NOON), opt_in(NOON + DAY, source="crm_sync")], {"marketing"}),
        ([opt_out(NOON), opt_in(NOON + DAY, method="")], {"marketing"}),
        ([opt_out(NOON), opt_in(NOON + DAY, scope="otp")], {"marketing"}),
        ([opt_out(NOON), opt_in(NOON + DAY, scope="*")], set()),
        ([opt_in(NOON + DAY), opt_out(NOON), opt_out(NOON + 2 * DAY)], {"marketing"}),
        ([event("deactivated", NOON), opt_in(NOON)], set(PURPOSES)),
        ([event("deactivated", NOON), opt_in(NOON + DAY, scope="otp")], set()),
    ],
)
def test_an_opt_out_or_deactivation_stops(
    sqlite: str, told: list[Event], purposes: set[str]
) -> None:
    record(events(*told))
    assert {purpose for purpose in PURPOSES if stopped(purpose)} == purposes


@pytest.mark.parametrize(
    ("told", "of_any"),
    [
        ([opt_out(NOON, scope="marketing")], True),
        ([opt_out(NOON, scope="marketing"), opt_in(NOON + DAY, scope="marketing")], False),
        ([opt_out(NOON, scope="marketing"), opt_in(NOON + DAY, scope="alert")], False),
        ([opt_out(NOON, scope="marketing"), opt_in(NOON + DAY, scope="otp")], True),
        ([opt_out(NOON, scope="*"), opt_in(NOON + DAY, scope="marketing")], True),
        ([opt_in(NOON)], False),
    ],
)
def test_an_opt_out_of_any_purpose_stands_until_it_or_this_purpose_is_opted_in_to(
    told: list[Event], of_any: bool
) -> None:
    row = of_history(told, "alert")
    assert row["opted_out_of_any"] == of_any


def test_where_one_revocation_counts_for_all_it_stops_what_needs_consent(database: str) -> None:
    record(events(opt_out(NOON, scope="marketing")))
    assert {purpose for purpose in PURPOSES if stopped(purpose, true())} == SERVICE


def test_the_clause_works_inside_an_update_of_messages(database: str) -> None:
    record(events(opt_out(NOON)))
    (key,) = number_keys([A])
    clause = opt_out_stands(col(Message.number_key), "marketing", col(Message.country) == "US")
    with writing() as connection:
        done = connection.execute(update(Message).where(clause).values(state="suppressed"))
        assert done.rowcount == 0
    with reading() as connection:
        assert connection.scalar(select(opt_out_stands(EVENTS.c.number_key, "marketing")))
    assert stopped("marketing") == {key}


def test_the_clause_finds_a_number_by_the_index(sqlite: str) -> None:
    clause = opt_out_stands(col(Message.number_key), "marketing", col(Message.country) == "US")
    statement = update(Message).where(clause).values(state="suppressed")
    with reading() as connection:
        sql = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = " ".join(str(row) for row in connection.execute(text("EXPLAIN QUERY PLAN " + sql)))
    assert plan.count("INDEX ix_consent_event_number (number_key=? AND type=?)") == 2
    assert "SCAN opted" not in plan


def test_standing_tells_each_basis_its_date_and_the_events(database: str) -> None:
    record(
        events(
            opt_in(NOON, basis="express_written"),
            opt_in(None, basis="express"),
            opt_in(NOON - 9 * DAY, basis="express_written"),
            event("relationship", NOON + DAY, basis="implied_purchase"),
            opt_in(NOON + 9 * DAY, scope="otp", basis="user_initiated"),
            event("opt_in_pending", NOON + 9 * DAY, basis="express_written"),
            opt_out(NOON, recipient=B),
        )
    )
    keys = pd.Series([*number_keys([A, B, "+12015550199"]), None, *number_keys([A])])
    with reading() as connection:
        found = standing(connection, keys, "marketing")

    people = found.people.set_index("number_key")
    assert list(people.index) == number_keys([A, B])
    assert people["opted_out"].tolist() == [False, True]
    assert people["event_ids"].tolist() == ["1,2,3,4", "7"]
    assert people["opt_out_at"].isna().tolist() == [True, False]
    assert people["opt_out_at"].iloc[1] == NOON
    consents = found.consents.set_index("basis")
    assert set(consents["number_key"]) == set(number_keys([A]))
    assert consents.loc["express_written", "occurred_at"] == NOON
    assert consents.loc["implied_purchase", "occurred_at"] == NOON + DAY
    assert pd.isna(consents.loc["express", "occurred_at"])
    assert (consents["last_active"] == NOON + DAY).all()
    assert len(consents) == 3


def test_standing_of_numbers_without_events_is_empty(database: str) -> None:
    with reading() as connection:
        found = standing(connection, pd.Series(number_keys([A])), "marketing")
    assert list(found.people.columns) == [
        "number_key",
        "opted_out",
        "opted_out_of_any",
        "opt_out_at",
        "deactivated",
        "registry",
        "event_ids",
        "revoked_at",
    ]
    assert list(found.consents.columns) == ["number_key", "basis", "occurred_at", "last_active"]
    assert found.people.empty
    assert found.consents.empty


def test_what_was_revoked_is_not_revived_by_a_later_opt_in() -> None:
    history = [
        opt_in(NOON, basis="express_written"),
        opt_in(None, basis="inferred"),
        opt_out(NOON + DAY),
        opt_in(NOON + 2 * DAY, basis="express"),
    ]
    assert bases(history) == {"express"}
    assert bases(history, at=NOON + timedelta(hours=1)) == {"express_written", "inferred"}


def test_consent_of_before_a_deactivation_was_somebody_elses() -> None:
    history = [
        opt_in(NOON, basis="express_written"),
        event("deactivated", NOON + DAY, scope="*"),
        opt_in(NOON + 2 * DAY, basis="express"),
    ]
    assert bases(history) == {"express"}


def test_what_is_dated_after_the_instant_is_not_known_yet() -> None:
    history = [opt_in(NOON), opt_out(NOON + DAY)]
    assert of_history(history, at=NOON)["opted_out"] is False
    assert of_history(history, at=NOON)["event_ids"] == "e0"
    assert of_history(history, at=NOON + DAY)["opted_out"] is True


COMPLETE = {"optout_offered_at_collection": True, "similar_products": True, "own_products": True}


@pytest.mark.parametrize(
    ("evidence", "holds"),
    [
        (COMPLETE, True),
        (dict.fromkeys(COMPLETE, "Yes"), True),
        (COMPLETE | {"similar_products": False}, False),
        (COMPLETE | {"own_products": None}, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_soft_opt_in_needs_all_its_parts(evidence: object, holds: bool) -> None:
    bought = event("relationship", NOON, basis="soft_opt_in", evidence=evidence)
    assert bases([bought]) == ({"soft_opt_in"} if holds else set())


def check(at: datetime | None, basis: str = "", **evidence: object) -> Event:
    return event("registry_check", at, basis=basis, evidence=evidence)


@pytest.mark.parametrize(
    ("checks", "registry", "held"),
    [
        ([check(NOON, "dnc_clear")], "clear", {"dnc_clear"}),
        ([check(NOON, "dnc_clear", result="clear")], "clear", {"dnc_clear"}),
        ([check(NOON, "iys_onay", result="ONAY")], "clear", {"iys_onay"}),
        ([check(NOON, result="onay")], "clear", {"iys_onay"}),
        ([check(NOON, result="not_listed")], "clear", {"dnc_clear"}),
        ([check(NOON, "dnc_clear", result="listed")], "listed", set()),
        ([check(NOON, "iys_onay", result="RET")], "listed", set()),
        ([check(NOON, "dnc_clear", listed=True)], "listed", set()),
        ([check(NOON, "dnc_listed")], "listed", set()),
        ([check(NOON)], "listed", set()),
        ([check(NOON, "dnc_clear"), check(NOON + DAY, result="listed")], "listed", set()),
        ([check(NOON, result="listed"), check(NOON + DAY, "dnc_clear")], "clear", {"dnc_clear"}),
        ([check(NOON, result="listed"), check(NOON, "dnc_clear")], "listed", set()),
        ([check(None, result="listed"), check(NOON, "dnc_clear")], "listed", set()),
        ([check(NOON, result="listed"), check(None, "dnc_clear")], "listed", set()),
        ([check(None, "dnc_clear")], "clear", {"dnc_clear"}),
        ([opt_in(NOON, basis="express")], "", {"express"}),
    ],
)
def test_the_latest_answer_of_a_registry_counts(
    checks: list[Event], registry: str, held: set[str]
) -> None:
    assert of_history(checks)["registry"] == registry
    assert bases(checks) == held
    assert of_history(checks[::-1])["registry"] == registry


def test_a_number_that_stops_and_starts_again_has_no_opt_out_to_confirm() -> None:
    stop = opt_out(NOON, scope="*")
    start = opt_in(NOON + DAY, scope="*", method="keyword")
    row = of_history([stop], "optout_confirmation")
    assert (row["opted_out"], row["opted_out_of_any"], row["opt_out_at"]) == (False, True, NOON)
    assert pd.isna(of_history([stop, start], "optout_confirmation")["opt_out_at"])


@pytest.mark.parametrize(
    ("source", "method", "expected"),
    [
        ("csv_import", "", True),
        ("shop", "Bulk upload", True),
        ("hubspot-crm", "form", True),
        ("customer_list", "form", True),
        ("nightly sync", "form", True),
        ("migration-2024", "form", True),
        ("waitlist", "web_form", False),
        ("web_form", "", False),
        ("inbound:START", "keyword", False),
        ("checkout", "checkbox", False),
    ],
)
def test_what_smells_of_bulk_is_an_import(source: str, method: str, expected: bool) -> None:
    assert is_import(source, method) == expected


def test_a_purpose_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConsentError, match="'adverts' is no purpose"):
        opt_out_stands(EVENTS.c.number_key, "adverts")


@pytest.mark.parametrize(
    ("evidence", "counts"),
    [
        ({}, True),
        ({"channel": None}, True),
        ({"channel": "sms"}, True),
        ({"channel": "Text messages"}, True),
        ({"channels": ["email", "MMS"]}, True),
        ({"channels": "all"}, True),
        ({"channel": "email"}, False),
        ({"channel": "call"}, False),
        ({"channels": ["email", "whatsapp"]}, False),
        ({"channels": []}, False),
        ({"names_sms": True}, True),
        ({"names_sms": False}, False),
        ({"covers_sms": "no"}, False),
        ({"channel": "sms", "includes_sms": False}, False),
    ],
)
@pytest.mark.parametrize("kind", ["opt_in", "relationship"])
def test_what_was_given_for_other_channels_is_no_consent_to_texts_and_lifts_nothing(
    sqlite: str, kind: str, evidence: Event, counts: bool
) -> None:
    given = event(kind, NOON + DAY, basis="express", evidence=evidence)
    assert bases([given]) == ({"express"} if counts else set())
    if kind == "opt_in":
        history = [opt_out(NOON, evidence={}), given]
        assert of_history(history)["opted_out"] == (not counts)
        record(events(*history))
        (key,) = number_keys([A])
        if evidence != {"channels": []}:
            assert (key in stopped("marketing")) == (not counts)
        with reading() as connection:
            found = standing(connection, pd.Series([key]), "marketing")
        assert found.people["opted_out"].tolist() == [not counts]


def test_sql_reads_channels_on_both_databases(database: str) -> None:
    one, other = "+12015550170", "+12015550171"
    back = [
        opt_in(NOON + DAY, recipient=one, evidence={"channels": ["email", "SMS"]}),
        opt_in(NOON + DAY, recipient=other, evidence={"channels": ["email", "call"]}),
    ]
    record(events(*(opt_out(NOON, recipient=who, evidence={}) for who in (one, other)), *back))
    keys = number_keys([one, other])
    assert stopped("marketing") & set(keys) == {keys[1]}


@pytest.mark.parametrize(
    ("status", "ends"),
    [("SUSPEND", False), ("resume", False), ("DEACT", True), ("TRANSFER", True), (None, True)],
)
def test_a_number_that_its_carrier_suspended_is_not_deactivated(
    database: str, status: str | None, ends: bool
) -> None:
    who = f"+1201555018{len(status or '')}"
    gone = event("deactivated", NOON, recipient=who, evidence={"status": status})
    record(events(gone))
    (key,) = number_keys([who])
    for purpose in ("marketing", "emergency"):
        assert (key in stopped(purpose)) == ends
        with reading() as connection:
            found = standing(connection, pd.Series([key]), purpose)
        assert found.people["deactivated"].tolist() == [True] * ends


@pytest.mark.parametrize(
    ("history", "revoked_at"),
    [
        ([opt_in(NOON)], None),
        ([opt_out(NOON), opt_in(NOON + DAY)], NOON),
        ([opt_out(NOON), opt_out(NOON + DAY), opt_in(NOON + 2 * DAY)], NOON + DAY),
        ([event("deactivated", NOON), opt_in(NOON + DAY)], NOON),
        ([opt_out(NOON, scope="otp"), opt_in(NOON + DAY)], None),
    ],
)
def test_when_consent_was_last_revoked_is_known_though_it_was_lifted(
    history: list[Event], revoked_at: datetime | None
) -> None:
    told = of_history(history)
    assert not told["opted_out"]
    assert (None if pd.isna(told["revoked_at"]) else told["revoked_at"]) == revoked_at
