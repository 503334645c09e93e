"""What every gateway adapter must do, whatever its wire format: settings, submission, look-ups.

A new kind needs an example in `examples/`, and fails here until it has one. Callbacks are in
test_contract_callbacks.py.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from adapters.gateways import ADAPTERS, KINDS, Settings, make_gateway
from adapters.gateways.base import (
    Answer,
    ErrorClass,
    Gateway,
    GatewayError,
    GatewaySettings,
    Outgoing,
    Suspect,
    Timeouts,
)
from adapters.gateways.http import HttpAdapter
from tasks.grouping import groups
from tests.adapters.gateways.contract import EXAMPLES, gateway, settings
from tests.adapters.gateways.example import HTTP_KINDS, Example, messages, numbers
from tests.adapters.gateways.wire import Drop, Raw, Reaction, Request, Reset, Respond, Wire

pytestmark = pytest.mark.anyio


def test_every_kind_is_under_contract() -> None:
    assert set(EXAMPLES) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_who_sends_by_http_has_an_address_in_its_settings(kind: str) -> None:
    assert issubclass(ADAPTERS[KINDS[kind]], HttpAdapter) == (kind in HTTP_KINDS)


async def submit(made: Gateway, outgoing: Sequence[Outgoing]) -> dict[str, Answer]:
    """Submit messages as the sender does, in requests that the gateway can take."""
    parts = await asyncio.gather(*map(made.submit, groups(outgoing, made.capabilities)))
    answers = [answer for part in parts for answer in part]
    assert sorted(answer.id for answer in answers) == sorted(message.id for message in outgoing)
    return {answer.id: answer for answer in answers}


def requests_of_each(outgoing: Iterable[Outgoing], wire: Wire) -> list[int]:
    """How many requests carried each message."""
    seen = Counter(number for request in wire.requests for number in numbers(request))
    return [seen[message.to[1:]] for message in outgoing]


# Settings


def test_settings_are_told_apart_by_kind(any_kind: str) -> None:
    kind, example = any_kind, EXAMPLES[any_kind]

    class Block(BaseModel):
        settings: Settings

    block = Block.model_validate({"settings": {"kind": kind, **example.settings}})
    assert type(block.settings) is KINDS[kind]
    with pytest.raises(ValidationError):
        Block.model_validate({"settings": {"kind": "carrier-pigeon", **example.settings}})


def test_every_field_of_the_form_is_described(any_kind: str) -> None:
    fields = KINDS[any_kind].model_fields
    assert [name for name in fields if name != "kind" and not fields[name].description] == []


def test_secrets_are_secret(any_kind: str) -> None:
    made, example = settings(any_kind, "http://127.0.0.1:1"), EXAMPLES[any_kind]
    secrets = [value for _, value in made if isinstance(value, SecretStr)]
    assert {secret.get_secret_value() for secret in secrets} == set(example.secrets)
    assert not any(secret in repr(made) for secret in example.secrets)


def test_settings_of_no_known_gateway_make_none() -> None:
    with pytest.raises(GatewayError, match="gateway main: kind"):
        make_gateway(
            "main", GatewaySettings(), receiver_url="http://127.0.0.1", timeouts=Timeouts()
        )


def test_an_adapter_is_a_gateway(any_kind: str) -> None:
    made = gateway(any_kind, "http://127.0.0.1:1")
    assert isinstance(made, Gateway)
    assert (made.capabilities.batch == "single") == (made.capabilities.max_batch == 1)


# Submission


@pytest.mark.parametrize("text", [None, "one for all"], ids=["own_texts", "one_text"])
async def test_each_message_gets_its_own_answer(
    wire: Wire, kind: str, example: Example, text: str | None
) -> None:
    wire.script = example.accept
    sent = messages(50, text=text)
    async with gateway(kind, wire.url) as made:
        answers = await submit(made, sent)
        requests = len(groups(sent, made.capabilities))
    assert {answer.outcome for answer in answers.values()} == {"accepted"}
    ids = [answers[message.id].gateway_message_id or "" for message in sent]
    if example.own_ids:
        assert all(
            id_ == message.id or id_.endswith(message.to[1:])
            for id_, message in zip(ids, sent, strict=True)
        )
    else:
        assert len({*ids} - {""}) in {requests, 0}
    assert len(wire.requests) == requests
    assert requests_of_each(sent, wire) == [1] * 50
    texts = [message.text.encode() for message in sent if message.text != text]
    assert all(sum(text in request.body for request in wire.requests) <= 1 for text in texts)


async def test_no_more_requests_than_allowed_are_in_flight(
    wire: Wire, kind: str, example: Example
) -> None:
    wire.script = example.accept
    async with gateway(kind, wire.url, in_flight=3) as made:
        await asyncio.gather(*(made.submit([message]) for message in messages(30)))
    assert wire.most_at_once <= 3


@pytest.mark.parametrize("text", [None, "one for all"], ids=["own_texts", "one_text"])
async def test_one_refusal_leaves_the_others_alone(
    wire: Wire, kind: str, example: Example, text: str | None
) -> None:
    sent = messages(5, text=text)
    bad = sent[1].to[1:]

    def react(request: Request) -> Reaction:
        refused = bad in numbers(request)
        return example.refuse(request, bad) if refused else example.accept(request)

    wire.script = react
    async with gateway(kind, wire.url) as made:
        answers = await submit(made, sent)
    outcomes = [answers[message.id].outcome for message in sent]
    assert outcomes == ["accepted", "refused", "accepted", "accepted", "accepted"]
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
    first, second = messages(2)

    def react(request: Request) -> Reaction:
        return failure if second.to[1:] in numbers(request) else example.accept(request)

    wire.script = react
    async with gateway(kind, wire.url, timeout=0.5) as made:
        if kept_alive:
            await made.submit([first])
        [answer] = await made.submit([second])
    assert (answer.outcome, answer.error_class) == ("unknown", None)
    assert requests_of_each([second], wire) == [1]
    assert wire.connections == 1


@pytest.mark.parametrize(
    "failure",
    [Reset(), Drop(), Respond(503), Respond(200, b"<html>"), Respond(200, {})],
    ids=["reset", "dropped", "503", "200-html", "200-empty"],
)
async def test_of_a_whole_group_nothing_is_known_and_nothing_is_sent_again(
    wire: Wire, kind: str, failure: Reaction
) -> None:
    wire.script = [failure]
    sent = messages(8, text="one for all")
    async with gateway(kind, wire.url) as made:
        answers = await submit(made, sent)
    assert {(a.outcome, a.error_class) for a in answers.values()} == {("unknown", None)}
    assert requests_of_each(sent, wire) == [1] * 8


async def test_a_message_is_posted(wire: Wire, kind: str, example: Example) -> None:
    wire.script = example.accept
    async with gateway(kind, wire.url) as made:
        await made.submit(messages(1))
    assert [request.method for request in wire.requests] == ["POST"]


async def test_no_connection_is_a_refusal_that_may_be_tried_again(
    kind: str, free_port: Callable[[], int]
) -> None:
    async with gateway(kind, f"http://127.0.0.1:{free_port()}") as made:
        answers = await submit(made, messages(3))
    assert {(a.outcome, a.error_class) for a in answers.values()} == {("refused", ErrorClass.RETRY)}


async def test_no_number_and_no_secret_is_in_an_answer_or_a_log_line(
    wire: Wire, kind: str, example: Example, caplog: pytest.LogCaptureFixture
) -> None:
    suspect = Suspect("m0", "+12125550100", "text00", "", datetime.now(UTC), datetime.now(UTC))
    reactions = [
        lambda request: example.refuse(request, "12125550100"),
        [Respond(500, b"+12125550100")],
        [Reset()],
        [Respond(401)],
    ]
    said = ""
    with caplog.at_level(logging.DEBUG):
        async with gateway(kind, wire.url) as made:
            for reaction in reactions:
                wire.script = reaction
                said += "".join(answer.error_text for answer in await made.submit(messages(1)))
                said += "".join(await made.check())
                await made.recover([suspect])
    said += caplog.text
    assert not any(word in said for word in ("2125550100", "text00", *example.secrets))


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
