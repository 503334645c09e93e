"""Vonage's Messages API: requests as they must be, answers as they must be understood."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import SecretStr, ValidationError

from adapters.gateways import vonage_messages as module
from adapters.gateways.base import Addresses, Answer, ErrorClass, Outgoing, Timeouts
from adapters.gateways.vonage_messages import VonageMessages, VonageMessagesSettings
from tests.adapters.gateways.wire import Reaction, Respond, Wire

pytestmark = pytest.mark.anyio

KEY, SECRET = "abcd1234", "the-api-secret"
SIGNATURE_SECRET = "the-signature-secret-of-32-bytes-"
RECEIVER = "http://127.0.0.1:8780"
APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
ERRORS = "https://developer.vonage.com/api-errors"


def pem(key: Any) -> str:
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return text.decode()


def public_pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return text.decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())
WITH_TOKEN = {"application_id": APPLICATION, "private_key": SecretStr(pem(RSA))}


def vonage_messages(base_url: str, **settings: Any) -> VonageMessages:
    made = VonageMessagesSettings(
        api_key=KEY,
        api_secret=SecretStr(SECRET),
        signature_secret=SecretStr(SIGNATURE_SECRET),
        base_url=base_url,
        **settings,
    )
    return VonageMessages(made, Addresses("main", RECEIVER), Timeouts(5, 5), 8)


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


TAKEN = Respond(202, {"message_uuid": APPLICATION})


async def submitted(wire: Wire, **changes: Any) -> dict[str, Any]:
    wire.script = [TAKEN]
    async with vonage_messages(wire.url) as gateway:
        await gateway.submit([message(**changes)])
    fields: dict[str, Any] = json.loads(wire.requests[0].body)
    return fields


# Submission: the request


async def test_a_message_is_one_json_object_with_our_reference_in_a_field(wire: Wire) -> None:
    assert await submitted(wire) == {
        "channel": "sms",
        "message_type": "text",
        "from": "15005550006",
        "to": "12125550101",
        "text": "Hello",
        "sms": {"encoding_type": "text"},
        "client_ref": "m1",
        "webhook_url": f"{RECEIVER}/gateways/main/reports",
        "webhook_version": "v1",
    }
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.headers["content-type"] == "application/json"
    login = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {login}"


@pytest.mark.parametrize(
    ("sender", "wanted"), [("+15005550006", "15005550006"), ("Acme", "Acme"), ("", None)]
)
async def test_only_numbers_lose_their_plus(wire: Wire, sender: str, wanted: str | None) -> None:
    assert (await submitted(wire, sender=sender)).get("from") == wanted


async def test_a_text_arrives_as_it_is_with_its_encoding(wire: Wire) -> None:
    fields = await submitted(wire, text="שלום\r\n👩‍👩‍👧", encoding="UCS-2")
    assert (fields["text"], fields["sms"]) == ("שלום\r\n👩‍👩‍👧", {"encoding_type": "unicode"})


@pytest.mark.parametrize(
    ("left", "lowest", "highest"),
    [
        (timedelta(hours=1), 3590, 3600),
        (timedelta(days=9), 604_800, 604_800),
        (timedelta(seconds=-9), 20, 20),
    ],
)
async def test_the_deadline_is_sent_as_seconds_within_vonages_bounds(
    wire: Wire, left: timedelta, lowest: int, highest: int
) -> None:
    fields = await submitted(wire, deadline=datetime.now(UTC) + left)
    assert lowest <= fields["ttl"] <= highest


# Submission: login by token


async def test_an_application_logs_in_by_a_token_that_its_key_signed(wire: Wire) -> None:
    wire.script = [TAKEN]
    async with vonage_messages(wire.url, **WITH_TOKEN) as gateway:
        await gateway.submit([message()])
    scheme, token = wire.requests[0].headers["authorization"].split(" ")
    claims = jwt.decode(token, public_pem(RSA), algorithms=["RS256"])
    assert scheme == "Bearer"
    assert claims["application_id"] == APPLICATION
    assert abs(claims["iat"] - time.time()) < 60
    assert claims["exp"] - claims["iat"] == 900
    assert claims["jti"]


async def test_a_token_is_used_again_and_renewed_before_it_runs_out(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now)
    wire.script = [TAKEN]
    async with vonage_messages(wire.url, **WITH_TOKEN) as gateway:
        for passed in (0, 590, 20):
            now += passed
            await gateway.submit([message()])
    first, second, third = (request.headers["authorization"] for request in wire.requests)
    assert first == second != third


# Submission: the answer


async def answer_to(wire: Wire, reaction: Reaction) -> Answer:
    wire.script = [reaction]
    async with vonage_messages(wire.url) as gateway:
        [answer] = await gateway.submit([message()])
    assert len(wire.requests) == 1
    assert answer.id == "m1"
    return answer


def error(status: int, code: str, kind: str = f"{ERRORS}/messages") -> Respond:
    return Respond(status, {"type": f"{kind}#{code}", "title": "No", "detail": "Not so"})


async def test_a_message_that_is_taken_is_accepted(wire: Wire) -> None:
    answer = await answer_to(wire, TAKEN)
    assert answer == Answer("m1", "accepted", APPLICATION)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        *((429, "1000", "retry"), (422, "1100", "retry"), (429, "throttled", "retry")),
        *((422, "1020", "recipient"), (422, "1040", "recipient"), (422, "1050", "recipient")),
        *((422, "1170", "recipient"), (422, "1160", "recipient"), (422, "1430", "recipient")),
        (422, "1240", "optout"),
        *((422, "1010", "content"), (422, "1120", "content"), (422, "1210", "content")),
        *((422, "1090", "content"), (422, "1420", "content"), (422, "1482", "content")),
        *((402, "1070", "account"), (402, "low-balance", "account"), (401, "1060", "account")),
        *((403, "1080", "account"), (401, "jwt-expired", "account")),
        # Codes that nobody has listed.
        *((422, "1999", "recipient"), (422, "invalid-params", "recipient")),
        *((401, "new-word", "account"), (429, "new-word", "retry")),
    ],
)
async def test_a_refusal_has_the_class_of_its_code(
    wire: Wire, status: int, code: str, expected: str
) -> None:
    answer = await answer_to(wire, error(status, code))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert (answer.error_code, answer.error_text) == (code, f"HTTP {status} No: Not so")


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "account"), (402, "account"), (403, "account"), (404, "account"), (429, "retry")],
)
async def test_a_refusal_without_a_code_has_the_class_of_its_status(
    wire: Wire, status: int, expected: str
) -> None:
    answer = await answer_to(wire, Respond(status, b"<html>"))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))


async def test_a_retry_waits_as_long_as_vonage_says(wire: Wire) -> None:
    assert (await answer_to(wire, Respond(429, b"", {"retry-after": "7"}))).retry_after == 7


@pytest.mark.parametrize(
    "reaction",
    [
        error(500, "1000"),
        error(422, "1030"),
        error(422, "1331"),
        error(422, "1320"),
        error(408, "1170"),
        Respond(503, b"<html>"),
        Respond(400, b"<html>"),
        Respond(422, {"title": "no type"}),
        Respond(422, {"type": "about:blank"}),
        Respond(302, b"", {"location": "/"}),
        Respond(202, b""),
        Respond(202, {"message_uuid": None}),
        Respond(202, {"message_uuid": ["u"]}),
        Respond(202, [TAKEN.body]),
    ],
    ids=lambda reaction: f"{reaction.status} {reaction.body}"[:60],
)
async def test_what_vonage_does_not_document_as_not_accepted_is_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    answer = await answer_to(wire, reaction)
    assert (answer.outcome, answer.error_class, answer.retry_after) == ("unknown", None, None)
    assert f"HTTP {reaction.status}" in answer.error_text


# Check


def application(key: Any = RSA, **changes: Any) -> Respond:
    fields = {"id": APPLICATION, "keys": {"public_key": public_pem(key)}}
    return Respond(200, fields | {"capabilities": {"messages": {}}} | changes)


ACCOUNT = Respond(200, {"total_items": 0, "_embedded": {"applications": []}})


async def problems(wire: Wire, reaction: Respond, **settings: Any) -> list[str]:
    wire.script = [reaction]
    async with vonage_messages(wire.url, sender="Acme", **settings) as gateway:
        return await gateway.check()


async def test_a_good_account_has_no_problem(wire: Wire) -> None:
    assert await problems(wire, ACCOUNT) == []
    [request] = wire.requests
    assert (request.method, request.path) == ("GET", "/v2/applications")
    assert request.headers["authorization"].startswith("Basic ")


async def test_a_good_application_has_no_problem(wire: Wire) -> None:
    assert await problems(wire, application(), **WITH_TOKEN) == []
    [request] = wire.requests
    assert (request.method, request.path) == ("GET", f"/v2/applications/{APPLICATION}")
    assert request.headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (Respond(401), "api_key or api_secret is wrong (HTTP 401)"),
        (Respond(404), "no such application: sms gateway add main vonage-messages --set appl"),
        (Respond(500), "HTTP 500"),
        (Respond(200, b"<html>"), "base_url"),
        (application(OTHER), "another public key"),
        (application(capabilities={"voice": {}}), "may not send messages"),
        (application(capabilities=None, keys=None), "may not send messages"),
    ],
)
async def test_a_problem_is_one_line_with_the_setting_and_the_mend(
    wire: Wire, reaction: Respond, words: str
) -> None:
    [problem] = await problems(wire, reaction, **WITH_TOKEN)
    assert words in problem
    assert "\n" not in problem


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"api_key": "a:b"},
        {"api_secret": ""},
        {"signature_secret": ""},
        {"application_id": "mine", "private_key": pem(RSA)},
        {"application_id": APPLICATION},
        {"application_id": APPLICATION, "private_key": " "},
        {"application_id": APPLICATION, "private_key": "the-api-secret"},
        {"application_id": APPLICATION, "private_key": pem(ELLIPTIC)},
        {"private_key": pem(RSA)},
        {"base_url": "api.nexmo.com"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"api_key": KEY, "api_secret": SECRET, "signature_secret": SIGNATURE_SECRET}
    VonageMessagesSettings.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        VonageMessagesSettings.model_validate(good | changes)
    assert not any(word in str(caught.value) for word in (SECRET, SIGNATURE_SECRET, "BEGIN"))


def test_an_empty_private_key_is_none() -> None:
    assert vonage_messages("http://h", private_key=SecretStr(""))._private_key is None
