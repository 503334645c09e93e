"""Vonage's SMS API: requests as they must be, answers as they must be understood."""

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import (
    Addresses,
    Answer,
    ErrorClass,
    Outgoing,
    Report,
    Status,
    Timeouts,
)
from adapters.gateways.vonage import Vonage, VonageSettings
from tests.adapters.gateways.wire import Reaction, Respond, Wire

pytestmark = pytest.mark.anyio

KEY, SECRET = "abcd1234", "the-api-secret"
RECEIVER = "http://127.0.0.1:8780"


def vonage(base_url: str, receiver: str = RECEIVER, **settings: Any) -> Vonage:
    made = VonageSettings(
        api_key=KEY,
        api_secret=SecretStr(SECRET),
        signature_secret=SecretStr("the-signature-secret"),
        base_url=base_url,
        **settings,
    )
    return Vonage(made, Addresses("main", receiver), Timeouts(5, 5), 8)


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


def part(id_: str = "0A1", status: str = "0", **changes: str) -> dict[str, str]:
    taken = {"to": "12125550101", "message-id": id_, "status": status, "message-price": "0.0333"}
    return taken | changes


def refused(status: str, text: str = "No") -> dict[str, str]:
    return {"status": status, "error-text": text}


def parts(*each: dict[str, str]) -> Respond:
    return Respond(200, {"message-count": str(len(each)), "messages": list(each)})


async def submitted(wire: Wire, **changes: Any) -> dict[str, str]:
    wire.script = [parts(part())]
    async with vonage(wire.url) as gateway:
        await gateway.submit([message(**changes)])
    return wire.requests[0].form


# Submission: the request


async def test_a_message_is_one_form_with_our_reference_in_a_field(wire: Wire) -> None:
    assert await submitted(wire) == {
        "from": "15005550006",
        "to": "12125550101",
        "text": "Hello",
        "type": "text",
        "client-ref": "m1",
        "callback": f"{RECEIVER}/gateways/main/reports",
    }
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", "/sms/json")
    login = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {login}"


@pytest.mark.parametrize(
    ("sender", "wanted"),
    [("+15005550006", "15005550006"), ("Acme", "Acme"), ("12345", "12345"), ("", None)],
)
async def test_only_numbers_lose_their_plus(wire: Wire, sender: str, wanted: str | None) -> None:
    assert (await submitted(wire, sender=sender)).get("from") == wanted


@pytest.mark.parametrize(
    ("text", "encoding", "kind"),
    [
        ("a+b&c=d %41\r\n\t€[~]", "GSM-7", "text"),
        ("x" * 1600, "GSM-7", "text"),
        ("שלום 你好 👩‍👩‍👧", "UCS-2", "unicode"),
    ],
    ids=["delimiters", "1600", "scripts"],
)
async def test_a_text_arrives_as_it_is_with_its_type(
    wire: Wire, text: str, encoding: str, kind: str
) -> None:
    form = await submitted(wire, text=text, encoding=encoding)
    assert (form["text"], form["type"]) == (text, kind)


@pytest.mark.parametrize(
    ("left", "lowest", "highest"),
    [
        (timedelta(hours=1), 3_590_000, 3_600_000),
        (timedelta(days=9), 604_800_000, 604_800_000),
        (timedelta(seconds=-9), 20_000, 20_000),
    ],
)
async def test_the_deadline_is_sent_as_milliseconds_within_vonages_bounds(
    wire: Wire, left: timedelta, lowest: int, highest: int
) -> None:
    form = await submitted(wire, deadline=datetime.now(UTC) + left)
    assert lowest <= int(form["ttl"]) <= highest


# Submission: the answer


async def answer_to(wire: Wire, reaction: Reaction, **settings: Any) -> Answer:
    wire.script = [reaction]
    async with vonage(wire.url, **settings) as gateway:
        [answer] = await gateway.submit([message()])
    assert len(wire.requests) == 1
    assert answer.id == "m1"
    return answer


async def test_a_message_that_is_taken_is_accepted_with_its_price(wire: Wire) -> None:
    answer = await answer_to(wire, parts(part("0A1")), currency="USD")
    assert (answer.outcome, answer.gateway_message_id) == ("accepted", "0A1")
    assert (answer.segments, answer.price, answer.currency) == (1, Decimal("0.0333"), "USD")
    assert answer.parts == ()


async def test_a_price_that_cannot_be_read_is_none(wire: Wire) -> None:
    answer = await answer_to(wire, parts(part(), part("0A2", **{"message-price": ""})))
    assert (answer.price, answer.currency) == (None, None)


async def test_each_part_of_a_long_message_has_its_own_id(wire: Wire) -> None:
    answer = await answer_to(wire, parts(part("0A1"), part("0A2"), part("0A3")))
    assert (answer.gateway_message_id, answer.segments) == ("0A1", 3)
    assert answer.price == Decimal("0.0999")
    assert answer.parts == tuple(
        Report(Status.ACCEPTED, reference="m1", gateway_message_id=id_, part=id_)
        for id_ in ("0A1", "0A2", "0A3")
    )


async def test_a_message_of_which_one_part_was_taken_is_accepted(wire: Wire) -> None:
    answer = await answer_to(wire, parts(refused("9"), part("0A2"), refused("5")))
    assert (answer.outcome, answer.gateway_message_id, answer.segments) == ("accepted", "0A2", 3)
    assert answer.parts == (
        Report(Status.FAILED, reference="m1", part="1", error_code="9"),
        Report(Status.ACCEPTED, reference="m1", gateway_message_id="0A2", part="0A2"),
        Report(Status.UNKNOWN, reference="m1", part="3", error_code="5"),
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *(("1", "retry"), ("10", "retry")),
        *(("3", "recipient"), ("6", "recipient"), ("7", "recipient"), ("29", "recipient")),
        *(("33", "recipient"), ("22", "recipient"), ("99", "recipient")),
        *(("2", "content"), ("12", "content"), ("15", "content"), ("17", "content")),
        *(("4", "account"), ("8", "account"), ("9", "account"), ("11", "account")),
        *(("14", "account"), ("23", "account"), ("32", "account")),
    ],
)
async def test_a_refusal_inside_a_200_has_the_class_of_its_status(
    wire: Wire, status: str, expected: str
) -> None:
    answer = await answer_to(wire, parts(refused(status)))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert answer.error_code == status


@pytest.mark.parametrize(
    ("status", "expected"), [(401, "account"), (403, "account"), (404, "account"), (429, "retry")]
)
async def test_a_refusal_by_http_has_the_class_of_its_status(
    wire: Wire, status: int, expected: str
) -> None:
    answer = await answer_to(wire, Respond(status, b"<html>"))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))


@pytest.mark.parametrize(
    ("reaction", "seconds"),
    [
        (parts(refused("1")), 1),
        (Respond(429, b"", {"retry-after": "7"}), 7),
        (parts(refused("7")), None),
    ],
)
async def test_only_a_retry_says_how_long_to_wait(
    wire: Wire, reaction: Respond, seconds: float | None
) -> None:
    assert (await answer_to(wire, reaction)).retry_after == seconds


@pytest.mark.parametrize(
    "reaction",
    [
        parts(refused("5")),
        parts(refused("7"), refused("5")),
        parts(part("")),
        parts({"status": "0"}),
        parts({"message-id": "0A1"}),
        parts(refused("")),
        parts(refused("soon")),
        parts(),
        Respond(200, {"messages": {"status": "0", "message-id": "0A1"}}),
        Respond(200, {"messages": ["0"]}),
        Respond(201, {"messages": [part()]}),
        Respond(500, {"messages": [refused("1")]}),
        Respond(503, b"<html>"),
        Respond(400, b"<html>"),
        Respond(408, b""),
        Respond(302, b"", {"location": "/"}),
    ],
    ids=lambda reaction: f"{reaction.status} {reaction.body}"[:60],
)
async def test_what_vonage_does_not_document_as_not_accepted_is_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    answer = await answer_to(wire, reaction)
    assert (answer.outcome, answer.error_class, answer.retry_after) == ("unknown", None, None)
    assert f"HTTP {reaction.status}" in answer.error_text


async def test_the_number_in_vonages_error_text_is_masked(wire: Wire) -> None:
    answer = await answer_to(wire, parts(refused("6", "Number 12125550101 has no prefix")))
    assert "2125550" not in answer.error_text
    assert answer.error_text.startswith("HTTP 200 Number ")


# Check

BALANCE = Respond(200, {"value": 3.14, "autoReload": False})


async def problems(wire: Wire, reaction: Respond, asked: str | None = None) -> list[str]:
    wire.script = [reaction]
    async with vonage(wire.url, sender="+15005550006") as gateway:
        return await gateway.check(asked)


@pytest.mark.parametrize("sender", ["+15005550006", "Acme", "12345"])
async def test_a_good_account_and_sender_have_no_problem(wire: Wire, sender: str) -> None:
    assert await problems(wire, BALANCE, sender) == []
    requests = [(request.method, request.target) for request in wire.requests]
    assert requests == [("GET", "/account/get-balance")]


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (
            Respond(401, {"error-code": "401"}),
            "api_key or api_secret is wrong (HTTP 401): sms gateway add main vonage"
            " --set api_secret=…",
        ),
        (Respond(404), "--set base_url=…"),
        (Respond(301, b"", {"location": "/"}), "redirect"),
        (Respond(500), "HTTP 500"),
        (Respond(200, b"<html>"), "base_url"),
    ],
)
async def test_a_problem_is_one_line_with_the_setting_and_the_mend(
    wire: Wire, reaction: Respond, words: str
) -> None:
    [problem] = await problems(wire, reaction)
    assert words in problem
    assert "\n" not in problem
    assert SECRET not in problem


async def test_a_bad_sender_is_a_problem(wire: Wire) -> None:
    [problem] = await problems(wire, BALANCE, "Åcme")
    assert problem.endswith("sms gateway add main vonage --set sender=…")


async def test_a_callback_address_that_vonage_would_not_take_is_a_problem(wire: Wire) -> None:
    wire.script = [BALANCE]
    async with vonage(wire.url, f"https://{'a' * 60}.example/{'b' * 20}", sender="Acme") as gateway:
        [problem] = await gateway.check()
    assert "SMS_PUBLIC_URL" in problem


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"api_key": ""},
        {"api_key": "abcd:1234"},
        {"api_secret": ""},
        {"signature_secret": ""},
        {"signature_method": "sha3"},
        {"currency": "euro"},
        {"base_url": "rest.nexmo.com"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"api_key": KEY, "api_secret": SECRET, "signature_secret": "the-signature-secret"}
    VonageSettings.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        VonageSettings.model_validate(good | changes)
    assert SECRET not in str(caught.value)


def test_a_trailing_slash_of_base_url_does_no_harm() -> None:
    assert vonage("http://h:1/")._settings.base_url == "http://h:1"
