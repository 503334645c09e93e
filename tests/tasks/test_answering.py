"""What follows from replies: one event and one answer for each thing that somebody wants."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import select, update
from sqlmodel import col

from data import consent_ledger, deliveries, frequency, runs
from data.database import now, reading, writing
from data.identity import number_keys
from data.settings import settings
from data.tables import ConsentEvent, InboundMessage, Message
from tasks import answering
from tasks.answering import AskError
from tasks.segments import count_segments

PHONE, OTHER = "+12025550101", "+12025550102"
OURS = "+15005550006"
_ids = count(1)

pytestmark = pytest.mark.usefixtures("database", "brand")


@pytest.fixture
def brand(monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    monkeypatch.setenv("SMS_BRAND", "Acme Shoes")
    monkeypatch.setenv("SMS_HELP_CONTACT", "help.example")
    settings.cache_clear()


def reply(text: str, sender: str = PHONE, *, at: datetime | None = None) -> dict[str, Any]:
    return {
        "gateway": "main",
        "gateway_message_id": f"reply-{next(_ids)}",
        "sender": sender,
        "recipient": OURS,
        "text": text,
        "kind": "",
        "received_at": at or now(),
        "raw": "",
    }


def receive(*rows: dict[str, Any]) -> None:
    """Store replies in one transaction, as the receiver's inbox does."""
    with writing() as connection:
        new = [*map(dict, deliveries.unseen(connection, rows))]
        answering.on_inbound(connection, new)
        deliveries.append_inbound(connection, new)


def events(phone: str = PHONE) -> list[ConsentEvent]:
    table = ConsentEvent.__table__  # type: ignore[attr-defined]
    mine = select(table).where(table.c.number_key == number_keys([phone])[0]).order_by(table.c.id)
    with reading() as connection:
        return [ConsentEvent(**row) for row in connection.execute(mine).mappings()]


def types(phone: str = PHONE) -> list[str]:
    return [event.type for event in events(phone)]


def answers(phone: str = PHONE) -> list[str]:
    with reading() as connection:
        mine = select(col(Message.text)).where(col(Message.recipient) == phone)
        return list(connection.execute(mine.order_by(col(Message.closes_at))).scalars())


def message() -> Any:
    with reading() as connection:
        return connection.execute(select(Message.__table__)).one()  # type: ignore[attr-defined]


def stored() -> list[InboundMessage]:
    table = InboundMessage.__table__  # type: ignore[attr-defined]
    with reading() as connection:
        rows = connection.execute(select(table).order_by(table.c.id)).mappings()
        return [InboundMessage(**row) for row in rows]


def record(type: str, **fields: Any) -> None:
    event = {"basis": "", "occurred_at": now() - timedelta(days=1), "source": "shop", "scope": "*"}
    event |= {"type": type, "recipient": PHONE, "method": "web form", **fields}
    with writing() as connection:
        consent_ledger.append(connection, pd.DataFrame([event]))


# ------------------------------------------------------------------ STOP


def test_a_stop_is_an_opt_out_of_everything_with_its_evidence() -> None:
    said = reply("STOP")
    receive(said)
    (event,) = events()
    assert (event.type, event.scope, event.method) == ("opt_out", "*", "keyword")
    assert event.occurred_at == said["received_at"]
    assert event.evidence["reply"] == said["gateway_message_id"]
    assert (event.evidence["gateway"], event.evidence["our_number"]) == ("main", OURS)
    assert len(event.evidence["reply_hash"]) == 64
    assert event.source == "inbound:STOP"
    (kept,) = stored()
    assert (kept.kind, kept.review, kept.number_key) == ("opt_out", "", number_keys([PHONE])[0])


def test_a_stop_in_other_words_is_looked_at_by_a_person_too() -> None:
    receive(reply("please don't text me again"))
    assert [event.method for event in events()] == ["phrase"]
    assert stored()[0].review == "open"
    assert "don't" not in str(events()[0])


def test_a_stop_is_confirmed_once_from_the_number_written_to_within_five_minutes() -> None:
    said = reply("STOP")
    receive(said)
    sent = message()
    assert (sent.recipient, sent.sender, sent.gateway) == (PHONE, OURS, "main")
    assert (sent.kind, sent.state, sent.country) == ("confirmation", "queued", "US")
    assert sent.closes_at == said["received_at"] + timedelta(minutes=5)
    assert runs.get_run(sent.run_id).purpose == "optout_confirmation"
    assert sent.text.startswith("Acme Shoes: ")
    assert "no more messages" in sent.text


@pytest.mark.parametrize("together", [True, False])
def test_a_second_stop_is_neither_an_event_nor_answered(together: bool) -> None:
    said = [reply("STOP"), reply("Stop."), reply("QUIT")]
    if together:
        receive(*said)
    else:
        for one in said:
            receive(one)
    assert types() == ["opt_out"]
    assert len(answers()) == 1
    assert [kept.kind for kept in stored()] == ["opt_out"] * 3


def test_a_callback_that_comes_again_changes_nothing() -> None:
    said = reply("STOP")
    receive(said)
    receive(said)
    receive(reply("START"))
    receive(said)
    assert types() == ["opt_out", "opt_in"]
    assert len(answers()) == 2


def test_many_people_in_one_commit_are_each_answered() -> None:
    people = [f"+1202555{number:04d}" for number in range(100, 150)]
    receive(*(reply("STOP", phone) for phone in people for _ in range(2)))
    assert {len(answers(phone)) for phone in people} == {1}
    assert {tuple(types(phone)) for phone in people} == {("opt_out",)}


@pytest.mark.parametrize("scope", ["marketing", "transactional"])
def test_a_stop_after_an_opt_out_of_one_purpose_is_a_revocation(scope: str) -> None:
    record("opt_out", scope=scope)
    receive(reply("STOP"))
    assert types() == ["opt_out", "opt_out"]
    assert len(answers()) == 1


def test_a_stop_after_a_later_opt_in_is_a_new_revocation() -> None:
    record("opt_out", occurred_at=now() - timedelta(days=3))
    record("opt_in", scope="marketing", basis="express_written")
    receive(reply("STOP"))
    assert types() == ["opt_out", "opt_in", "opt_out"]
    assert len(answers()) == 1


def test_a_stop_after_an_imported_opt_out_of_everything_is_not_answered() -> None:
    record("opt_out", method="import", occurred_at=None)
    receive(reply("STOP"))
    assert answers() == []


@pytest.mark.parametrize("sender", ["72345", "ACME", "", "+123"])
def test_a_sender_that_is_no_number_waits_for_a_person(sender: str) -> None:
    receive(reply("STOP", sender), reply("STOP"))
    first, second = stored()
    assert (first.kind, first.review, first.number_key) == ("review", "open", "")
    assert second.kind == "opt_out"


def test_a_number_of_no_plan_can_opt_out_all_the_same() -> None:
    receive(reply("STOP", "+19990000000"))
    assert types("+19990000000") == ["opt_out"]


def test_a_reply_that_cannot_be_read_waits_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(answering.replies, "classify", fail)
    receive(reply("STOP"))
    assert (stored()[0].kind, stored()[0].review) == ("review", "open")


def test_a_gateway_that_does_not_say_which_number_was_written_to_is_not_answered() -> None:
    receive(reply("STOP") | {"recipient": ""})
    assert types() == ["opt_out"]
    assert answers() == []


def test_two_receivers_that_hear_one_stop_confirm_it_once() -> None:
    said = reply("STOP")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: receive(said), range(4)))
    assert types() == ["opt_out"]
    assert len(answers()) == 1


def test_an_answer_does_not_count_for_frequency_caps() -> None:
    receive(reply("STOP"), reply("START"))
    with writing() as connection:
        connection.execute(update(Message).values(state="accepted", submitted_at=now()))
        keys = pd.Series(number_keys([PHONE]))
        since = now() - timedelta(days=1)
        assert frequency.sent(connection, keys, since=since, besides="").empty


# ------------------------------------------------------------------ START


def test_a_start_lifts_a_stop_and_is_welcomed() -> None:
    receive(reply("STOP"))
    receive(reply("START"))
    assert types() == ["opt_out", "opt_in"]
    assert (events()[1].scope, events()[1].basis, events()[1].method) == ("*", "express", "keyword")
    welcome = next(text for text in answers() if "no more messages" not in text)
    assert "STOP" in welcome
    assert "HELP" in welcome
    assert welcome.startswith("Acme Shoes: ")


def test_a_start_goes_on_with_the_basis_of_the_last_opt_in() -> None:
    record("opt_in", basis="express_written")
    receive(reply("STOP"))
    receive(reply("START"))
    assert events()[-1].basis == "express_written"


def test_replies_of_one_instant_count_in_their_order() -> None:
    at = now()
    receive(reply("STOP", at=at), reply("START", at=at))
    with reading() as connection:
        keys = pd.Series(number_keys([PHONE]))
        people = consent_ledger.standing(connection, keys, "marketing").people
    assert not people["opted_out"].item()


def test_stop_start_stop_are_two_revocations() -> None:
    receive(reply("STOP"), reply("START"), reply("STOP"))
    assert types() == ["opt_out", "opt_in", "opt_out"]
    assert sum("no more messages" in text for text in answers()) == 2


# ------------------------------------------------------------------ HELP


def test_help_is_answered_with_brand_and_contact_once_an_hour() -> None:
    at = datetime(2026, 11, 24, 10, 20, tzinfo=UTC)
    receive(reply("HELP", at=at), reply("help", at=at + timedelta(minutes=10)))
    receive(reply("HELP", at=at + timedelta(minutes=30)))
    assert answers() == ["Acme Shoes: For help: help.example. Reply STOP to opt out."]
    receive(reply("HELP", at=at + timedelta(hours=1)))
    assert len(answers()) == 2
    assert types() == []


def test_help_without_a_contact_waits_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMS_HELP_CONTACT", "")
    settings.cache_clear()
    receive(reply("HELP"))
    assert answers() == []
    (kept,) = stored()
    assert (kept.kind, kept.why, kept.review) == ("help", "no help contact", "open")


def test_help_from_somebody_opted_out_is_not_answered() -> None:
    receive(reply("STOP"), reply("HELP"))
    assert len(answers()) == 1
    assert stored()[1].review == "open"


# ------------------------------------------------------------------ the question


def ask(phone: str = PHONE) -> str:
    return answering.ask(phone, "main", "weekly offers", "shop counter", sender=OURS)


def test_a_yes_to_the_question_is_written_consent_with_its_evidence() -> None:
    question = ask()
    sent = message()
    assert sent.id == question
    assert sent.text == "Acme Shoes: Reply YES to get weekly offers. Reply STOP to opt out."
    yes = reply("Yes")
    receive(yes)
    pending, given = events()
    assert (pending.type, given.type) == ("opt_in_pending", "opt_in")
    assert (given.basis, given.method, given.scope) == (
        "express_written",
        "double_opt_in",
        "marketing",
    )
    assert given.evidence["question"] == question
    assert given.evidence["reply"] == yes["gateway_message_id"]
    assert given.text_hash == pending.text_hash != ""
    assert given.wording_version == pending.wording_version != ""


def test_a_yes_without_a_question_waits_for_a_person() -> None:
    receive(reply("YES"))
    assert types() == []
    assert answers() == []
    assert (stored()[0].kind, stored()[0].review) == ("review", "open")


@pytest.mark.parametrize(("days", "counts"), [(6.9, True), (7.1, False)])
def test_a_yes_counts_for_seven_days(days: float, counts: bool) -> None:
    ask()
    receive(reply("YES", at=now() + timedelta(days=days)))
    assert ("opt_in" in types()) == counts


def test_a_second_yes_says_nothing() -> None:
    ask()
    receive(reply("YES"), reply("YES"))
    assert types() == ["opt_in_pending", "opt_in"]
    assert stored()[1].kind == "review"


def test_a_stop_ends_the_question() -> None:
    ask()
    receive(reply("STOP"), reply("YES"))
    assert types() == ["opt_in_pending", "opt_out"]


def test_nobody_who_opted_out_is_asked() -> None:
    receive(reply("STOP"))
    with pytest.raises(AskError, match="opted out"):
        ask()
    assert types() == ["opt_out"]


def test_nobody_is_asked_twice_who_has_not_answered() -> None:
    ask()
    with writing() as connection:
        connection.execute(update(ConsentEvent).values(occurred_at=now() - timedelta(days=30)))
    with pytest.raises(AskError, match="has not answered") as caught:
        ask()
    assert PHONE not in str(caught.value)
    assert len(answers()) == 1


def test_two_who_ask_at_one_time_ask_once() -> None:
    def try_to(_: int) -> str:
        try:
            return ask()
        except AskError:
            return ""

    ask(OTHER)  # the run of the day is there
    with ThreadPoolExecutor(8) as pool:
        assert sum(map(bool, pool.map(try_to, range(8)))) == 1
    assert types() == ["opt_in_pending"]
    assert len(answers()) == 1


@pytest.mark.parametrize("number", ["12345", "nobody", "", "+1"])
def test_what_is_no_number_is_not_asked(number: str) -> None:
    with pytest.raises(AskError, match="no telephone number"):
        ask(number)


# ------------------------------------------------------------------ the words


@pytest.mark.parametrize(
    "text",
    [
        answering.answer_texts.confirmation,
        answering.answer_texts.welcome,
        answering.answer_texts.help_answer,
        lambda: answering.answer_texts.question("our weekly offers"),
    ],
)
def test_every_answer_is_one_segment(text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMS_BRAND", "Northwind Traders Ltd")
    monkeypatch.setenv("SMS_HELP_CONTACT", "northwind.example/help")
    settings.cache_clear()
    assert count_segments(text()) == ("GSM-7", 1)
