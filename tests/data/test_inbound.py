"""Replies that a person looks at: who is held meanwhile, and what a decision writes."""

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import insert, literal, select

from data import inbound
from data.consent_standing import Standing, standing
from data.database import reading, writing
from data.identity import number_keys
from data.inbound import InboundError
from data.tables import ConsentEvent, InboundMessage
from tests.data.consent_events import DAY, NOON, A, B, events, opt_in, opt_out, record

EVENTS = ConsentEvent.metadata.tables["consent_event"]


def reply(id: int, kind: str = "review", sender: str = A, **other: Any) -> int:
    """Store a reply that waits for a person."""
    row = {
        "id": id,
        "gateway": "sandbox",
        "gateway_message_id": f"in-{id}",
        "sender": sender,
        "recipient": "+15005550006",
        "text": "hm?",
        "number_key": number_keys([A if sender.lstrip("+0") == A[1:] else sender])[0],
        "kind": kind,
        "why": "phrase",
        "review": "open",
        "received_at": NOON + timedelta(minutes=id),
        "raw": "",
    }
    with writing() as connection:
        connection.execute(insert(InboundMessage), [row | other])
    return id


def suspected(id: int, **other: Any) -> int:
    """Store a reply that was acted on, and its opt-out."""
    reply(id, "opt_out", **other)
    evidence = {"reply": f"in-{id}", "gateway": "sandbox"}
    at = NOON + timedelta(minutes=id)
    record(events(opt_out(at, scope="*", method="phrase", evidence=evidence)))
    return id


def stands(purpose: str = "marketing") -> Standing:
    with reading() as connection:
        return standing(connection, pd.Series(number_keys([A])), purpose)


def opted_out(purpose: str = "marketing") -> bool:
    return bool(stands(purpose).people["opted_out"].any())


def recorded() -> list[Any]:
    with reading() as connection:
        return list(connection.execute(select(EVENTS).order_by(EVENTS.c.id)))


@pytest.mark.parametrize(
    ("kind", "review", "is_held"),
    [
        ("review", "open", True),
        ("review", "none", False),
        ("opt_out", "open", False),
        ("none", "", False),
    ],
)
def test_only_senders_of_an_open_unclear_reply_are_held(
    database: str, kind: str, review: str, is_held: bool
) -> None:
    reply(1, kind, review=review)
    keys = number_keys([A, B])
    with reading() as connection:
        held = inbound.held(connection, pd.Series([*keys, None]))
        one = connection.execute(select(inbound.is_held(literal(keys[0])))).scalar_one()
        other = connection.execute(select(inbound.is_held(literal(keys[1])))).scalar_one()
    assert (held, bool(one), bool(other)) == (frozenset(keys[:1] * is_held), is_held, False)


def test_the_queue_holds_what_waits_oldest_first(sqlite: str) -> None:
    reply(3)
    reply(2, "opt_out")
    reply(1, "opt_out", review="")
    reply(4, review="none")
    assert [waiting.id for waiting in inbound.queue()] == [2, 3]
    assert ([waiting.id for waiting in inbound.queue(1)], inbound.count_open()) == ([2], 2)


def test_an_opt_out_decided_by_a_person_stands_from_the_reply_on(database: str) -> None:
    record(events(opt_in(NOON)))
    inbound.decide(reply(5), "opt_out", "ann")
    told = recorded()[-1]
    assert (told.type, told.scope, told.method) == ("opt_out", "*", "review:ann")
    assert told.occurred_at == NOON + timedelta(minutes=5)
    assert (told.evidence["reply_id"], told.evidence["decided_by"]) == (5, "ann")
    assert opted_out()


def test_an_opt_in_decided_by_a_person_lifts_an_earlier_opt_out(sqlite: str) -> None:
    record(events(opt_out(NOON, scope="*")))
    inbound.decide(reply(5), "opt_in", "ann")
    assert not opted_out()
    assert stands().consents["basis"].tolist() == ["express"]


def test_nothing_made_of_a_held_reply_only_releases_its_sender(sqlite: str) -> None:
    inbound.decide(reply(5), "none", "ann")
    stored = inbound.find(5)
    assert (stored.review, stored.reviewed_by, stored.reviewed_at is None) == ("none", "ann", False)
    assert recorded() == []
    with reading() as connection:
        assert inbound.held(connection, pd.Series(number_keys([A]))) == frozenset()


def test_a_confirmed_suspicion_needs_no_second_opt_out(sqlite: str) -> None:
    inbound.decide(suspected(5), "opt_out", "ann")
    assert [told.type for told in recorded()] == ["opt_out"]


def test_a_suspicion_taken_back_restores_what_was_consented_to_and_no_more(database: str) -> None:
    record(
        events(
            opt_in(NOON - DAY, basis="express_written"),
            opt_in(NOON - DAY, scope="transactional", basis="express"),
        )
    )
    inbound.decide(suspected(5), "none", "ann")
    corrected, *corrections = recorded()[2:]
    assert {told.type for told in corrections} == {"opt_in"}
    assert {told.evidence["corrects"] for told in corrections} == {corrected.id}
    after = {told.occurred_at - corrected.occurred_at for told in corrections}
    assert after == {timedelta(microseconds=1)}
    assert not any(map(opted_out, ("marketing", "transactional", "alert")))
    for purpose, bases in (
        ("marketing", {"express_written"}),
        ("transactional", {"express"}),
        ("alert", set()),
    ):
        assert set(stands(purpose).consents["basis"]) - {""} == bases, purpose


def test_taking_a_suspicion_back_never_lifts_an_earlier_opt_out(sqlite: str) -> None:
    record(events(opt_in(NOON - 2 * DAY, basis="express_written"), opt_out(NOON - DAY, scope="*")))
    inbound.decide(suspected(5), "none", "ann")
    assert opted_out()
    assert len(recorded()) == 3


def test_taking_a_suspicion_back_never_lifts_an_undated_opt_out(sqlite: str) -> None:
    record(events(opt_out(None, scope="*")))
    inbound.decide(suspected(5), "none", "ann")
    assert opted_out()


def test_taking_a_suspicion_back_never_lifts_a_later_opt_out(sqlite: str) -> None:
    suspected(5)
    record(events(opt_out(NOON + DAY, scope="*")))
    inbound.decide(5, "none", "ann")
    assert opted_out()


def test_suspicions_of_one_number_are_taken_back_in_their_order(sqlite: str) -> None:
    suspected(5)
    suspected(6)
    with pytest.raises(InboundError, match=r"reply 5 .* decide it first"):
        inbound.decide(6, "none", "ann")
    assert inbound.find(6).review == "open"
    inbound.decide(5, "none", "ann")
    assert opted_out()
    inbound.decide(6, "none", "ann")
    assert not opted_out()


def test_a_decision_is_made_once(database: str) -> None:
    inbound.decide(reply(5), "none", "ann")
    with pytest.raises(InboundError, match="reply 5 was decided already: none, by ann at 20"):
        inbound.decide(5, "opt_in", "bob")
    assert (inbound.find(5).reviewed_by, recorded()) == ("ann", [])


@pytest.mark.parametrize(
    ("id", "decision", "by", "said"),
    [
        (9, "none", "ann", "no reply 9; `sms inbound review`"),
        (5, "maybe", "ann", "'maybe' is no decision: use one of opt_out,"),
        (5, "none", " ", "needs the name"),
        (5, "opt_in", "crm import", "needs the name"),
        (6, "none", "ann", "reply 6 needs no decision: it was understood as help"),
    ],
)
def test_a_decision_that_means_nothing_is_refused(
    sqlite: str, id: int, decision: str, by: str, said: str
) -> None:
    reply(5)
    reply(6, "help", review="")
    with pytest.raises(InboundError, match=said):
        inbound.decide(id, decision, by)
    assert (inbound.find(5).review, recorded()) == ("open", [])


@pytest.mark.parametrize("sender", [A, A[1:], f"00{A[1:]}"])
def test_a_sender_is_known_however_the_gateway_writes_the_number(sqlite: str, sender: str) -> None:
    inbound.decide(reply(5, sender=sender), "opt_out", "ann")
    assert recorded()[0].recipient == A


def test_a_sender_without_a_number_can_only_be_released(sqlite: str) -> None:
    reply(5, sender="ACME", number_key="")
    with pytest.raises(InboundError, match="only `none` can be decided"):
        inbound.decide(5, "opt_out", "ann")
    inbound.decide(5, "none", "ann")
    assert inbound.find(5).review == "none"
