"""Requests of several messages and messages of several parts: what their reports come to."""

from itertools import permutations
from typing import Any

import pytest

from tests.data.reports import AT, event, message, open_events, settle, store, stored

OTHER = "+14155550111"


def part(name: str, status: str = "delivered", **values: Any) -> dict[str, Any]:
    return event(part=name, gateway_message_id=name, status=status, **values)


def test_the_window_and_the_recipient_name_a_message(database: str) -> None:
    store(message(submission="w1"), message(id="m2", submission="w1", recipient=OTHER))
    settle(event(reference=None, submission="w1", recipient=OTHER, gateway_message_id="SM2"))
    assert (stored().status, stored("m2").status) == (None, "delivered")
    assert stored("m2").gateway_message_id == "SM2"


@pytest.mark.parametrize(
    "told",
    [
        {"submission": "w1", "recipient": "+14155550199"},
        {"submission": "w2", "recipient": OTHER},
        {"submission": "w1", "recipient": None},
        {"submission": "w1", "recipient": OTHER, "gateway": "other"},
    ],
    ids=["another number", "another window", "no number", "another gateway"],
)
def test_a_window_alone_names_nobody(database: str, told: dict[str, Any]) -> None:
    store(message(submission="w1", recipient=OTHER))
    settle(event(reference=None, **told))
    assert (stored().status, open_events()) == (None, 1)


def test_our_reference_from_a_gateway_that_did_not_send_it_does_not_match(database: str) -> None:
    store(message())
    settle(event(gateway="other"))
    assert (stored().status, open_events()) == (None, 1)


@pytest.mark.parametrize("at_once", [True, False], ids=["in one page", "one after the other"])
@pytest.mark.parametrize("order", list(permutations(["a", "b", "c"])), ids="".join)
def test_a_message_is_delivered_with_its_last_part(
    database: str, order: tuple[str, ...], at_once: bool
) -> None:
    store(message(segments=3))
    settle(*map(part, order[:2]), limit=9 if at_once else 1)
    assert (stored().status, stored().final_at) == ("sent", None)
    settle(part(order[2]))
    assert (stored().status, stored().final_at) == ("delivered", AT.replace(minute=1))


def test_a_part_that_is_reported_twice_counts_once(database: str) -> None:
    store(message(segments=2))
    settle(part("a"), part("a"))
    settle(part("a"))
    assert stored().status == "sent"


@pytest.mark.parametrize(
    "reports",
    [
        [part("a"), part("b", "undelivered")],
        [part("b", "undelivered"), part("a")],
        [part("a"), part("b", "undelivered"), part("c")],
    ],
    ids=["after", "before", "between"],
)
@pytest.mark.parametrize("limit", [1, 9])
def test_one_part_that_fails_fails_the_message(
    database: str, reports: list[dict[str, Any]], limit: int
) -> None:
    store(message(segments=3))
    settle(*reports, limit=limit)
    assert (stored().status, stored().conflict) == ("undelivered", False)


def test_parts_that_are_all_delivered_after_one_had_failed_contradict_it(database: str) -> None:
    store(message(segments=2))
    settle(part("a"), part("b", "undelivered"))
    settle(part("b"))
    assert (stored().status, stored().conflict) == ("undelivered", True)


def test_what_the_answer_said_of_parts_finds_their_receipts(database: str) -> None:
    store(message(segments=2, gateway_message_id="p1"))
    settle(
        *(part(name, "accepted", source="answer") for name in ("p1", "p2")),
        part("p2", reference=None),
    )
    settle(part("p1", reference=None))
    assert (stored().status, open_events()) == ("delivered", 0)


def test_a_part_that_was_refused_fails_the_message(database: str) -> None:
    store(message(segments=2, gateway_message_id="p1"))
    settle(
        part("p1", "accepted", source="answer"),
        event(source="answer", part="2", status="failed", error_code="9"),
        part("p1", reference=None),
    )
    assert (stored().status, stored().error_code) == ("failed", "9")


def test_an_answer_that_was_stored_twice_finds_its_receipts_all_the_same(database: str) -> None:
    store(message(segments=2, gateway_message_id="p1"))
    told = part("p2", "accepted", source="answer")
    settle(told, told, part("p2", "undelivered", reference=None))
    assert stored().status == "undelivered"


def test_an_id_that_an_smsc_uses_again_is_that_of_the_later_message(database: str) -> None:
    store(message(segments=2), message(id="m2", recipient=OTHER, segments=2))
    settle(
        part("7", "accepted", source="answer"),
        part("7", "accepted", source="answer", reference="m2"),
        part("7", "undelivered", reference=None),
    )
    assert (stored().status, stored("m2").status) == ("accepted", "undelivered")


def test_our_reference_with_the_number_of_somebody_else_does_not_match(database: str) -> None:
    store(message())
    settle(event(recipient=OTHER))
    assert (stored().status, open_events()) == (None, 1)


def test_after_a_restored_backup_any_gateway_may_have_sent_it(database: str) -> None:
    store(message(state="in_doubt", reason="restored"))
    settle(event(gateway="other"))
    assert (stored().state, stored().status, stored().gateway) == ("accepted", "delivered", "other")
