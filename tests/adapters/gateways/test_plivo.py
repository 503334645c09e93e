"""Plivo's wire format: requests as they must be, answers as they must be understood."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import Answer, ErrorClass, Outgoing
from adapters.gateways.callbacks import with_token
from adapters.gateways.plivo import PlivoSettings
from tests.adapters.gateways.plivo_account import ACCOUNT, AUTH_ID, MESSAGES, TOKEN, plivo
from tests.adapters.gateways.wire import Request, Respond, Wire

pytestmark = pytest.mark.anyio


def message(number: int = 1, **changes: Any) -> Outgoing:
    values = {
        "id": f"m{number}",
        "to": f"+1212555010{number}",
        "text": "Hello",
        "sender": "+15005550006",
        "encoding": "GSM-7",
        "segments": 1,
        "submission": "s1",
    }
    return Outgoing(**(values | changes))


def queued(*uuids: str, **more: Any) -> Respond:
    return Respond(202, {"api_id": "a", "message": "queued", "message_uuid": list(uuids), **more})


async def answers_to(wire: Wire, reply: Respond, *messages: Outgoing) -> list[Answer]:
    wire.script = [reply]
    async with plivo(wire.url) as gateway:
        return sorted(await gateway.submit(messages), key=lambda answer: answer.id)


# Submission: the request


async def test_a_group_is_one_request_with_its_window_in_the_callback(wire: Wire) -> None:
    await answers_to(wire, queued("u1", "u2"), message(1), message(2))
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", MESSAGES)
    assert json.loads(request.body) == {
        "src": "15005550006",
        "dst": "12125550101<12125550102",
        "text": "Hello",
        "url": with_token("http://127.0.0.1:8780/gateways/main/reports?sub=s1", TOKEN),
        "method": "POST",
    }
    login = base64.b64encode(f"{AUTH_ID}:{TOKEN}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {login}"


@pytest.mark.parametrize(
    "text", ["x" * 1600, "🎉" * 300, 'a+b&c=d %41\r\n\t€[~]"\\', "שלום 你好 👩‍👩‍👧", " \n "]
)
async def test_a_text_arrives_as_it_is(wire: Wire, text: str) -> None:
    await answers_to(wire, queued("u1"), message(text=text))
    assert json.loads(wire.requests[0].body)["text"] == text


@pytest.mark.parametrize(
    ("left", "lowest", "highest"),
    [
        (timedelta(hours=1), 3590, 3600),
        (timedelta(days=3), 10_799, 10_799),
        (timedelta(seconds=-9), 5, 5),
    ],
)
async def test_the_deadline_is_sent_as_seconds_within_plivos_bounds(
    wire: Wire, left: timedelta, lowest: int, highest: int
) -> None:
    await answers_to(wire, queued("u1"), message(deadline=datetime.now(UTC) + left))
    assert lowest <= json.loads(wire.requests[0].body)["message_expiry"] <= highest


# Submission: the answer


async def test_the_id_of_a_single_message_is_its_own(wire: Wire) -> None:
    assert await answers_to(wire, queued("u1"), message()) == [Answer("m1", "accepted", "u1")]


async def test_of_several_messages_nobody_knows_whose_the_ids_are(wire: Wire) -> None:
    answers = await answers_to(wire, queued("u2", "u1"), message(1), message(2))
    assert answers == [Answer("m1", "accepted"), Answer("m2", "accepted")]


@pytest.mark.parametrize("listed", ["12125550102", "+12125550102"])
async def test_an_invalid_number_is_refused_and_the_others_are_accepted(
    wire: Wire, listed: str
) -> None:
    reply = queued("u1", "u3", invalid_number=[listed])
    first, second, third = await answers_to(wire, reply, *map(message, (1, 2, 3)))
    assert (first.outcome, third.outcome) == ("accepted", "accepted")
    assert (second.outcome, second.error_class) == ("refused", ErrorClass.RECIPIENT)
    assert len(wire.requests) == 1


async def test_the_only_valid_number_of_a_group_has_its_id(wire: Wire) -> None:
    reply = queued("u1", invalid_number=["12125550102"])
    first, _ = await answers_to(wire, reply, message(1), message(2))
    assert first == Answer("m1", "accepted", "u1")


@pytest.mark.parametrize("uuids", [[], ["u1"], ["u1", "u2", "u3"]])
async def test_another_number_of_ids_than_of_messages_proves_nothing(
    wire: Wire, uuids: list[str]
) -> None:
    answers = await answers_to(wire, queued(*uuids), message(1), message(2))
    assert {answer.outcome for answer in answers} == {"unknown"}


async def test_a_group_refused_as_a_whole_is_halved_until_the_bad_number_stands_alone(
    wire: Wire,
) -> None:
    def react(request: Request) -> Respond:
        numbers = json.loads(request.body)["dst"].split("<")
        if "12125550103" in numbers:
            return Respond(400, {"api_id": "a", "error": "src and dst cannot be the same"})
        return queued(*numbers)

    wire.script = react
    async with plivo(wire.url) as gateway:
        answers = await gateway.submit([message(number) for number in range(1, 5)])
    refused = [answer.id for answer in answers if answer.outcome == "refused"]
    assert refused == ["m3"]
    assert {a.outcome for a in answers if a.id != "m3"} == {"accepted"}
    assert [len(json.loads(r.body)["dst"].split("<")) for r in wire.requests].count(4) == 1


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": "dst is not a valid phone number"}, "recipient"),
        (403, {"error": "Region not permitted"}, "recipient"),
        (422, {"error": "cannot be processed"}, "recipient"),
        (400, {"error": "insufficient credits in your account"}, "account"),
        (403, {"error": "account is disabled"}, "account"),
        (401, b"Could not verify your access level", "account"),
        (402, {"error": "pay first"}, "account"),
        (404, {"error": "not found"}, "account"),
        (405, b"", "account"),
        (429, {"error": "too many requests"}, "retry"),
        (429, b"", "retry"),
    ],
)
async def test_a_refusal_has_the_class_of_its_status(
    wire: Wire, status: int, body: object, expected: str
) -> None:
    [answer] = await answers_to(wire, Respond(status, body), message())
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))


@pytest.mark.parametrize(
    "reply",
    [
        Respond(500, {"error": "server error"}),
        Respond(503, b"<html>"),
        Respond(400, b"<html>"),
        Respond(400, {"message": "no error"}),
        Respond(408, {"error": "timeout"}),
        Respond(409, {"error": "conflict"}),
        Respond(302, b"", {"location": "/"}),
        Respond(202, b""),
        Respond(202, {"message_uuid": "u1"}),
        Respond(202, {"message_uuid": None}),
        Respond(200, [{"message_uuid": ["u1"]}]),
    ],
    ids=lambda reply: f"{reply.status} {reply.body}"[:40],
)
async def test_what_plivo_does_not_document_as_not_accepted_is_in_doubt(
    wire: Wire, reply: Respond
) -> None:
    [answer] = await answers_to(wire, reply, message())
    assert (answer.outcome, answer.error_class) == ("unknown", None)
    assert len(wire.requests) == 1


async def test_a_throttled_request_says_how_long_to_wait(wire: Wire) -> None:
    reply = Respond(429, {"error": "slow"}, {"retry-after": "7"})
    [answer] = await answers_to(wire, reply, message())
    assert answer.retry_after == 7


# Check


async def problems(wire: Wire, reply: Respond, sender: str = "+15005550006") -> list[str]:
    wire.script = [reply]
    async with plivo(wire.url, sender=sender) as gateway:
        return await gateway.check()


GOOD = Respond(200, {"auth_id": AUTH_ID, "account_type": "standard", "cash_credits": "1.8"})


async def test_a_good_account_and_sender_have_no_problem(wire: Wire) -> None:
    assert await problems(wire, GOOD) == []
    assert [(request.method, request.path) for request in wire.requests] == [("GET", ACCOUNT)]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Respond(401, b"Could not verify"),
            "auth_id or auth_token is wrong (HTTP 401): sms gateway add main plivo"
            " --set auth_token=…",
        ),
        (Respond(404, {"error": "not found"}), "--set base_url=…"),
        (Respond(500), "HTTP 500"),
    ],
)
async def test_a_problem_is_one_line_with_the_setting_and_the_mend(
    wire: Wire, reply: Respond, words: str
) -> None:
    [problem] = await problems(wire, reply)
    assert words in problem
    assert TOKEN not in problem


async def test_a_sender_of_no_known_form_is_a_problem(wire: Wire) -> None:
    [problem] = await problems(wire, GOOD, sender="Åcme")
    assert problem.endswith("sms gateway add main plivo --set sender=…")


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"auth_id": "MA1"},
        {"auth_id": "AC" + "0" * 18},
        {"auth_token": ""},
        {"base_url": "api.plivo.com"},
        {"rate": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"auth_id": AUTH_ID, "auth_token": "secret-token"}
    PlivoSettings.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        PlivoSettings.model_validate(good | changes)
    assert "secret-token" not in str(caught.value)


def test_a_trailing_slash_of_base_url_does_no_harm() -> None:
    made = PlivoSettings(auth_id=AUTH_ID, auth_token=SecretStr("x"), base_url="http://h:1/")
    assert made.base_url == "http://h:1"
