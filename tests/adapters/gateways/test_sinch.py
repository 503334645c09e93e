"""Sinch: the request expected on the wire, the reply given, the answer made of it; look-ups."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import Addresses, Answer, ErrorClass, Outgoing, Suspect, Timeouts
from adapters.gateways.http import LARGEST_BODY
from adapters.gateways.sinch import Sinch, SinchSettings
from tests.adapters.gateways.wire import Reaction, Request, Respond, Wire

pytestmark = pytest.mark.anyio

BATCHES = "/xms/v1/plan1/batches"
CREATED = Respond(201, {"id": "01FC66621", "canceled": False})


def sinch(base_url: str, **settings: Any) -> Sinch:
    made = SinchSettings(
        service_plan_id="plan1",
        api_token=SecretStr("the-token"),
        callback_secret=SecretStr("the-secret"),
        base_url=base_url,
        **settings,
    )
    return Sinch(made, Addresses("main", "http://127.0.0.1:8780"), Timeouts(5, 5), 8)


def message(number: int = 1, text: str = "Hello", **changes: Any) -> Outgoing:
    values = {
        "id": f"m{number}",
        "to": f"+12125550{100 + number}",
        "text": text,
        "sender": "+15005550006",
        "encoding": "GSM-7",
        "segments": 1,
        "submission": "s1",
    }
    return Outgoing(**(values | changes))


async def sent(wire: Wire, *messages: Outgoing) -> list[dict[str, Any]]:
    """The requests that these messages leave in."""
    wire.script = [CREATED]
    async with sinch(wire.url) as gateway:
        answers = await gateway.submit(messages)
    assert sorted(answer.id for answer in answers) == sorted(m.id for m in messages)
    return [json.loads(request.body) for request in wire.requests]


def arrived(request: dict[str, Any]) -> dict[str, str]:
    """What each number gets: Sinch's own documented substitution."""
    parameters = request.get("parameters", {})
    texts = {}
    for number in request["to"]:
        text = request["body"]
        for name, values in parameters.items():
            text = text.replace("${" + name + "}", values[number])
        texts[number] = text
    return texts


# Submission: the request


async def test_one_text_to_many_is_one_request_with_our_reference(wire: Wire) -> None:
    [request] = await sent(wire, message(1), message(2))
    assert request == {
        "type": "mt_text",
        "to": ["12125550101", "12125550102"],
        "from": "+15005550006",
        "body": "Hello",
        "delivery_report": "per_recipient",
        "callback_url": "http://127.0.0.1:8780/gateways/main/reports?sub=s1",
        "client_reference": "s1",
    }
    assert (wire.requests[0].method, wire.requests[0].target) == ("POST", BATCHES)
    assert wire.requests[0].headers["authorization"] == "Bearer the-token"


async def test_texts_of_their_own_are_values_by_number(wire: Wire) -> None:
    [request] = await sent(wire, message(1, "Hi Ann"), message(2, "Hi Bob"))
    assert request["body"] == "${text0}"
    assert request["parameters"] == {
        "text0": {"12125550101": "Hi Ann", "12125550102": "Hi Bob"},
    }


async def test_a_text_that_looks_like_a_parameter_is_sent_as_a_value(wire: Wire) -> None:
    [request] = await sent(wire, message(1, "Pay ${10}"))
    assert request["body"] == "${text0}"
    assert request["parameters"] == {"text0": {"12125550101": "Pay ${10}"}}


@pytest.mark.parametrize(
    "text",
    ["x" * 161, "y" * 1600, "🎉" * 800, "a\r\n\t€[~]\\" * 100, "שלום 👩‍👩‍👧 " * 60, "", " \n "],
    ids=["161", "1600", "4-byte", "gsm", "scripts", "empty", "blank"],
)
async def test_a_text_of_any_length_arrives_as_it_is(wire: Wire, text: str) -> None:
    requests = await sent(wire, message(1, text), message(2, "short"))
    got = {number: told for request in requests for number, told in arrived(request).items()}
    assert got == {"12125550101": text, "12125550102": "short"}


async def test_no_value_is_longer_than_160_characters_however_they_are_counted(wire: Wire) -> None:
    texts = ["x" * 1600, "y" * 1600, "🎉x" * 500, "x🎉" * 500]
    requests = await sent(wire, *(message(i, text) for i, text in enumerate(texts)))
    values = [
        value
        for request in requests
        for by_number in request.get("parameters", {}).values()
        for value in by_number.values()
    ]
    assert max(len(value.encode("utf-16-le")) // 2 for value in values) <= 160


async def test_every_number_of_a_request_has_every_value(wire: Wire) -> None:
    texts = ["a" * 10, "b" * 170, "c" * 160, "d" * 500, "e" * 161]
    requests = await sent(wire, *(message(i, text) for i, text in enumerate(texts)))
    for request in requests:
        for by_number in request.get("parameters", {}).values():
            assert sorted(by_number) == sorted(request["to"])
            assert all(by_number.values())
    assert sorted(len(request["to"]) for request in requests) == [1, 2, 2]


async def test_what_the_answer_repeats_is_short_enough_to_be_read(wire: Wire) -> None:
    # Sinch may escape each character of its answer: six bytes.
    texts = [f"{number:04}" + "ש" * 1596 for number in range(1000)]
    messages = [message(i, text, to=f"+1212{i:07}") for i, text in enumerate(texts)]
    requests = await sent(wire, *messages)
    assert sum(len(request["to"]) for request in requests) == 1000
    assert max(len(json.dumps(request)) for request in requests) < LARGEST_BODY


@pytest.mark.parametrize(
    ("left", "lowest", "highest"),
    [
        (timedelta(hours=1), timedelta(minutes=59), timedelta(hours=1)),
        (timedelta(days=9), timedelta(days=2, hours=23), timedelta(days=3)),
        (timedelta(seconds=-9), timedelta(0), timedelta(seconds=11)),
    ],
)
async def test_the_deadline_is_an_instant_within_sinchs_bounds(
    wire: Wire, left: timedelta, lowest: timedelta, highest: timedelta
) -> None:
    now = datetime.now(UTC)
    [request] = await sent(wire, message(deadline=now + left))
    assert request["expire_at"].endswith("Z")
    until = datetime.fromisoformat(request["expire_at"])
    assert now + lowest <= until <= now + highest + timedelta(seconds=1)


async def test_without_a_sender_the_plan_chooses(wire: Wire) -> None:
    [request] = await sent(wire, message(sender=""))
    assert "from" not in request


# Submission: the answer


async def answers_to(wire: Wire, *reactions: Reaction, number: int = 1) -> list[Answer]:
    wire.script = list(reactions)
    async with sinch(wire.url) as gateway:
        return await gateway.submit([message(i) for i in range(number)])


async def test_all_messages_of_a_batch_have_its_id(wire: Wire) -> None:
    answers = await answers_to(wire, CREATED, number=3)
    assert {(a.outcome, a.gateway_message_id) for a in answers} == {("accepted", "01FC66621")}


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, None, "retry"),
        (429, "too_many_requests", "retry"),
        (400, "syntax_invalid_parameter_format", "recipient"),
        (400, "syntax_constraint_violation", "recipient"),
        (400, "syntax_invalid_json", "recipient"),
        (403, "unknown_campaign", "content"),
        (403, "missing_callback_url", "account"),
        (403, "something_new", "recipient"),
        (403, None, "account"),
        (401, None, "account"),
        (401, "unauthorized", "account"),
        (404, None, "account"),
    ],
)
async def test_a_refusal_has_the_class_of_its_code(
    wire: Wire, status: int, code: str | None, expected: str
) -> None:
    body: object = {"code": code, "text": "No"} if code else b""
    [answer] = await answers_to(wire, Respond(status, body))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert answer.error_code == code
    assert (answer.retry_after == 1) == (expected == "retry")


@pytest.mark.parametrize(
    "reaction",
    [
        # Sinch documents 500 as "not processed"; but who says that it was Sinch that answered?
        Respond(500, {"code": "internal", "text": "Internal"}),
        Respond(503),
        Respond(408, {"code": "timeout"}),
        Respond(400, b"<html>"),
        Respond(405),
        Respond(302, b"", {"location": "/"}),
        Respond(201, b""),
        Respond(201, {"canceled": False}),
        Respond(201, {"id": None}),
        Respond(200, [{"id": "01FC66621"}]),
    ],
    ids=lambda reaction: f"{reaction.status} {reaction.body}"[:40],
)
async def test_what_sinch_does_not_document_as_not_accepted_is_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    answers = await answers_to(wire, reaction, number=4)
    assert {(a.outcome, a.error_class, a.retry_after) for a in answers} == {("unknown", None, None)}
    assert len(wire.requests) == 1


async def test_a_number_that_sinch_does_not_take_costs_no_other_message(wire: Wire) -> None:
    def react(request: Request) -> Reaction:
        bad = "12125550102" in json.loads(request.body)["to"]
        return Respond(400, {"code": "syntax_invalid_parameter_format"}) if bad else CREATED

    wire.script = react
    async with sinch(wire.url) as gateway:
        answers = await gateway.submit([message(i, f"t{i}") for i in range(5)])
    told = {answer.id: answer.outcome for answer in answers}
    assert told == dict.fromkeys(("m0", "m1", "m3", "m4"), "accepted") | {"m2": "refused"}


async def test_the_number_in_sinchs_error_text_is_masked(wire: Wire) -> None:
    text = "value '+12125550101' is not a valid MSISDN"
    [answer] = await answers_to(wire, Respond(400, {"code": "syntax_x", "text": text}))
    assert "2125550101" not in answer.error_text
    assert answer.error_text.startswith("HTTP 400 value")


# Check


LISTED = Respond(200, {"count": 0, "page": 0, "page_size": 0, "batches": []})


async def problems(wire: Wire, *reactions: Respond, **settings: Any) -> list[str]:
    wire.script = list(reactions)
    async with sinch(wire.url, **({"sender": "+15005550006"} | settings)) as gateway:
        return await gateway.check()


async def test_a_good_plan_and_sender_have_no_problem(wire: Wire) -> None:
    assert await problems(wire, LISTED) == []
    assert [(r.method, r.target) for r in wire.requests] == [("GET", f"{BATCHES}?page_size=1")]


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (Respond(401), "api_token or the region in base_url is wrong (HTTP 401)"),
        (Respond(401), "sms gateway add main sinch --set api_token=…"),
        (Respond(404), "--set base_url=…"),
        (Respond(301, b"", {"location": "/"}), "redirect"),
        (Respond(500), "HTTP 500"),
    ],
)
async def test_a_problem_is_one_line_with_the_setting_and_the_mend(
    wire: Wire, reaction: Respond, words: str
) -> None:
    [problem] = await problems(wire, reaction)
    assert words in problem
    assert "\n" not in problem


async def test_no_sender_is_a_problem(wire: Wire) -> None:
    [problem] = await problems(wire, LISTED, sender="")
    assert "no sender" in problem


# Look-ups


NOW = datetime(2026, 11, 24, 14, tzinfo=UTC)


def suspect(number: int, submission: str = "s1") -> Suspect:
    return Suspect(f"m{number}", f"+12125550{100 + number}", "t", "", NOW, NOW, submission)


def listed(batch: str, *numbers: str, reference: str = "s1") -> dict[str, Any]:
    return {"id": batch, "to": list(numbers), "client_reference": reference}


async def recovered(wire: Wire, pages: dict[str, list[Any]], *suspects: Suspect) -> dict[str, Any]:
    """What is found where each reference has these pages."""

    def react(request: Request) -> Reaction:
        found = pages[request.query["client_reference"]]
        page = int(request.query["page"])
        return Respond(200, {"batches": found[page : page + 1], "count": len(found), "page": page})

    wire.script = react
    async with sinch(wire.url) as gateway:
        findings = await gateway.recover(suspects)
    assert {finding.outcome for finding in findings} <= {"accepted"}
    return {finding.id: finding.gateway_message_id for finding in findings}


async def test_a_batch_of_the_window_proves_that_its_numbers_were_accepted(wire: Wire) -> None:
    pages = {"s1": [listed("B1", "12125550101", "+12125550102")]}
    assert await recovered(wire, pages, suspect(1), suspect(2), suspect(3)) == {
        "m1": "B1",
        "m2": "B1",
    }


async def test_a_window_is_asked_for_once_and_since_it_began(wire: Wire) -> None:
    pages = {"s1": [listed("B1", "12125550101", "12125550102")], "s2": []}
    await recovered(wire, pages, suspect(1), suspect(2), suspect(4, "s2"))
    assert sorted(request.query["client_reference"] for request in wire.requests) == ["s1", "s2"]
    assert {request.query["start_date"] for request in wire.requests} == {
        "2026-11-24T13:58:00.000Z"
    }


async def test_a_window_that_left_in_several_batches_is_read_to_its_end(wire: Wire) -> None:
    pages = {"s1": [listed("B2", "12125550102"), listed("B1", "12125550101")]}
    assert await recovered(wire, pages, suspect(1), suspect(2)) == {"m1": "B1", "m2": "B2"}


async def test_a_batch_with_another_reference_proves_nothing(wire: Wire) -> None:
    pages = {"s1": [listed("B1", "12125550101", reference="s9")]}
    assert await recovered(wire, pages, suspect(1)) == {}


async def test_a_suspect_without_a_window_is_not_asked_about(wire: Wire) -> None:
    assert await recovered(wire, {}, suspect(1, "")) == {}
    assert wire.requests == []


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"service_plan_id": ""},
        {"service_plan_id": "../other"},
        {"api_token": ""},
        {"callback_secret": ""},
        {"base_url": "us.sms.api.sinch.com"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"service_plan_id": "p", "api_token": "secret-token", "callback_secret": "s"}
    SinchSettings.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        SinchSettings.model_validate(good | changes)
    assert "secret-token" not in str(caught.value)
