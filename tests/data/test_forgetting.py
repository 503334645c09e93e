"""Erasing a number: nothing personal stays, nobody writes to it again, everything still adds up."""

import json
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Text, cast, insert, select, update
from sqlmodel import SQLModel

from data import consent_chain, ledger, plan, results, runs
from data.database import now, reading, writing
from data.forgetting import ForgetError, forget, history
from data.identity import number_keys
from data.tables import CampaignRun, Exclusion
from tests import plans
from tests.data.consent_events import NOON, events, opt_in, record

TABLES = SQLModel.metadata.tables
GONE, OTHER = plans.numbers(2)
TEXT = "Dear Ms Smith"


def everything() -> str:
    """All that is stored, as one text."""
    told = []
    with reading() as connection:
        for name in TABLES:
            table = TABLES[name]
            columns = [cast(column, Text) for column in table.c]
            told += [str(tuple(row)) for row in connection.execute(select(*columns))]
    return "\n".join(told)


def sending_run(**columns: Any) -> CampaignRun:
    """A run with a message to each, and an exclusion of each."""
    run = plans.open_run()
    plans.add_messages(run, [GONE, OTHER], text=TEXT, **columns)
    rows = pd.DataFrame(
        {
            "run_id": run.id,
            "row": [3, 4],
            "recipient": [GONE, OTHER],
            "outcome": "duplicate",
            "reason": "duplicate",
            "detail": [f"same as {GONE}", ""],
            "column": "",
            "rule": "",
        }
    )
    plan.add_to_plan(pd.DataFrame(columns=["id"]), rows[list(Exclusion.model_fields)])
    runs.store(run.id, records_read=4)
    return run


def add(table: str, **values: object) -> None:
    with writing() as connection:
        connection.execute(insert(TABLES[table]).values(**values))


def report(**values: object) -> None:
    usual = {"gateway": "sandbox", "source": "callback", "status": "delivered", "received_at": NOON}
    add("delivery_event", **usual | values)


def reply(sender: str, text: str) -> None:
    (key,) = number_keys([sender])
    add(
        "inbound_message",
        gateway="sandbox",
        gateway_message_id="SM1",
        sender=sender,
        recipient="+15005550006",
        text=text,
        number_key=key,
        kind="review",
        review="open",
        received_at=NOON,
        raw=f"From=%2B{sender[1:]}",
    )


def fill() -> CampaignRun:
    run = sending_run()
    record(
        events(
            opt_in(NOON, recipient=GONE, scope="*", evidence={"name": TEXT}),
            opt_in(NOON, recipient=OTHER),
        )
    )
    report(recipient=GONE, raw="whatever")
    report(recipient=None, raw=f"To=%2B{GONE[1:]}&Body=x")
    report(recipient=OTHER, raw=OTHER)
    reply(GONE, TEXT)
    reply(OTHER, "hm")
    with writing() as connection:
        results.rebuild(connection, run.id)
    return run


def test_nothing_of_the_number_stays_and_everything_of_others(database: str) -> None:
    fill()
    consent_chain.seal()
    before = everything()
    done = forget(GONE)
    after = everything()
    assert GONE[1:] in before
    assert GONE[1:] not in after
    assert after.count(TEXT) == 1
    assert after.count(OTHER[1:]) == before.count(OTHER[1:])
    assert (done.events, done.messages, done.suppressed) == (1, 1, 1)
    assert (done.exclusions, done.reports, done.replies, done.unreported) == (1, 2, 1, 0)


def test_it_gets_nothing_more_by_any_list(database: str) -> None:
    run = fill()
    forget(GONE)
    claimed = ledger.claim(run, 0, gateway="sandbox", sender="s", lease=timedelta(60), limit=10)
    assert [message.recipient for message in claimed] == [OTHER]
    later = plans.open_run("later")
    plans.add_messages(later, [GONE])
    assert (
        ledger.claim(later, 0, gateway="sandbox", sender="s", lease=timedelta(60), limit=10) == []
    )


def test_the_results_still_add_up(database: str) -> None:
    run = fill()
    forget(GONE)
    with writing() as connection:
        as_they_are = results.check(connection, run.id).outcomes
        assert not results.is_behind(connection, run.id)
        results.rebuild(connection, run.id)
        again = results.check(connection, run.id).outcomes
    assert as_they_are == again == {"duplicate": 2, "suppressed": 1, "pending": 1}
    assert GONE not in everything()


def test_the_chain_stays_whole_and_counts_the_erased(database: str) -> None:
    fill()
    consent_chain.seal()
    forget(GONE)
    consent_chain.seal()
    found = consent_chain.verify()
    assert (found.sealed, found.erased, found.broken) == (3, 2, "")


def test_events_of_before_there_were_seals_can_be_proven_after_they_are_erased(
    database: str,
) -> None:
    fill()
    with writing() as connection:
        rows = consent_chain._frame(connection.execute(consent_chain._stored()).all())
        old = consent_chain._digests(b"consent", rows, consent_chain._BEFORE_SEALS)
        for id, digest in zip(rows["id"].tolist(), old, strict=True):
            table = TABLES["consent_event"]
            values = {"evidence_digest": "", "payload_digest": digest}
            connection.execute(update(table).where(table.c.id == id).values(values))
    forget(GONE)
    consent_chain.seal()
    assert consent_chain.verify().broken == ""


def test_erasing_again_changes_nothing(database: str) -> None:
    fill()
    forget(GONE)
    before = everything()
    done = forget(GONE)
    assert everything() == before
    assert (done.events, done.messages, done.reports, done.replies) == (0, 0, 0, 0)


def test_who_comes_back_can_be_erased_again(database: str) -> None:
    fill()
    forget(GONE)
    record(events(opt_in(now(), recipient=GONE, scope="*")))
    assert forget(GONE).events == 1
    told = [event["method"] for event in history(GONE)["consent_events"]]
    assert told == ["web_form", "erasure", "web_form", "erasure"]


def test_a_number_that_nobody_knows_is_kept_from_lists_all_the_same(database: str) -> None:
    done = forget(GONE)
    assert (done.events, done.messages) == (0, 0)
    (event,) = history(GONE)["consent_events"]
    assert (event["type"], event["scope"], event["recipient"]) == ("opt_out", "*", None)


def test_a_message_that_is_being_sent_is_waited_for(database: str) -> None:
    sending_run(state=ledger.SENDING)
    before = everything()
    with pytest.raises(ForgetError, match="is being sent at this moment") as caught:
        forget(GONE)
    assert everything() == before
    assert GONE[1:] not in str(caught.value)


def test_a_message_that_may_have_been_accepted_is_in_doubt_and_not_suppressed(
    database: str,
) -> None:
    run = sending_run(resend_until=pd.Timestamp(now() + timedelta(1)))
    assert forget(GONE).unreported == 1
    assert sorted(plans.states(run)) == ["in_doubt", "queued"]


def test_a_reply_that_waited_for_a_person_does_not_wait_any_more(database: str) -> None:
    fill()
    forget(GONE)
    (told,) = history(GONE)["replies"]
    assert (told["review"], told["text"]) == ("opt_out", "")


def test_the_history_of_a_number_is_all_that_is_stored_of_it(database: str) -> None:
    run = fill()
    consent_chain.seal()
    told = history(GONE)
    (event,) = told["consent_events"]
    assert (event["type"], event["recipient"], event["seal_number"]) == ("opt_in", GONE, 1)
    assert event["seal"]
    (message,) = told["messages"]
    assert (message["run_id"], message["campaign"], message["text"]) == (run.id, "sale", TEXT)
    assert [one["text"] for one in told["replies"]] == [TEXT]
    assert json.dumps(told, default=str)
