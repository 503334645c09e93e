"""Jasmin's wire format: requests as they must be, answers as they must be understood."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import (
    Addresses,
    Answer,
    ErrorClass,
    Outgoing,
    Timeouts,
)
from adapters.gateways.callbacks import with_token
from adapters.gateways.jasmin import Jasmin, JasminSettings
from tests.adapters.gateways.wire import Reaction, Respond, Wire

pytestmark = pytest.mark.anyio

TAKEN = Respond(200, b'Success "07033084-5cfd-4812-90a4-e4d24ffb6e3d"')
TOKEN = "the-callback-token"
REPORTS = "http://127.0.0.1:8780/gateways/main/reports?ref=m1"


def jasmin(base_url: str, **settings: Any) -> Jasmin:
    made = JasminSettings(
        base_url=base_url,
        username="tester",
        password=SecretStr("the-password"),
        callback_token=SecretStr(TOKEN),
        **{"sender": "Acme", **settings},
    )
    return Jasmin(made, Addresses("main", "http://127.0.0.1:8780"), Timeouts(5, 5), 8)


def message(**changes: Any) -> Outgoing:
    values = {
        "id": "m1",
        "to": "+12125550101",
        "text": "Hello",
        "sender": "Acme",
        "encoding": "GSM-7",
        "segments": 1,
    }
    return Outgoing(**(values | changes))


async def submitted(wire: Wire, **changes: Any) -> dict[str, str]:
    wire.script = [TAKEN]
    async with jasmin(wire.url) as gateway:
        await gateway.submit([message(**changes)])
    [request] = wire.requests
    assert (request.method, request.target) == ("POST", "/send")
    return request.form


# Submission: the request


async def test_a_message_is_one_form_with_our_reference_and_a_token_in_its_dlr_url(
    wire: Wire,
) -> None:
    assert await submitted(wire) == {
        "username": "tester",
        "password": "the-password",
        "to": "+12125550101",
        "from": "Acme",
        "coding": "0",
        "content": "Hello",
        "dlr": "yes",
        "dlr-level": "3",
        "dlr-method": "POST",
        "dlr-url": with_token(REPORTS, TOKEN),
    }


@pytest.mark.parametrize(
    "text",
    ["x" * 760, "a+b&c=d %41\r\n\t€[~]@", " \n ", ""],
    ids=["760", "delimiters", "blank", "empty"],
)
async def test_a_gsm_text_arrives_as_it_is(wire: Wire, text: str) -> None:
    assert (await submitted(wire, text=text))["content"] == text


async def test_a_ucs2_text_is_sent_as_hex_of_utf_16(wire: Wire) -> None:
    form = await submitted(wire, text="ש 🎉", encoding="UCS-2")
    assert (form["coding"], form["hex-content"]) == ("8", "05e90020d83cdf89")
    assert "content" not in form


@pytest.mark.parametrize(
    ("left", "minutes"),
    [
        (timedelta(hours=1, seconds=30), "60"),
        (timedelta(seconds=90), "1"),
        (timedelta(seconds=-9), "1"),
    ],
)
async def test_the_deadline_is_sent_in_minutes(wire: Wire, left: timedelta, minutes: str) -> None:
    form = await submitted(wire, deadline=datetime.now(UTC) + left)
    assert form["validity-period"] == minutes


async def test_no_sender_is_left_to_the_jasmin_user(wire: Wire) -> None:
    assert "from" not in await submitted(wire, sender="")


async def test_a_text_that_jasmin_would_cut_off_is_not_sent(wire: Wire) -> None:
    wire.script = [TAKEN]
    async with jasmin(wire.url) as gateway:
        short, long = await gateway.submit([message(segments=5), message(id="m2", segments=6)])
    assert (short.id, short.outcome) == ("m1", "accepted")
    assert (long.id, long.outcome, long.error_class) == ("m2", "refused", ErrorClass.CONTENT)
    assert len(wire.requests) == 1


# Submission: the answer


async def answer_to(wire: Wire, reaction: Reaction) -> Answer:
    wire.script = [reaction]
    async with jasmin(wire.url) as gateway:
        [answer] = await gateway.submit([message()])
    assert len(wire.requests) == 1
    return answer


async def test_a_success_is_accepted_with_jasmins_id(wire: Wire) -> None:
    answer = await answer_to(wire, TAKEN)
    assert (answer.outcome, answer.error_class) == ("accepted", None)
    assert answer.gateway_message_id == "07033084-5cfd-4812-90a4-e4d24ffb6e3d"


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (403, "User throughput exceeded", "retry"),
        (403, "Authentication failure for username:tester", "account"),
        (403, "Authorization failed for username:tester", "account"),
        (403, "Cannot charge submit_sm, check RouterPB log file for details", "account"),
        (400, "Authorization failed for user [u] (Setting dlr level not authorized).", "account"),
        (400, "Argument [password] has an invalid value: [the-password].", "account"),
        (400, "Argument [dlr-url] has an invalid value: [ftp://].", "account"),
        (400, "Argument [to] has an invalid value: [+12125550101].", "recipient"),
        (
            400,
            "Value filter failed for user [u] (destination_address filter mismatch).",
            "recipient",
        ),
        (400, "Value filter failed for user [u] (source_address filter mismatch).", "content"),
        (400, "Value filter failed for user [u] (content filter mismatch).", "content"),
        (400, "Value filter failed for user [u] (validity_period filter mismatch).", "account"),
        (412, "No route found", "content"),
        (412, "Failover route has no bound connectors", "retry"),
        (400, "Something else", "recipient"),
        (403, "Interception specific error code 403", "recipient"),
    ],
)
async def test_a_refusal_has_the_class_of_its_words(
    wire: Wire, status: int, error: str, expected: str
) -> None:
    answer = await answer_to(wire, Respond(status, f'Error "{error}"'.encode()))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert answer.error_text.startswith(f"HTTP {status} {error[:12]}")
    assert answer.retry_after == (({403: 1, 412: 60}[status]) if expected == "retry" else None)


@pytest.mark.parametrize(
    "error",
    [
        "Argument [password] has an invalid value: [the-password].",
        "Argument [to] has an invalid value: [+12125550101].",
        "Invalid hex-content data: '48656c6c6f'",
        "Argument [content] has an invalid value: [two\nlines].",
    ],
)
async def test_what_jasmin_quotes_back_is_left_out(wire: Wire, error: str) -> None:
    answer = await answer_to(wire, Respond(400, f'Error "{error}"'.encode()))
    assert answer.outcome == "refused"
    assert answer.error_text == f"HTTP 400 {error.partition(':')[0]}"


@pytest.mark.parametrize(
    "reaction",
    [
        # "Fallback error": nothing says that it was not sent.
        Respond(500, b'Error "Cannot send submit_sm, check SMPPClientManagerPB log file"'),
        Respond(503, b'Error "InterceptorPB not connected !"'),
        Respond(400, b"<html>Bad Request"),
        Respond(403, b""),
        Respond(412, b"No route found"),
        Respond(404, b"<html>No Such Resource"),
        Respond(408, b'Error "Timeout"'),
        Respond(200, b""),
        Respond(200, b"Success"),
        Respond(200, b'Success ""'),
        Respond(200, b'Error "None"'),
        Respond(201, b'Success "1"'),
    ],
    ids=lambda reaction: f"{reaction.status} {reaction.body}"[:40],
)
async def test_what_jasmin_does_not_document_as_not_sent_is_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    answer = await answer_to(wire, reaction)
    assert (answer.outcome, answer.error_class, answer.retry_after) == ("unknown", None, None)


# Check


async def problems(wire: Wire, reaction: Respond, **settings: Any) -> list[str]:
    wire.script = [reaction]
    async with jasmin(wire.url, **settings) as gateway:
        return await gateway.check()


@pytest.mark.parametrize(
    "reaction",
    [
        Respond(200, {"balance": "ND", "sms_count": "ND"}),
        Respond(200, {"balance": 10.5, "sms_count": 100}),
        Respond(400, b'"Authorization failed for user [u] (Cannot check balance)."'),
    ],
    ids=["no quota", "quota", "may not ask"],
)
async def test_a_login_that_works_is_no_problem(wire: Wire, reaction: Respond) -> None:
    assert await problems(wire, reaction) == []
    [request] = wire.requests
    assert (request.method, request.path) == ("GET", "/balance")
    assert request.query == {"username": "tester", "password": "the-password"}


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (Respond(403, b'"Authentication failure for username:tester"'), "--set password=…"),
        (Respond(404, b"<html>"), "--set base_url=…"),
        (Respond(200, {"message": "hello"}), "--set base_url=…"),
        (Respond(301, b"", {"location": "/"}), "redirect"),
        (Respond(200, {"balance": 0, "sms_count": "ND"}), "raise its quota"),
        (Respond(200, {"balance": "ND", "sms_count": 0}), "raise its quota"),
    ],
)
async def test_a_problem_is_one_line_that_says_what_to_do(
    wire: Wire, reaction: Respond, words: str
) -> None:
    [problem] = await problems(wire, reaction)
    assert words in problem
    assert "the-password" not in problem
    assert "\n" not in problem


async def test_a_sender_of_no_known_form_is_a_problem(wire: Wire) -> None:
    [problem] = await problems(wire, Respond(200, {"sms_count": "ND"}), sender="Åcme")
    assert "--set sender=…" in problem


# Settings


@pytest.mark.parametrize(
    "changes",
    [{"username": ""}, {"callback_token": "short"}, {"base_url": "127.0.0.1"}, {"max_parts": 0}],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"username": "tester", "password": "the-password", "callback_token": TOKEN}
    assert JasminSettings.model_validate(good).base_url == "http://127.0.0.1:1401"
    with pytest.raises(ValidationError) as caught:
        JasminSettings.model_validate(good | changes)
    assert "the-password" not in str(caught.value)
