"""Twilio's wire format: requests as they must be, answers as they must be understood."""

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import (
    ErrorClass,
    Outgoing,
)
from adapters.gateways.twilio import TwilioSettings
from tests.adapters.gateways.twilio_account import ACCOUNT, SID, TOKEN, twilio
from tests.adapters.gateways.wire import Reaction, Respond, Wire

pytestmark = pytest.mark.anyio

CREATED = {"sid": "SM" + "1" * 32, "status": "queued", "num_segments": "1", "price": None}


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


async def submitted(wire: Wire, **changes: Any) -> dict[str, str]:
    wire.script = [Respond(201, CREATED)]
    async with twilio(wire.url) as gateway:
        await gateway.submit([message(**changes)])
    return wire.requests[0].form


# Submission: the request


async def test_a_message_is_one_form_with_our_reference_in_its_callback(wire: Wire) -> None:
    form = await submitted(wire)
    assert form == {
        "To": "+12125550101",
        "From": "+15005550006",
        "Body": "Hello",
        "StatusCallback": "http://127.0.0.1:8780/gateways/main/reports?ref=m1",
    }
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", f"{ACCOUNT}/Messages.json")
    login = base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {login}"


@pytest.mark.parametrize(
    "text",
    ["x" * 1600, "🎉" * 800, "a+b&c=d %41\r\n\t€[~]", "שלום 你好 👩‍👩‍👧", " \n ", ""],
    ids=["1600", "4-byte", "delimiters", "scripts", "blank", "empty"],
)
async def test_a_text_arrives_as_it_is(wire: Wire, text: str) -> None:
    assert (await submitted(wire, text=text))["Body"] == text


@pytest.mark.parametrize(
    ("left", "lowest", "highest"),
    [
        (timedelta(hours=1), 3590, 3600),
        (timedelta(days=3), 36_000, 36_000),
        (timedelta(seconds=-9), 1, 1),
    ],
)
async def test_the_deadline_is_sent_as_seconds_within_twilios_bounds(
    wire: Wire, left: timedelta, lowest: int, highest: int
) -> None:
    form = await submitted(wire, deadline=datetime.now(UTC) + left)
    assert lowest <= int(form["ValidityPeriod"]) <= highest


async def test_a_messaging_service_picks_the_sender_where_none_is_named(wire: Wire) -> None:
    wire.script = [Respond(201, CREATED)]
    service = "MG" + "a" * 32
    async with twilio(wire.url, messaging_service_sid=service) as gateway:
        await gateway.submit([message(sender="")])
    assert wire.requests[0].form["MessagingServiceSid"] == service
    assert "From" not in wire.requests[0].form


# Submission: the answer


async def answer_to(wire: Wire, reaction: Reaction) -> Any:
    wire.script = [reaction]
    async with twilio(wire.url) as gateway:
        [answer] = await gateway.submit([message()])
    assert len(wire.requests) == 1
    assert answer.id == "m1"
    return answer


async def test_a_created_message_is_accepted_with_what_twilio_knows(wire: Wire) -> None:
    body = CREATED | {"num_segments": "3", "price": "-0.0225", "price_unit": "USD"}
    answer = await answer_to(wire, Respond(201, body))
    assert (answer.outcome, answer.gateway_message_id) == ("accepted", CREATED["sid"])
    assert (answer.segments, answer.price, answer.currency) == (3, Decimal("0.0225"), "USD")


async def test_zero_segments_and_no_price_mean_not_known_yet(wire: Wire) -> None:
    body = CREATED | {"num_segments": "0", "price_unit": "USD"}
    answer = await answer_to(wire, Respond(201, body))
    assert (answer.segments, answer.price, answer.currency) == (None, None, None)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, 20429, "retry"),
        (429, None, "retry"),
        (400, 21611, "retry"),
        (400, 21610, "optout"),
        (400, 21211, "recipient"),
        (400, 21614, "recipient"),
        (400, 21612, "recipient"),
        (400, 21408, "recipient"),
        (403, 21408, "recipient"),
        (400, 21606, "content"),
        (400, 21617, "content"),
        (400, 21660, "content"),
        (400, 30034, "content"),
        (400, 21609, "account"),
        (401, 20003, "account"),
        (401, None, "account"),
        (403, None, "account"),
        (403, 20005, "account"),
        (400, 30002, "account"),
        (404, 20404, "account"),
        # Codes that nobody has listed: one message, or the account and the API.
        (400, 21999, "recipient"),
        (400, 63999, "recipient"),
        (400, 20999, "account"),
    ],
)
async def test_a_refusal_has_the_class_of_its_code(
    wire: Wire, status: int, code: int | None, expected: str
) -> None:
    body: object = {"code": code, "message": "No", "status": status} if code else b"<html>"
    answer = await answer_to(wire, Respond(status, body))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert answer.error_code == (str(code) if code else None)


@pytest.mark.parametrize(
    "reaction",
    [
        Respond(500, {"code": 20500, "message": "Internal"}),
        Respond(503, {"code": 20503, "message": "Unavailable"}),
        Respond(502, b"<html>"),
        Respond(408, {"code": 20408, "message": "Timeout"}),
        Respond(400, b"<html>"),
        Respond(400, {"message": "no code"}),
        Respond(400, {"code": None}),
        Respond(302, b"", {"location": "/"}),
        Respond(201, b""),
        Respond(201, b"<html>"),
        Respond(201, [CREATED]),
        Respond(201, {"status": "queued"}),
        Respond(201, {"sid": None}),
        Respond(201, {"sid": ["SM"]}),
        Respond(204),
    ],
    ids=lambda reaction: f"{reaction.status} {reaction.body}"[:40],
)
async def test_what_twilio_does_not_document_as_not_accepted_is_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    answer = await answer_to(wire, reaction)
    assert (answer.outcome, answer.error_class, answer.retry_after) == ("unknown", None, None)
    assert f"HTTP {reaction.status}" in answer.error_text


@pytest.mark.parametrize(
    ("code", "headers", "seconds"),
    [
        (20429, {"retry-after": "7"}, 7),
        (20429, {}, 1),
        (21611, {}, 60),
        (21610, {"retry-after": "7"}, None),
    ],
)
async def test_only_a_retry_says_how_long_to_wait(
    wire: Wire, code: int, headers: dict[str, str], seconds: float | None
) -> None:
    answer = await answer_to(wire, Respond(429, {"code": code, "message": "No"}, headers))
    assert answer.retry_after == seconds


async def test_the_number_in_twilios_error_text_is_masked(wire: Wire) -> None:
    body = {"code": 21211, "message": "The 'To' number +12125550101 is not valid."}
    answer = await answer_to(wire, Respond(400, body))
    assert answer.error_text == "HTTP 400 The 'To' number +1•••••••101 is not valid."


# Check


async def problems(wire: Wire, *reactions: Respond, **settings: Any) -> list[str]:
    wire.script = list(reactions)
    sender = settings.pop("asked", None)
    async with twilio(wire.url, **({"sender": "+15005550006"} | settings)) as gateway:
        return await gateway.check(sender)


ACTIVE = Respond(200, {"sid": SID, "status": "active"})


@pytest.mark.parametrize(
    "sender", ["+15005550006", "+15550000123", "Acme", "Acme-2 &+", "12345", "A" * 11]
)
async def test_a_good_account_and_sender_have_no_problem(wire: Wire, sender: str) -> None:
    assert await problems(wire, ACTIVE, asked=sender) == []
    assert [(request.method, request.path) for request in wire.requests] == [
        ("GET", f"{ACCOUNT}.json")
    ]


@pytest.mark.parametrize("sender", ["15005550006", "+0123456789", "A" * 12, "Åcme", "12"])
async def test_a_sender_of_no_known_form_is_a_problem(wire: Wire, sender: str) -> None:
    [problem] = await problems(wire, ACTIVE, asked=sender)
    assert problem.endswith("sms gateway add main twilio --set sender=…")
    assert sender not in problem


async def test_no_sender_at_all_is_a_problem_unless_a_service_picks_it(wire: Wire) -> None:
    [problem] = await problems(wire, ACTIVE, sender="")
    assert "no sender" in problem
    assert await problems(wire, ACTIVE, sender="", messaging_service_sid="MG" + "a" * 32) == []


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (
            Respond(401, {"code": 20003, "message": "Authenticate"}),
            "account_sid or auth_token is wrong (HTTP 401): sms gateway add main twilio"
            " --set auth_token=…",
        ),
        (Respond(404, {"code": 20404}), "--set base_url=…"),
        (Respond(301, b"", {"location": "/"}), "redirect"),
        (Respond(500), "HTTP 500"),
        (Respond(200, b"<html>"), "base_url"),
        (Respond(200, {"sid": SID, "status": "suspended"}), "the account is suspended"),
    ],
)
async def test_a_problem_is_one_line_with_the_setting_and_the_mend(
    wire: Wire, reaction: Respond, words: str
) -> None:
    [problem] = await problems(wire, reaction)
    assert words in problem
    assert "\n" not in problem
    assert TOKEN not in problem


async def test_test_credentials_are_good_though_they_may_read_nothing(wire: Wire) -> None:
    assert await problems(wire, Respond(403, {"code": 20008, "message": "Test"})) == []


async def test_a_receiver_on_this_machine_is_a_problem_for_a_gateway_elsewhere() -> None:
    async with twilio("https://twilio.invalid", sender="Acme") as gateway:
        first, second = await gateway.check()
    assert "SMS_PUBLIC_URL" in first
    assert "base_url" in second


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"account_sid": "AC1"},
        {"account_sid": "SK" + "5" * 32},
        {"auth_token": ""},
        {"base_url": "api.twilio.com"},
        {"base_url": "ftp://api.twilio.com"},
        {"messaging_service_sid": "main"},
        {"rate": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"account_sid": SID, "auth_token": "secret-token"}
    TwilioSettings.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        TwilioSettings.model_validate(good | changes)
    assert "secret-token" not in str(caught.value)


def test_a_missing_setting_is_named_without_showing_the_others() -> None:
    with pytest.raises(ValidationError) as caught:
        TwilioSettings.model_validate({"auth_token": "secret-token"})
    assert "account_sid" in str(caught.value)
    assert "secret-token" not in str(caught.value)


def test_a_trailing_slash_of_base_url_does_no_harm() -> None:
    made = TwilioSettings(account_sid=SID, auth_token=SecretStr("x"), base_url="http://h:1/")
    assert made.base_url == "http://h:1"
