"""Infobip: the request expected on the wire, the reply given, the answer made of it; look-ups."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import (
    Addresses,
    Answer,
    Callback,
    ErrorClass,
    Outgoing,
    Suspect,
    Timeouts,
)
from adapters.gateways.infobip import Infobip, InfobipSettings
from tests.adapters.gateways.wire import Reaction, Request, Respond, Wire

pytestmark = pytest.mark.anyio

PENDING = {"groupId": 1, "groupName": "PENDING", "id": 26, "name": "PENDING_ACCEPTED"}


def infobip(base_url: str, **settings: Any) -> Infobip:
    made = InfobipSettings(
        api_key=SecretStr("the-key"),
        callback_token=SecretStr("a-token-of-our-own-making"),
        base_url=base_url,
        **settings,
    )
    return Infobip(made, Addresses("main", "http://127.0.0.1:8780"), Timeouts(5, 5), 8)


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


def entry(number: int = 1, **changes: Any) -> dict[str, Any]:
    """What Infobip answers about a message; it echoes our id."""
    return {
        "messageId": f"m{number}",
        "destination": f"12125550{100 + number}",
        "status": PENDING,
        **changes,
    }


def rejected(name: str, number: int = 1) -> dict[str, Any]:
    status = {"groupId": 5, "groupName": "REJECTED", "id": 99, "name": name, "description": "No"}
    return entry(number, status=status)


def reply(*entries: dict[str, Any]) -> Respond:
    return Respond(200, {"bulkId": "B1", "messages": list(entries)})


async def sent(wire: Wire, *messages: Outgoing) -> dict[str, Any]:
    """The one request that these messages leave in."""
    wire.script = [reply()]
    async with infobip(wire.url) as gateway:
        await gateway.submit(messages)
    [request] = wire.requests
    told: dict[str, Any] = json.loads(request.body)
    return told


# Submission: the request


async def test_each_message_goes_under_our_id_with_an_address_of_its_own(wire: Wire) -> None:
    request = await sent(wire, message(1), message(2, "Other"))
    assert request["options"] == {"includeSmsCountInResponse": True}
    urls = [told["webhooks"]["delivery"].pop("url") for told in request["messages"]]
    assert request["messages"] == [
        {
            "sender": "+15005550006",
            "destinations": [{"to": f"1212555010{number}", "messageId": f"m{number}"}],
            "content": {"text": text},
            "webhooks": {"delivery": {}, "contentType": "application/json"},
        }
        for number, text in ((1, "Hello"), (2, "Other"))
    ]
    reports = "http://127.0.0.1:8780/gateways/main/reports"
    assert [url.partition("&token=")[0] for url in urls] == [
        f"{reports}?ref=m1",
        f"{reports}?ref=m2",
    ]
    assert all(infobip(wire.url).verify(Callback("POST", url, {}, b"")) for url in urls)
    assert (wire.requests[0].method, wire.requests[0].target) == ("POST", "/sms/3/messages")
    assert wire.requests[0].headers["authorization"] == "App the-key"


@pytest.mark.parametrize(
    "text",
    ["x" * 1600, "🎉" * 800, 'a"\\\r\n\t€[~]', "שלום 你好 👩‍👩‍👧", " \n ", ""],
    ids=["1600", "4-byte", "delimiters", "scripts", "blank", "empty"],
)
async def test_a_text_arrives_as_it_is(wire: Wire, text: str) -> None:
    assert (await sent(wire, message(text=text)))["messages"][0]["content"] == {"text": text}


@pytest.mark.parametrize(
    ("left", "lowest", "highest"),
    [
        (timedelta(hours=1), 3590, 3600),
        (timedelta(days=3), 172_800, 172_800),
        (timedelta(seconds=-9), 1, 1),
    ],
)
async def test_the_deadline_is_sent_as_seconds_within_infobips_bounds(
    wire: Wire, left: timedelta, lowest: int, highest: int
) -> None:
    request = await sent(wire, message(deadline=datetime.now(UTC) + left))
    validity = request["messages"][0]["options"]["validityPeriod"]
    assert validity["timeUnit"] == "SECONDS"
    assert lowest <= validity["amount"] <= highest


async def test_without_a_sender_the_account_chooses(wire: Wire) -> None:
    assert "sender" not in (await sent(wire, message(sender="")))["messages"][0]


# Submission: the answer


async def answers_to(wire: Wire, reaction: Reaction, number: int = 1) -> dict[str, Answer]:
    wire.script = [reaction]
    async with infobip(wire.url) as gateway:
        answers = await gateway.submit([message(i) for i in range(1, number + 1)])
    assert len(answers) == number
    return {answer.id: answer for answer in answers}


async def test_a_pending_message_is_accepted_under_our_id_with_its_segments(wire: Wire) -> None:
    answers = await answers_to(wire, reply(entry(details={"messageCount": 3})))
    assert answers["m1"] == Answer("m1", "accepted", "m1", segments=3)


async def test_each_message_finds_its_own_status_whatever_the_order(wire: Wire) -> None:
    answers = await answers_to(
        wire, reply(entry(3), rejected("REJECTED_DESTINATION", 2), entry(1)), number=3
    )
    assert [answers[f"m{i}"].outcome for i in (1, 2, 3)] == ["accepted", "refused", "accepted"]
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("odd", "outcome"),
    [
        ({"destination": "0012125550101"}, "refused"),
        ({"messageId": None}, "refused"),
        ({"messageId": "IB1"}, "unknown"),
        # Two messages go to that number.
        ({"messageId": None, "destination": "12125550102"}, "unknown"),
    ],
)
async def test_a_status_is_found_by_our_id_and_by_the_number_only_where_there_is_none(
    wire: Wire, odd: dict[str, str | None], outcome: str
) -> None:
    wire.script = [reply(entry(2), rejected("REJECTED_DESTINATION") | odd)]
    async with infobip(wire.url) as gateway:
        answers = await gateway.submit([message(1), message(2), message(2, id="m3")])
    assert [answer.outcome for answer in answers] == [outcome, "accepted", "unknown"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("REJECTED_NETWORK", "recipient"),
        ("REJECTED_PREFIX_MISSING", "recipient"),
        ("REJECTED_DND", "optout"),
        ("REJECTED_SOURCE", "content"),
        ("REJECTED_NOT_ENOUGH_CREDITS", "account"),
        ("REJECTED_SENDER", "content"),
        ("REJECTED_DESTINATION_BLOCKLISTED", "recipient"),
        ("REJECTED_PREPAID_PACKAGE_EXPIRED", "account"),
        ("REJECTED_DESTINATION_NOT_REGISTERED", "recipient"),
        ("REJECTED_ROUTE_NOT_AVAILABLE", "account"),
        ("REJECTED_FLOODING_FILTER", "recipient"),
        ("REJECTED_SYSTEM_ERROR", "retry"),
        ("REJECTED_MESSAGE_TOO_LONG", "content"),
        ("REJECTED_DESTINATION", "recipient"),
        ("REJECTED_SOMETHING_NEW", "recipient"),
    ],
)
async def test_a_rejection_inside_a_200_has_the_class_of_its_status(
    wire: Wire, name: str, expected: str
) -> None:
    answer = (await answers_to(wire, reply(rejected(name))))["m1"]
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert (answer.error_code, answer.error_text) == (name, "HTTP 200 No")
    assert answer.retry_after == (60 if expected == "retry" else None)


async def test_an_id_that_infobip_knows_was_accepted_before(wire: Wire) -> None:
    answers = await answers_to(wire, reply(rejected("REJECTED_DUPLICATE_MESSAGE_ID")))
    assert answers["m1"] == Answer("m1", "accepted", "m1")


async def test_what_a_200_rejects_is_not_sent_again_though_it_rejects_all(wire: Wire) -> None:
    # Sent again, they would come back as duplicates, and pass for accepted.
    both = reply(rejected("REJECTED_NETWORK", 1), rejected("REJECTED_SOURCE", 2))
    answers = await answers_to(wire, both, number=2)
    assert [answers[f"m{i}"].error_class for i in (1, 2)] == ["recipient", "content"]
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "told",
    [
        entry(status=None),
        entry(status={"groupName": "SOMETHING_NEW", "name": "X"}),
        entry(messageId=None),
        {},
        entry(2),
    ],
)
async def test_a_message_that_a_200_says_nothing_of_is_in_doubt(
    wire: Wire, told: dict[str, Any]
) -> None:
    answer = (await answers_to(wire, reply(told)))["m1"]
    assert (answer.outcome, answer.error_class) == ("unknown", None)


E400 = {"errorCode": "E400", "description": "Request cannot be processed.", "violations": []}
OLDER = {"requestError": {"serviceException": {"messageId": "BAD_REQUEST", "text": "No"}}}


@pytest.mark.parametrize(
    ("status", "body", "code", "expected"),
    [
        (400, E400, "E400", "recipient"),
        (400, OLDER, "BAD_REQUEST", "recipient"),
        (401, E400 | {"errorCode": "E401"}, "E401", "account"),
        (403, E400 | {"errorCode": "E403"}, "E403", "account"),
        (403, b"", None, "account"),
        (404, b"<html>", None, "account"),
        (429, E400 | {"errorCode": "E429"}, "E429", "retry"),
        (429, b"", None, "retry"),
    ],
)
async def test_a_refused_request_has_the_class_of_its_status(
    wire: Wire, status: int, body: object, code: str | None, expected: str
) -> None:
    answer = (await answers_to(wire, Respond(status, body)))["m1"]
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert answer.error_code == code


async def test_a_throttle_says_how_long_to_wait(wire: Wire) -> None:
    throttled = Respond(429, E400 | {"errorCode": "E429"}, {"retry-after": "7"})
    assert (await answers_to(wire, throttled))["m1"].retry_after == 7


@pytest.mark.parametrize(
    "reaction",
    [
        Respond(500, E400 | {"errorCode": "E500"}),
        Respond(503),
        Respond(408, E400),
        Respond(400, b"<html>"),
        Respond(400, {"description": "no code"}),
        Respond(302, b"", {"location": "/"}),
        Respond(200, b"<html>"),
        Respond(200, {"messages": "none"}),
    ],
    ids=lambda reaction: f"{reaction.status} {reaction.body}"[:40],
)
async def test_what_infobip_does_not_document_as_not_accepted_is_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    answers = await answers_to(wire, reaction, number=4)
    told = {(a.outcome, a.error_class, a.retry_after) for a in answers.values()}
    assert told == {("unknown", None, None)}
    assert len(wire.requests) == 1


async def test_a_message_that_spoils_a_request_costs_no_other(wire: Wire) -> None:
    def react(request: Request) -> Reaction:
        ids = [
            to["messageId"]
            for told in json.loads(request.body)["messages"]
            for to in told["destinations"]
        ]
        return Respond(400, E400) if "m2" in ids else reply(*(entry(int(i[1:])) for i in ids))

    wire.script = react
    async with infobip(wire.url) as gateway:
        answers = await gateway.submit([message(i, f"t{i}") for i in range(5)])
    told = {answer.id: answer.outcome for answer in answers}
    assert told == dict.fromkeys(("m0", "m1", "m3", "m4"), "accepted") | {"m2": "refused"}


# Check


async def problems(wire: Wire, *reactions: Respond, **settings: Any) -> list[str]:
    wire.script = list(reactions)
    async with infobip(wire.url, **({"sender": "+15005550006"} | settings)) as gateway:
        return await gateway.check()


async def test_a_good_account_and_sender_have_no_problem(wire: Wire) -> None:
    assert await problems(wire, Respond(200, {"results": []})) == []
    assert [(r.method, r.target) for r in wire.requests] == [("GET", "/sms/3/logs?limit=1")]


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (Respond(401), "api_key is wrong (HTTP 401): sms gateway add main infobip --set api_key=…"),
        (Respond(403), "api_key or lacks the scope sms:logs:read"),
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


# Look-ups


LOG = entry(
    status={"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"},
    error={"name": "NO_ERROR"},
    doneAt="2026-11-24T16:00:00.000+0100",
    messageCount=2,
    price={"pricePerMessage": 0.01, "currency": "EUR"},
)


async def test_a_message_in_the_logs_was_accepted(wire: Wire) -> None:
    wire.script = [Respond(200, {"results": [LOG, entry(7)]})]
    now = datetime.now(UTC)
    suspects = [Suspect(f"m{i}", "+12125550101", "t", "", now, now, "s1") for i in (1, 2)]
    async with infobip(wire.url) as gateway:
        findings = await gateway.recover(suspects)
    assert [(f.id, f.outcome, f.gateway_message_id) for f in findings] == [("m1", "accepted", "m1")]
    [request] = wire.requests
    assert (request.path, request.query) == (
        "/sms/3/logs",
        {"messageId": "m1,m2", "limit": "1000"},
    )


async def test_a_poll_reads_status_time_and_price_of_all_segments(wire: Wire) -> None:
    wire.script = [Respond(200, {"results": [LOG, {"messageId": "m2"}]})]
    async with infobip(wire.url) as gateway:
        [report] = await gateway.poll(["m1", "m2"])
    assert (report.status, report.gateway_message_id, report.recipient) == (
        "delivered",
        "m1",
        "+12125550101",
    )
    assert report.occurred_at == datetime(2026, 11, 24, 15, tzinfo=UTC)
    assert (report.price, report.currency) == (Decimal("0.02"), "EUR")


async def test_a_look_up_asks_for_as_many_ids_as_its_address_may_have(wire: Wire) -> None:
    wire.script = [Respond(200, {"results": []})]
    ids = [f"{number:032x}" for number in range(1000)]
    async with infobip(wire.url) as gateway:
        await gateway.poll(ids)
    asked = [request.query["messageId"] for request in wire.requests]
    assert sorted(id_ for some in asked for id_ in some.split(",")) == ids
    assert max(map(len, asked)) <= 2048


# Settings


@pytest.mark.parametrize(
    "changes",
    [{"api_key": ""}, {"callback_token": "too-short"}, {"base_url": "api.infobip.com"}],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"api_key": "secret-key", "callback_token": "0123456789abcdef"}
    InfobipSettings.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        InfobipSettings.model_validate(good | changes)
    assert "secret-key" not in str(caught.value)
