"""What every gateway adapter must do, whatever its wire format.

A new kind needs an entry in `EXAMPLES`, and fails here until it has one.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from adapters.gateways import KINDS, Settings, make_gateway
from adapters.gateways.base import (
    Callback,
    CallbackError,
    ErrorClass,
    Gateway,
    GatewayError,
    GatewaySettings,
    Outgoing,
    Suspect,
    Timeouts,
)
from tests.adapters.gateways.wire import Drop, Raw, Reaction, Request, Reset, Respond, Wire

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Example:
    """Settings that work, and how this gateway says yes and no."""

    settings: dict[str, Any]
    secrets: tuple[str, ...]
    accept: Callable[[Request], Respond]
    refuse: Respond
    """A refusal of one recipient."""
    callback: bytes
    """A delivery report, unsigned."""


def _twilio_accepts(request: Request) -> Respond:
    return Respond(201, {"sid": "SM" + request.form["Body"], "status": "queued"})


EXAMPLES = {
    "twilio": Example(
        settings={"account_sid": "AC" + "5" * 32, "auth_token": "the-secret"},
        secrets=("the-secret",),
        accept=_twilio_accepts,
        refuse=Respond(400, {"code": 21211, "message": "+12125550100 is not valid"}),
        callback=b"MessageSid=SM1&MessageStatus=delivered",
    ),
}


def test_every_kind_is_under_contract() -> None:
    assert set(EXAMPLES) == set(KINDS)


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def example(kind: str) -> Example:
    return EXAMPLES[kind]


def settings(kind: str, base_url: str) -> GatewaySettings:
    values = EXAMPLES[kind].settings | {"base_url": base_url, "sender": "+15005550006"}
    return KINDS[kind].model_validate(values)


def gateway(kind: str, base_url: str, *, timeout: float = 5, in_flight: int = 8) -> Gateway:
    return make_gateway(
        "main",
        settings(kind, base_url),
        receiver_url="http://127.0.0.1:8780",
        timeouts=Timeouts(timeout, timeout),
        requests_in_flight=in_flight,
    )


def messages(number: int) -> list[Outgoing]:
    return [
        Outgoing(f"m{i}", f"+12125550{100 + i}", f"text{i}", "+15005550006", "GSM-7", 1)
        for i in range(number)
    ]


# Settings


def test_settings_are_told_apart_by_kind(kind: str, example: Example) -> None:
    class Block(BaseModel):
        settings: Settings

    block = Block.model_validate({"settings": {"kind": kind, **example.settings}})
    assert type(block.settings) is KINDS[kind]
    with pytest.raises(ValidationError):
        Block.model_validate({"settings": {"kind": "carrier-pigeon", **example.settings}})


def test_every_field_of_the_form_is_described(kind: str) -> None:
    fields = KINDS[kind].model_fields
    assert [name for name in fields if name != "kind" and not fields[name].description] == []
    assert "base_url" in fields


def test_secrets_are_secret(kind: str, example: Example) -> None:
    made = settings(kind, "http://127.0.0.1:1")
    secrets = [value for _, value in made if isinstance(value, SecretStr)]
    assert {secret.get_secret_value() for secret in secrets} == set(example.secrets)
    assert not any(secret in repr(made) for secret in example.secrets)


def test_settings_of_no_known_gateway_make_none() -> None:
    with pytest.raises(GatewayError, match="gateway main: kind"):
        make_gateway(
            "main", GatewaySettings(), receiver_url="http://127.0.0.1", timeouts=Timeouts()
        )


def test_an_adapter_is_a_gateway(kind: str) -> None:
    made = gateway(kind, "http://127.0.0.1:1")
    assert isinstance(made, Gateway)
    assert (made.capabilities.batch == "single") == (made.capabilities.max_batch == 1)


# Submission


async def test_each_message_gets_its_own_answer(wire: Wire, kind: str, example: Example) -> None:
    wire.script = example.accept
    async with gateway(kind, wire.url) as made:
        answers = await made.submit(messages(50))
    assert sorted(answer.id for answer in answers) == sorted(m.id for m in messages(50))
    assert {answer.outcome for answer in answers} == {"accepted"}
    for answer in answers:
        assert answer.gateway_message_id
        assert answer.gateway_message_id.endswith(f"text{answer.id[1:]}")
    assert len(wire.requests) == 50


async def test_no_more_requests_than_allowed_are_in_flight(
    wire: Wire, kind: str, example: Example
) -> None:
    wire.script = example.accept
    async with gateway(kind, wire.url, in_flight=3) as made:
        await asyncio.gather(*(made.submit([message]) for message in messages(30)))
    assert wire.most_at_once <= 3


async def test_one_refusal_leaves_the_others_alone(wire: Wire, kind: str, example: Example) -> None:
    def react(request: Request) -> Reaction:
        return example.refuse if b"text1" in request.body else example.accept(request)

    wire.script = react
    async with gateway(kind, wire.url) as made:
        answers = {answer.id: answer for answer in await made.submit(messages(3))}
    assert [answers[f"m{i}"].outcome for i in range(3)] == ["accepted", "refused", "accepted"]
    assert answers["m1"].error_class is ErrorClass.RECIPIENT


@pytest.mark.parametrize(
    "failure",
    [
        Reset(),
        Drop(),
        Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"),
        Respond(500),
        Respond(502, b"<html>Bad Gateway"),
        Respond(504),
        Respond(200, b"<html>Welcome to the hotel"),
        Respond(302, b"", {"location": "/login"}),
        Respond(200, b"{" * (1 << 20) + b"{"),
        Respond(delay=2),
    ],
    ids=lambda failure: type(failure).__name__ + str(getattr(failure, "status", "")),
)
@pytest.mark.parametrize("kept_alive", [False, True])
async def test_what_is_unclear_is_unknown_after_one_request(
    wire: Wire, kind: str, example: Example, failure: Reaction, kept_alive: bool
) -> None:
    def react(request: Request) -> Reaction:
        return failure if b"text1" in request.body else example.accept(request)

    wire.script = react
    first, second = messages(2)
    async with gateway(kind, wire.url, timeout=0.5) as made:
        if kept_alive:
            await made.submit([first])
        [answer] = await made.submit([second])
    assert (answer.outcome, answer.error_class) == ("unknown", None)
    assert sum(b"text1" in request.body for request in wire.requests) == 1
    assert wire.connections == 1


async def test_a_message_is_posted(wire: Wire, kind: str, example: Example) -> None:
    wire.script = example.accept
    async with gateway(kind, wire.url) as made:
        await made.submit(messages(1))
    assert [request.method for request in wire.requests] == ["POST"]


async def test_no_connection_is_a_refusal_that_may_be_tried_again(
    kind: str, free_port: Callable[[], int]
) -> None:
    async with gateway(kind, f"http://127.0.0.1:{free_port()}") as made:
        answers = await made.submit(messages(3))
    assert {(a.outcome, a.error_class) for a in answers} == {("refused", ErrorClass.RETRY)}


async def test_no_number_and_no_secret_is_in_an_answer_or_a_log_line(
    wire: Wire, kind: str, example: Example, caplog: pytest.LogCaptureFixture
) -> None:
    suspect = Suspect("m0", "+12125550100", "text0", "", datetime.now(UTC), datetime.now(UTC))
    reactions = [example.refuse, Respond(500, b"+12125550100"), Reset(), Respond(401)]
    said = ""
    with caplog.at_level(logging.DEBUG):
        async with gateway(kind, wire.url) as made:
            for reaction in reactions:
                wire.script = [reaction]
                said += "".join(answer.error_text for answer in await made.submit(messages(1)))
                said += "".join(await made.check())
                await made.recover([suspect])
    said += caplog.text
    assert not any(word in said for word in ("2125550100", "text0", *example.secrets))


# What is asked


async def test_an_address_that_nobody_answers_is_a_problem_in_one_line(
    kind: str, free_port: Callable[[], int]
) -> None:
    async with gateway(kind, f"http://127.0.0.1:{free_port()}") as made:
        [problem] = await made.check()
    assert "base_url" in problem
    assert f"sms gateway add main {kind} --set" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("reaction", [Respond(500), Respond(200, b"<html>"), Respond(200, [1])])
async def test_a_gateway_that_does_not_answer_clearly_settles_nothing(
    wire: Wire, kind: str, reaction: Respond
) -> None:
    wire.script = [reaction]
    now = datetime.now(UTC)
    suspect = Suspect("m0", "+12125550100", "t", "", now - timedelta(minutes=1), now)
    async with gateway(kind, wire.url) as made:
        assert await made.recover([suspect]) == []
        assert await made.poll(["id1"]) == []
        assert await made.check() != []


async def test_nothing_asked_is_nothing_said(wire: Wire, kind: str) -> None:
    async with gateway(kind, wire.url) as made:
        assert (await made.submit([]), await made.recover([]), await made.poll([])) == ([], [], [])
    assert wire.requests == []


# Callbacks


def test_a_callback_without_its_signature_does_not_verify(kind: str, example: Example) -> None:
    made = gateway(kind, "http://127.0.0.1:1")
    url = "http://127.0.0.1:8780/gateways/main/reports?ref=m1"
    assert not made.verify(Callback("POST", url, {}, example.callback))


def test_a_report_carries_our_reference(kind: str, example: Example) -> None:
    made = gateway(kind, "http://127.0.0.1:1")
    url = "http://127.0.0.1:8780/gateways/main/reports?ref=m1"
    [report], inbound = made.parse(Callback("POST", url, {}, example.callback))
    assert (report.reference, inbound) == ("m1", [])


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b"[1]", b"\xff\xfe\x00", b"&=&=", b"x" * 9999]
)
def test_rubbish_is_no_callback(kind: str, body: bytes) -> None:
    made = gateway(kind, "http://127.0.0.1:1")
    callback = Callback("POST", "http://127.0.0.1:8780/gateways/main/reports", {}, body)
    assert made.verify(callback) is False
    with pytest.raises(CallbackError):
        made.parse(callback)
