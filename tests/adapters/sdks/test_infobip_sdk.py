"""Infobip's own Python SDK agrees with the sandbox, and with the adapter's requests.

It has no helper for callbacks: its models read what the sandbox calls back with.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from infobip_api_client.api.sms_api import SmsApi
from infobip_api_client.api_client import ApiClient
from infobip_api_client.configuration import Configuration
from infobip_api_client.exceptions import ApiException
from infobip_api_client.models.sms_delivery_result import SmsDeliveryResult
from infobip_api_client.models.sms_inbound_message_result import SmsInboundMessageResult
from infobip_api_client.models.sms_request import SmsRequest

from adapters.gateways import make_gateway
from adapters.gateways.base import Answer, Finding, Gateway, Outgoing, Report, Suspect, Timeouts
from adapters.gateways.infobip import InfobipSettings
from tests.adapters.gateways.wire import Respond, Wire
from tests.adapters.sdks.conftest import Receiver
from tests.sandboxes import TOKEN, Sandbox, wait_until

SENDER = "+15005550006"
NOWHERE = "http://127.0.0.1:1"


def client(sandbox: Sandbox, key: str = TOKEN) -> SmsApi:
    return SmsApi(ApiClient(Configuration(host=sandbox.url, api_key=key)))


@pytest.fixture
def sdk(sandbox: Sandbox) -> SmsApi:
    return client(sandbox)


def request(*destinations: dict[str, str], **fields: Any) -> SmsRequest:
    message = {
        "sender": SENDER,
        "destinations": [*destinations],
        "content": {"text": "Grüße 🎉"},
        **fields,
    }
    return SmsRequest.from_dict({"messages": [message]})


def gateway(at: str, receiver: str, **settings: str) -> Gateway:
    values = {"api_key": TOKEN, "callback_token": TOKEN, "sender": SENDER, "base_url": at}
    made = InfobipSettings.model_validate(values | settings)
    return make_gateway("main", made, receiver_url=receiver, timeouts=Timeouts())


def outgoing(name: str, to: str, text: str = "Hello", submission: str = "w1") -> Outgoing:
    until = datetime.now(UTC) + timedelta(hours=1)
    return Outgoing(name, to, text, SENDER, "UCS-2", 1, until, submission)


def submit(made: Gateway, *messages: Outgoing) -> list[Answer]:
    async def run() -> list[Answer]:
        async with made:
            return await made.submit(messages)

    return sorted(asyncio.run(run()), key=lambda answer: answer.id)


# Sending


def test_the_sdk_sends_and_reads_the_answer(sdk: SmsApi, sandbox: Sandbox) -> None:
    ann, bob = sandbox.number(), sandbox.number()
    validity = {"validityPeriod": {"amount": 60, "timeUnit": "MINUTES"}}
    asked = request({"to": ann, "messageId": f"id-{ann}"}, {"to": bob[1:]}, options=validity)
    answer = sdk.send_sms_messages(asked)
    assert answer.bulk_id
    mine, other = answer.messages
    assert (mine.message_id, mine.destination) == (f"id-{ann}", ann[1:])
    assert (mine.status.name, mine.status.group_name) == ("PENDING_ACCEPTED", "PENDING")
    assert other.message_id not in {None, mine.message_id}
    assert [line["body"] for line in sandbox.accepted(ann)] == ["Grüße 🎉"]
    assert [line["sid"] for line in sandbox.accepted(bob)] == [other.message_id]


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("+12025551610", "REJECTED_DND"),
        ("+12025551611", "REJECTED_SENDER"),
        ("+12025551614", "REJECTED_PREFIX_MISSING"),
    ],
)
def test_the_sdk_reads_what_is_rejected_beside_what_is_not(
    sdk: SmsApi, sandbox: Sandbox, to: str, status: str
) -> None:
    answer = sdk.send_sms_messages(request({"to": to}, {"to": sandbox.number()}))
    told = [(each.status.group_name, each.status.name) for each in answer.messages]
    assert told == [("REJECTED", status), ("PENDING", "PENDING_ACCEPTED")]


def test_the_sdk_reads_that_an_id_was_taken_before(sdk: SmsApi, sandbox: Sandbox) -> None:
    asked = request({"to": (to := sandbox.number()), "messageId": f"id-{to}"})
    names = [sdk.send_sms_messages(asked).messages[0].status.name for _ in range(2)]
    assert names == ["PENDING_ACCEPTED", "REJECTED_DUPLICATE_MESSAGE_ID"]
    assert len(sandbox.accepted(to)) == 1


def test_the_sdk_reads_the_logs(sdk: SmsApi, sandbox: Sandbox) -> None:
    ids = [
        sdk.send_sms_messages(request({"to": to})).messages[0].message_id
        for to in (sandbox.number(), "+12025553005")
    ]

    def logs() -> list[Any]:
        found: list[Any] = sdk.get_outbound_sms_message_logs(message_id=ids).results
        return found

    wait_until(lambda: [log.status.group_name for log in logs()] == ["DELIVERED", "UNDELIVERABLE"])
    assert [log.error.name for log in logs()] == ["NO_ERROR", "EC_UNKNOWN_SUBSCRIBER"]
    assert {log.price.currency for log in logs()} == {"EUR"}


@pytest.mark.parametrize(
    ("key", "rule", "fields", "expected"),
    [
        ("wrong", None, {}, (401, "E401")),
        (TOKEN, "throttled", {}, (429, "E429")),
        (TOKEN, "account", {}, (403, "E403")),
        (TOKEN, None, {"sender": "A name that is too long"}, (400, "E400")),
    ],
)
def test_the_sdk_reads_what_fails_as_a_whole(
    sandbox: Sandbox, key: str, rule: str | None, fields: dict[str, str], expected: tuple[int, str]
) -> None:
    if rule:
        sandbox.order({"kind": "refuse", "why": rule, "times": 1})
    with pytest.raises(ApiException) as caught:
        client(sandbox, key).send_sms_messages(request({"to": sandbox.number()}, **fields))
    assert (caught.value.status, json.loads(caught.value.body)["errorCode"]) == expected


# The adapter's requests


def test_the_sdk_knows_every_field_that_we_send() -> None:
    async def run() -> bytes:
        async with Wire() as wire:
            wire.script = [Respond(200, {"messages": []})]
            messages = [outgoing("m0", "+12125550100"), outgoing("m1", "+12125550101", "Other")]
            async with gateway(wire.url, NOWHERE) as made:
                await made.submit(messages)
            return wire.requests[0].body

    ours = json.loads(asyncio.run(run()))
    assert SmsRequest.from_dict(ours).to_dict() == ours


# Callbacks


def test_the_sdks_models_read_the_reports_of_the_sandbox(
    sdk: SmsApi, sandbox: Sandbox, receiver: Receiver
) -> None:
    to = sandbox.number()
    webhooks = {
        "delivery": {"url": f"{receiver.address}/reports", "intermediateReport": True},
        "callbackData": "ours",
    }
    sdk.send_sms_messages(request({"to": to, "messageId": f"id-{to}"}, webhooks=webhooks))
    callback = receiver.wait(lambda callback: b"DELIVERED" in callback.body)
    [report] = SmsDeliveryResult.from_json(callback.body.decode()).results
    assert (report.message_id, report.to, report.callback_data) == (f"id-{to}", to[1:], "ours")
    assert (report.status.name, report.error.name) == ("DELIVERED_TO_HANDSET", "NO_ERROR")
    assert report.done_at >= report.sent_at
    assert len(receiver.got) == 2


def test_the_sdks_models_read_an_inbound_message_of_the_sandbox(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    reply = {
        "kind": "infobip",
        "from": sandbox.number(),
        "to": SENDER,
        "body": "STOP – à bientôt",
        "url": f"{receiver.address}/inbound",
    }
    sandbox.client.post("/_send_inbound", json=reply).raise_for_status()
    [callback] = receiver.got
    [read] = SmsInboundMessageResult.from_json(callback.body.decode()).results
    assert (read.var_from, read.to, read.text) == (reply["from"][1:], SENDER[1:], reply["body"])


# The adapter and the sandbox


def test_the_adapter_sends_through_the_sandbox_and_reads_its_reports(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    made = gateway(sandbox.url, receiver.address)
    long = "Grüße 🎉 ${0} " * 60
    sent = {sandbox.number(): "short", sandbox.number(): long, "+12025552610": "Hello"}
    answers = submit(made, *(outgoing(f"m{to[1:]}", to, text) for to, text in sent.items()))
    segments = {f"+{answer.id[1:]}": answer.segments for answer in answers}
    assert segments[next(iter(sent))] == 1
    assert segments[list(sent)[1]] == 13
    assert {to: sandbox.accepted(to)[0]["body"] for to in sent} == sent
    wait_until(lambda: len(receiver.got) == 3)
    assert all(made.verify(callback) for callback in receiver.got)
    reports = {
        report.recipient: report for callback in receiver.got for report in made.parse(callback)[0]
    }
    assert {to: report.reference for to, report in reports.items()} == {
        to: f"m{to[1:]}" for to in sent
    }
    assert {to: report.status for to, report in reports.items()} == dict.fromkeys(
        sent, "delivered"
    ) | {"+12025552610": "undelivered"}
    assert reports["+12025552610"].error_class == "optout"
    assert reports[list(sent)[1]].price == 13 * Decimal("0.0081")


def test_what_the_adapter_never_heard_of_is_found_and_is_taken_once_when_sent_again(
    sandbox: Sandbox,
) -> None:
    made, numbers = gateway(sandbox.url, NOWHERE), [sandbox.number() for _ in range(3)]
    messages = [outgoing(f"n{to}", to) for to in numbers]
    sandbox.order({"kind": "reset", "accepted": True, "times": 1})
    assert {answer.outcome for answer in submit(made, *messages[:2])} == {"unknown"}
    now = datetime.now(UTC)
    suspects = [Suspect(m.id, m.to, m.text, SENDER, now, now, "w1") for m in messages]

    async def run() -> list[Finding]:
        async with made:
            return list(await made.recover(suspects))

    assert [finding.id for finding in asyncio.run(run())] == [m.id for m in messages[:2]]
    assert {answer.outcome for answer in submit(made, *messages)} == {"accepted"}
    assert [len(sandbox.accepted(to)) for to in numbers] == [1, 1, 1]


def test_the_adapter_polls_the_sandbox(sandbox: Sandbox) -> None:
    made, to = gateway(sandbox.url, NOWHERE), sandbox.number()
    submit(made, outgoing(f"p{to}", to))

    def poll() -> list[Report]:
        async def run() -> list[Report]:
            async with made:
                return list(await made.poll([f"p{to}", "nobody's"]))

        return asyncio.run(run())

    wait_until(lambda: [report.status for report in poll()] == ["delivered"])
    assert poll()[0].gateway_message_id == f"p{to}"


def test_the_check_finds_nothing_wrong_with_the_sandbox_and_its_settings(sandbox: Sandbox) -> None:
    async def run(**settings: str) -> list[str]:
        async with gateway(sandbox.url, NOWHERE, **settings) as made:
            return await made.check()

    assert asyncio.run(run(**sandbox.settings("infobip"))) == []
    [problem] = asyncio.run(run(api_key="wrong"))
    assert "--set api_key=" in problem
