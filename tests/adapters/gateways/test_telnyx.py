"""Telnyx' wire format: requests as they must be, answers as they must be understood."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import (
    Answer,
    ErrorClass,
    Outgoing,
    Report,
    Status,
)
from adapters.gateways.telnyx import TelnyxSettings
from tests.adapters.gateways.examples.telnyx import PUBLIC
from tests.adapters.gateways.telnyx_account import KEY, PROFILE, telnyx
from tests.adapters.gateways.wire import Reset, Respond, Wire

pytestmark = pytest.mark.anyio


def message(**changes: Any) -> Outgoing:
    values = {
        "id": "m1",
        "to": "+12125550101",
        "text": "Hello",
        "sender": "+15005550006",
        "encoding": "GSM-7",
        "segments": 1,
    }
    return Outgoing(**(values | changes))


ACCEPTED = Respond(
    200, {"data": {"id": "u1", "to": [{"status": "queued"}], "parts": 2, "cost": None}}
)


async def answer_to(wire: Wire, reply: Respond, **changes: Any) -> Answer:
    wire.script = [reply]
    async with telnyx(wire.url) as gateway:
        [answer] = await gateway.submit([message(**changes)])
    return answer


def refused(status: int, *codes: object, **headers: str) -> Respond:
    errors = [{"code": code, "title": "No", "detail": "+12125550101 not"} for code in codes]
    return Respond(status, {"errors": errors}, headers)


# Submission: the request


async def test_a_message_is_one_request_with_our_reference_in_callback_and_key(wire: Wire) -> None:
    await answer_to(wire, ACCEPTED)
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", "/v2/messages")
    assert json.loads(request.body) == {
        "from": "+15005550006",
        "to": "+12125550101",
        "text": "Hello",
        "type": "SMS",
        "encoding": "auto",
        "webhook_url": "http://127.0.0.1:8780/gateways/main/reports?ref=m1",
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == "m1"


@pytest.mark.parametrize(
    "text", ["x" * 1530, "🎉" * 300, 'a+b&c=d %41\r\n\t€[~]"\\', "שלום 你好 👩‍👩‍👧", " \n "]
)
async def test_a_text_arrives_as_it_is(wire: Wire, text: str) -> None:
    await answer_to(wire, ACCEPTED, text=text)
    assert json.loads(wire.requests[0].body)["text"] == text


async def test_a_text_planned_as_ucs2_is_sent_as_ucs2(wire: Wire) -> None:
    await answer_to(wire, ACCEPTED, encoding="UCS-2")
    assert json.loads(wire.requests[0].body)["encoding"] == "ucs2"


async def test_a_profile_picks_the_sender_where_none_is_named(wire: Wire) -> None:
    wire.script = [ACCEPTED]
    async with telnyx(wire.url, messaging_profile_id=PROFILE) as gateway:
        await gateway.submit([message(sender="")])
    body = json.loads(wire.requests[0].body)
    assert body["messaging_profile_id"] == PROFILE
    assert "from" not in body


async def test_a_message_sent_again_is_the_same_request(wire: Wire) -> None:
    wire.script = [Reset(), ACCEPTED]
    async with telnyx(wire.url) as gateway:
        [first] = await gateway.submit([message(deadline=datetime.now(UTC) + timedelta(hours=2))])
        [second] = await gateway.submit([message(deadline=datetime.now(UTC) + timedelta(hours=1))])
    assert (first.outcome, second.outcome) == ("unknown", "accepted")
    assert len({request.body for request in wire.requests}) == 1
    assert {request.headers["idempotency-key"] for request in wire.requests} == {"m1"}


# Submission: the answer


async def test_an_accepted_message_has_id_segments_and_cost(wire: Wire) -> None:
    assert await answer_to(wire, ACCEPTED) == Answer("m1", "accepted", "u1", segments=2)
    cost = {"amount": 0.0051, "currency": "USD"}
    answer = await answer_to(wire, Respond(200, {"data": {"id": "u1", "cost": cost}}))
    assert (answer.price, answer.currency) == (Decimal("0.0051"), "USD")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, "10011", "retry"),
        (429, None, "retry"),
        (400, "40318", "retry"),
        (400, "40300", "optout"),
        (403, "40300", "optout"),
        (400, "40310", "recipient"),
        (400, 40310, "recipient"),
        (422, "10016", "recipient"),
        (403, "40309", "recipient"),
        (400, "40001", "recipient"),
        (400, "40305", "content"),
        (422, "40302", "content"),
        (429, "40333", "account"),
        (401, "10009", "account"),
        (401, None, "account"),
        (403, "10010", "account"),
        (403, None, "account"),
        (402, "20100", "account"),
        (404, None, "account"),
        (403, "20013", "account"),
        # Codes that nobody has listed: one message, or the account.
        (400, "40999", "recipient"),
        (400, "10999", "recipient"),
        (403, "20999", "account"),
    ],
)
async def test_a_refusal_has_the_class_of_its_code(
    wire: Wire, status: int, code: str | None, expected: str
) -> None:
    answer = await answer_to(wire, refused(status, code) if code else Respond(status, b"<html>"))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert answer.error_code == (str(code) if code else None)
    assert "2125550" not in answer.error_text
    assert len(wire.requests) == 1


async def test_of_several_errors_the_known_one_counts(wire: Wire) -> None:
    answer = await answer_to(wire, refused(400, "99999", "40300"))
    assert (answer.error_code, answer.error_class) == ("40300", ErrorClass.OPTOUT)


@pytest.mark.parametrize(
    "reply",
    [
        refused(500, "10007"),
        refused(500, "40300"),
        refused(503, "10011"),
        refused(408, "10008"),
        # The key was taken by another request, or with another body: nothing more is told.
        Respond(409, b""),
        refused(409, "10012"),
        refused(422, "10027"),
        Respond(422, b""),
        Respond(400, b"<html>"),
        Respond(400, {"errors": []}),
        Respond(400, {"errors": [{"title": "no code"}]}),
        Respond(302, b"", {"location": "/"}),
        Respond(200, b""),
        Respond(200, {"data": {}}),
        Respond(200, {"data": {"id": ["u1"]}}),
        Respond(200, {"id": "u1"}),
    ],
    ids=lambda reply: f"{reply.status} {reply.body}"[:40],
)
async def test_what_telnyx_does_not_document_as_not_accepted_is_in_doubt(
    wire: Wire, reply: Respond
) -> None:
    answer = await answer_to(wire, reply)
    assert (answer.outcome, answer.error_class, answer.retry_after) == ("unknown", None, None)


async def test_a_throttled_request_says_how_long_to_wait(wire: Wire) -> None:
    answer = await answer_to(wire, refused(429, "10011", **{"retry-after": "7"}))
    assert answer.retry_after == 7


# Check


async def problems(wire: Wire, reply: Respond, **settings: Any) -> list[str]:
    wire.script = [reply]
    async with telnyx(wire.url, **({"sender": "+15005550006"} | settings)) as gateway:
        return await gateway.check()


GOOD = Respond(200, {"data": {"balance": "10.00", "currency": "USD"}})


async def test_a_good_key_and_sender_have_no_problem(wire: Wire) -> None:
    assert await problems(wire, GOOD) == []
    assert [(r.method, r.path) for r in wire.requests] == [("GET", "/v2/balance")]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            refused(401, "10009"),
            "api_key is wrong (HTTP 401): sms gateway add main telnyx --set api_key=…",
        ),
        (Respond(404, b""), "--set base_url=…"),
        (Respond(500), "HTTP 500"),
    ],
)
async def test_a_problem_is_one_line_with_the_setting_and_the_mend(
    wire: Wire, reply: Respond, words: str
) -> None:
    [problem] = await problems(wire, reply)
    assert words in problem
    assert KEY not in problem


async def test_a_name_as_sender_needs_a_profile(wire: Wire) -> None:
    [problem] = await problems(wire, GOOD, sender="Acme")
    assert problem.endswith("sms gateway add main telnyx --set messaging_profile_id=…")
    assert await problems(wire, GOOD, sender="Acme", messaging_profile_id=PROFILE) == []


async def test_no_sender_at_all_is_a_problem_unless_a_profile_picks_it(wire: Wire) -> None:
    [problem] = await problems(wire, GOOD, sender="")
    assert "no sender" in problem
    assert await problems(wire, GOOD, sender="", messaging_profile_id=PROFILE) == []


# Poll


async def test_a_poll_reports_status_error_and_price(wire: Wire) -> None:
    data = {
        "id": "u1",
        "to": [{"phone_number": "+12125550101", "status": "delivery_failed"}],
        "errors": [{"code": "40001", "title": "Not routable"}],
        "cost": {"amount": "0.0051", "currency": "USD"},
        "completed_at": "2026-11-24T12:00:00.574Z",
    }
    wire.script = [Respond(200, {"data": data})]
    async with telnyx(wire.url) as gateway:
        [report] = await gateway.poll(["u1"])
    assert wire.requests[0].path == "/v2/messages/u1"
    assert report == Report(
        Status.UNDELIVERED,
        gateway_message_id="u1",
        recipient="+12125550101",
        error_code="40001",
        error_class=ErrorClass.RECIPIENT,
        occurred_at=datetime(2026, 11, 24, 12, 0, 0, 574_000, tzinfo=UTC),
        price=Decimal("0.0051"),
        currency="USD",
    )


async def test_a_poll_leaves_out_what_has_no_clear_answer(wire: Wire) -> None:
    answers = {
        "u1": refused(404, "10005"),
        "u2": Respond(500),
        "u3": Respond(200, {"data": {"id": "u3", "to": []}}),
        "u4": Respond(200, {"data": {"id": "u4", "to": [{"status": "new word"}]}}),
    }
    wire.script = lambda request: answers[request.path.split("/")[-1]]
    async with telnyx(wire.url) as gateway:
        reports = await gateway.poll(list(answers))
    assert [(r.gateway_message_id, r.status) for r in reports] == [("u4", Status.UNKNOWN)]


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"api_key": ""},
        {"public_key": ""},
        {"public_key": "AAAA"},
        {"public_key": PUBLIC[:-2]},
        {"public_key": "é" * 44},
        {"base_url": "api.telnyx.com"},
        {"messaging_profile_id": "main"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"api_key": "secret-key", "public_key": PUBLIC}
    TelnyxSettings.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        TelnyxSettings.model_validate(good | changes)
    assert "secret-key" not in str(caught.value)


def test_a_trailing_slash_of_base_url_does_no_harm() -> None:
    made = TelnyxSettings(api_key=SecretStr("x"), public_key=PUBLIC, base_url="http://h:1/")
    assert made.base_url == "http://h:1"
