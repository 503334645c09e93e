"""The hash chain of the consent ledger: sealed once, in order, and every change of it is found."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from data import consent_chain
from data.consent_chain import head_file, seal, verify
from data.database import now, reading, writing
from data.settings import settings
from data.tables import ConsentEvent
from tests.data.consent_events import DAY, NOON, B, events, opt_in, opt_out, record

EVENTS = ConsentEvent.metadata.tables["consent_event"]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent_chain, "CHUNK", 3)


def fill(count: int = 8) -> None:
    record(
        events(
            *(
                (opt_in if place % 2 else opt_out)(
                    NOON + place * DAY if place % 3 else None,
                    recipient=f"+120155501{place:02}",
                    wording="We send offers." if place % 2 else "",
                    wording_version="v2",
                    evidence={"form": place},
                )
                for place in range(count)
            )
        )
    )


def stored() -> list[Any]:
    with reading() as connection:
        return list(connection.execute(select(EVENTS).order_by(EVENTS.c.seal_number)).all())


def change(number: int, **values: object) -> None:
    with writing() as connection:
        connection.execute(update(EVENTS).where(EVENTS.c.seal_number == number).values(**values))


def test_events_are_numbered_in_their_order_and_each_seal_holds_the_one_before(
    database: str,
) -> None:
    fill(4)
    assert seal() == 4
    fill(4)
    assert (seal(), seal()) == (4, 0)
    rows = stored()
    assert [(row.seal_number, row.id) for row in rows] == [(n, n) for n in range(1, 9)]
    assert [row.previous_seal for row in rows] == ["", *(row.seal for row in rows[:-1])]
    assert len({row.seal for row in rows}) == 8
    found = verify()
    assert (found.sealed, found.unsealed, found.erased, found.broken) == (8, 0, 0, "")
    assert json.loads(head_file().read_text()) == {"number": 8, "seal": rows[-1].seal}


def test_the_empty_ledger_is_whole(database: str) -> None:
    assert seal() == 0
    assert verify().broken == ""


def test_what_is_not_sealed_yet_is_counted(database: str) -> None:
    fill(4)
    seal()
    record(events(opt_out(NOON)))
    assert (verify().sealed, verify().unsealed) == (4, 1)


def test_sealers_that_meet_make_one_chain(database: str) -> None:
    fill(40)
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(seal) for _ in range(4)]
        for _ in range(3):
            fill(5)
    assert sum(one.result() for one in done) + seal() == 55
    assert [row.seal_number for row in stored()] == list(range(1, 56))
    assert verify().broken == ""


CHANGES: dict[str, object] = {
    "type": "deactivated",
    "number_key": "0" * 32,
    "recipient": "+12015550999",
    "scope": "alert",
    "basis": "express",
    "occurred_at": NOON - DAY,
    "recorded_at": NOON,
    "source": "elsewhere",
    "method": "keyword",
    "wording_version": "v3",
    "text_hash": "0" * 64,
    "evidence": {"form": 99},
    "evidence_digest": "0" * 64,
    "erased_at": NOON,
    "payload_digest": "0" * 64,
    "previous_seal": "0" * 64,
    "seal": "0" * 64,
}


def test_every_column_is_tried_but_the_ids() -> None:
    assert set(CHANGES) == {column.name for column in EVENTS.c} - {"id", "seal_number"}


@pytest.mark.parametrize("column", CHANGES)
@pytest.mark.parametrize("number", [1, 3, 8])
def test_a_change_of_any_column_of_any_event_is_found(
    sqlite: str, number: int, column: str
) -> None:
    fill()
    seal()
    change(number, **{column: CHANGES[column]})
    assert f"event {number}" in verify().broken


@pytest.mark.parametrize("column", ["recipient", "evidence", "occurred_at"])
def test_a_value_that_is_only_removed_is_found(database: str, column: str) -> None:
    fill()
    seal()
    change(2, **{column: {} if column == "evidence" else None})
    assert "event 2 " in verify().broken


@hypothesis(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_removal_a_swap_and_a_cut_are_found(sqlite: str, data: st.DataObject) -> None:
    with writing() as connection:
        connection.execute(delete(EVENTS))
    head_file().unlink(missing_ok=True)
    fill()
    seal()
    one = data.draw(st.integers(1, 8))
    other = data.draw(st.integers(1, 8).filter(lambda number: number != one))
    match data.draw(st.sampled_from(["remove", "swap", "cut", "unseal", "renumber"])):
        case "remove":
            with writing() as connection:
                connection.execute(delete(EVENTS).where(EVENTS.c.seal_number == one))
        case "cut":
            with writing() as connection:
                connection.execute(delete(EVENTS).where(EVENTS.c.seal_number >= one))
        case "unseal":
            change(one, seal_number=None, seal=None, previous_seal=None)
        case "renumber":
            change(one, seal_number=99)
        case "swap":
            change(one, seal_number=99)
            change(other, seal_number=one)
            change(99, seal_number=other)
    assert verify().broken


def test_a_cut_tail_is_told_and_stays_told_when_more_is_sealed(database: str) -> None:
    fill()
    seal()
    with writing() as connection:
        connection.execute(delete(EVENTS).where(EVENTS.c.seal_number > 6))
    assert verify().broken.startswith("events 7 to 8 are missing")
    fill(3)
    seal()
    assert verify().broken.startswith("event 8 is not the one")


def test_an_inserted_event_without_the_key_is_found(database: str) -> None:
    fill(2)
    with writing() as connection:
        row = dict(connection.execute(select(EVENTS).where(EVENTS.c.id == 1)).one()._mapping)
        connection.execute(EVENTS.insert().values(**row | {"id": 90, "type": "opt_in"}))
        connection.execute(EVENTS.insert().values(**row | {"id": 91, "evidence_digest": ""}))
    seal()
    assert "event 3 (id 90) is not as it was recorded" in verify().broken


def test_a_chain_of_another_key_is_found(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    seal()
    monkeypatch.setenv("SMS_SECRET_KEY", "another")
    settings.cache_clear()
    assert "event 1 " in verify().broken


def test_erased_events_are_counted_and_what_they_were_cannot_be_replaced(database: str) -> None:
    fill()
    seal()
    change(3, recipient=None, evidence={}, erased_at=now())
    assert (verify().erased, verify().broken) == (1, "")
    change(3, recipient=B)
    assert "evidence of event 3" in verify().broken


def test_without_the_file_beside_the_database_verify_says_so(sqlite: str) -> None:
    fill()
    seal()
    head_file().unlink()
    assert (verify().outside, verify().broken) == (False, "")


def test_events_of_before_there_were_seals_are_sealed_unless_they_were_changed(
    database: str,
) -> None:
    fill(3)
    with writing() as connection:
        rows = consent_chain._frame(connection.execute(consent_chain._stored()).all())
        old = consent_chain._digests(b"consent", rows, consent_chain._BEFORE_SEALS)
        for id, digest in zip(rows["id"].tolist(), old, strict=True):
            connection.execute(
                update(EVENTS)
                .where(EVENTS.c.id == id)
                .values(evidence_digest="", payload_digest=digest)
            )
    seal()
    assert verify().broken == ""


def test_no_break_is_told_with_a_number_or_evidence(sqlite: str, home: Path) -> None:
    fill()
    seal()
    for column in ("recipient", "evidence", "source", "seal"):
        change(2, **{column: CHANGES[column]})
        assert "5550" not in verify().broken
        assert "form" not in verify().broken
