"""Delivery reports onto messages: matching, the lattice, and what a report proves."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from data import deliveries
from data.database import reading, writing
from data.tables import InboundMessage
from tests.data.reports import (
    AT,
    EVENTS,
    MESSAGES,
    event,
    message,
    open_events,
    settle,
    store,
    stored,
)

FINALS = [status for status, rank in deliveries.RANK.items() if rank == deliveries.FINAL]


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({}, {"reference": "m1"}),
        ({"gateway_message_id": "SM1"}, {"reference": None, "gateway_message_id": "SM1"}),
        ({"gateway_message_id": "SM1"}, {"reference": "other", "gateway_message_id": "SM1"}),
        (
            {"gateway_message_id": "B1"},
            {"reference": None, "batch_id": "B1", "recipient": "+14155550100"},
        ),
    ],
    ids=["reference", "gateway id", "unknown reference", "batch and number"],
)
def test_a_report_finds_its_message(
    database: str, known: dict[str, Any], told: dict[str, Any]
) -> None:
    store(message(**known), message(id="m2", recipient="+14155550111", gateway_message_id="B2"))
    settle(event(**told))
    assert (stored().status, stored("m2").status) == ("delivered", None)


def test_a_gateway_id_of_another_gateway_does_not_match(database: str) -> None:
    store(message(gateway_message_id="SM1"))
    settle(event(reference=None, gateway_message_id="SM1", gateway="other"))
    assert stored().status is None


def test_a_report_that_fits_two_messages_waits(database: str) -> None:
    store(message(gateway_message_id="B"), message(id="m2", gateway_message_id="B"))
    settle(event(reference=None, gateway_message_id="B"))
    assert open_events() == 1


def test_a_report_before_its_message_is_matched_later(database: str) -> None:
    settle(event(reference=None, gateway_message_id="SM1"))
    store(message(gateway_message_id="SM1"))
    settle()
    assert (stored().status, open_events()) == ("delivered", 0)


def test_unmatched_reports_do_not_starve_new_ones(database: str) -> None:
    store(message())
    settle(*[event(reference=f"nobody{number}") for number in range(5)], event(), limit=2)
    assert (stored().status, open_events()) == ("delivered", 5)


def test_old_unmatched_reports_are_left_out(database: str) -> None:
    store(message())
    settle(event(received_at=AT - timedelta(days=8)))
    assert (stored().status, open_events()) == (None, 1)


@pytest.mark.parametrize("state", ["sending", "in_doubt", "queued", "failed", "cancelled"])
def test_any_report_proves_acceptance(database: str, state: str) -> None:
    store(message(state=state, reason="timeout", submitted_at=None, final_at=AT))
    settle(event(status="queued", gateway_message_id="SM1"))
    found = stored()
    assert (found.state, found.reason, found.final_at) == ("accepted", "", None)
    assert found.gateway_message_id == "SM1"
    assert found.submitted_at == AT + timedelta(minutes=1)


def test_a_report_does_not_touch_a_message_that_was_never_claimed(database: str) -> None:
    store(message(state="queued", attempt=0))
    settle(event(status="queued"))
    assert stored().state == "queued"


@pytest.mark.parametrize(
    ("status", "state"), [("sent", "expired"), ("delivered", "accepted"), ("failed", "accepted")]
)
def test_our_own_expiry_gives_way_to_a_final_report(database: str, status: str, state: str) -> None:
    store(message(state="expired", reason="no_report"))
    settle(event(status=status))
    assert (stored().state, stored().conflict) == (state, False)


def test_the_first_final_stands_and_the_other_is_flagged(database: str) -> None:
    store(message())
    settle(event(status="failed", error_code="30005", occurred_at=AT))
    settle(event(status="delivered"))
    found = stored()
    assert (found.status, found.error_code, found.final_at) == ("failed", "30005", AT)
    assert found.conflict
    with reading() as connection:
        assert len(connection.execute(select(EVENTS)).all()) == 2


def test_a_report_brings_the_price(database: str) -> None:
    store(message())
    settle(event(source="poll", price=Decimal("0.00790"), currency="USD"), event(status="sent"))
    found = stored()
    assert (found.price, found.currency, found.status) == (Decimal("0.00790"), "USD", "delivered")


def test_an_opt_out_is_told_once(database: str) -> None:
    store(message(), message(id="m2", recipient="+14155550111"))
    out = event(status="undelivered", error_class="optout", error_code="21610")
    (first,) = settle(out, out, event(reference="m2"))
    assert first.to_dict("records") == [
        {
            "recipient": "+14155550100",
            "reason": "gateway_21610",
            "gateway": "main",
            "occurred_at": pd.Timestamp(AT + timedelta(minutes=1)),
        }
    ]
    (again,) = settle(out)
    assert again.empty


def test_of_opt_outs_by_several_messages_the_latest_is_told(database: str) -> None:
    # Told of the first alone, an opt-in between them would lift the second.
    store(message(), message(id="m2", request_key="m2"))
    later = {"received_at": AT + timedelta(minutes=9), "reference": "m2"}
    out = {"status": "undelivered", "error_class": "optout"}
    (told,) = settle(event(**out), event(**out | later))
    assert told["occurred_at"].tolist() == [pd.Timestamp(AT + timedelta(minutes=9))]


def test_a_crash_between_matching_and_applying_loses_nothing(database: str) -> None:
    store(message())
    with writing() as connection:
        deliveries.append(connection, [event()])

    def crash() -> None:
        with writing() as connection:
            deliveries.match(connection, since=AT - timedelta(days=7))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    settle()
    assert stored().status == "delivered"


def test_events_may_come_as_a_frame(database: str) -> None:
    store(message())
    frame = pd.DataFrame([event(price="0.01", currency="EUR")])
    frame["received_at"] = frame["received_at"].astype("datetime64[us, UTC]")
    with writing() as connection:
        deliveries.append(connection, frame)
    settle()
    assert (stored().status, stored().price) == ("delivered", Decimal("0.01"))


REPLY = {
    "gateway": "main",
    "gateway_message_id": "SM9",
    "sender": "+14155550100",
    "recipient": "+15005550006",
    "text": "STOP",
    "kind": "",
    "received_at": AT,
    "raw": "",
}


def test_inbound_messages_are_stored(database: str) -> None:
    with writing() as connection:
        deliveries.append_inbound(connection, [REPLY])
    with reading() as connection:
        table = InboundMessage.__table__  # type: ignore[attr-defined]
        assert connection.execute(select(table)).one().text == "STOP"


def test_an_inbound_message_that_is_stored_is_known_when_it_comes_again(database: str) -> None:
    again = REPLY | {"received_at": AT + timedelta(days=1), "raw": "again"}
    others = [
        REPLY | {"gateway": "other"},
        REPLY | {"gateway_message_id": "SM10"},
        # An SMSC counts anew one day.
        REPLY | {"sender": "+14155550101"},
        REPLY | {"text": "START"},
    ]
    nameless = REPLY | {"gateway_message_id": ""}
    with writing() as connection:
        assert deliveries.unseen(connection, [REPLY, again]) == [REPLY]
        deliveries.append_inbound(connection, [REPLY, nameless])
    with writing() as connection:
        assert deliveries.unseen(connection, [again, *others, *others]) == others
        assert deliveries.unseen(connection, [nameless] * 2) == [nameless] * 2


REPORTS = st.lists(st.sampled_from(list(deliveries.RANK)), min_size=1, max_size=7)


@given(pages=st.lists(REPORTS, min_size=1, max_size=3), data=st.data())
@property_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_lattice_holds_for_any_order(
    sqlite: str, pages: list[list[str]], data: st.DataObject
) -> None:
    with writing() as connection:
        connection.execute(delete(MESSAGES))
        connection.execute(delete(EVENTS))
    store(message(), message(id="m2"))
    seen: list[str] = []
    for page in pages:
        before = stored()
        settle(*[event(status=status) for status in page])
        seen += page
        after = stored()
        ends = [status for status in seen if status in FINALS]
        assert after.status_rank >= before.status_rank
        assert after.status_rank == max(deliveries.RANK[status] for status in seen)
        assert after.status == (ends[0] if ends else max(seen, key=lambda s: deliveries.RANK[s]))
        assert after.conflict == (len(set(ends)) > 1)
    settle(*[event(status=status) for status in seen if status in {stored().status, "sent"}])
    assert stored() == after
    shuffled = data.draw(st.permutations(seen))
    settle(*[event(reference="m2", status=status) for status in shuffled])
    other = stored("m2")
    assert (other.status_rank, other.conflict) == (after.status_rank, after.conflict)
    if not ends:
        assert other.status == after.status
