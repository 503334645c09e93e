"""Sinch's own Python SDK agrees with the sandbox, with the adapter's requests and signatures."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sinch import SinchClient
from sinch.core.clients.retry_configuration import RetryConfiguration
from sinch.core.enums import RetryPolicy
from sinch.domains.authentication.sinch_events.v1 import authentication_validation as signing
from sinch.domains.sms.api.v1.exceptions import SmsException
from sinch.domains.sms.models.v1.shared.text_request import TextRequest

from adapters.gateways import make_gateway
from adapters.gateways.base import Answer, Callback, Finding, Gateway, Outgoing, Suspect, Timeouts
from adapters.gateways.sinch import SinchSettings
from tests.adapters.gateways.wire import Respond, Wire
from tests.adapters.sdks.conftest import Receiver
from tests.sandboxes import TOKEN, Sandbox, wait_until

SENDER = "+15005550006"


def client(sandbox: Sandbox, token: str = TOKEN) -> SinchClient:
    made = SinchClient(
        service_plan_id=sandbox.settings("sinch")["service_plan_id"],
        sms_api_token=token,
        # By itself it sends what was throttled up to three times again.
        retry_configuration=RetryConfiguration(RetryPolicy.NONE),
    )
    made.configuration.sms_origin_with_service_plan_id = sandbox.url
    return made


@pytest.fixture
def sdk(sandbox: Sandbox) -> SinchClient:
    return client(sandbox)


def gateway(at: str, receiver: str, **settings: str) -> Gateway:
    values = {
        "service_plan_id": "sandbox-plan",
        "api_token": TOKEN,
        "callback_secret": TOKEN,
        "sender": SENDER,
        "base_url": at,
    }
    made = SinchSettings.model_validate(values | settings)
    return make_gateway("main", made, receiver_url=receiver, timeouts=Timeouts())


def outgoing(number: int, to: str, text: str, submission: str) -> Outgoing:
    until = datetime.now(UTC) + timedelta(hours=1)
    return Outgoing(f"m{number}", to, text, SENDER, "UCS-2", 1, until, submission)


def submit(made: Gateway, *messages: Outgoing) -> list[Answer]:
    async def run() -> list[Answer]:
        async with made:
            return await made.submit(messages)

    return sorted(asyncio.run(run()), key=lambda answer: answer.id)


# Sending


def test_the_sdk_sends_and_reads_the_answer(sdk: SinchClient, sandbox: Sandbox) -> None:
    ann, bob = sandbox.number(), sandbox.number()
    sent = sdk.sms.batches.send_sms(
        to=[ann, bob],
        from_=SENDER,
        body="Grüße ${name} 🎉",
        parameters={"name": {ann: "Ann", "default": "you"}},
        client_reference="w1",
        expire_at=datetime.now(UTC) + timedelta(hours=1),
    )
    assert sent.id
    assert (sent.client_reference, sent.canceled, sent.from_) == ("w1", False, SENDER)
    assert sorted(sent.to) == sorted(number[1:] for number in (ann, bob))
    taken = [sandbox.accepted(number)[0] for number in (ann, bob)]
    assert [line["body"] for line in taken] == ["Grüße Ann 🎉", "Grüße you 🎉"]
    assert {line["batch"] for line in taken} == {sent.id}


def test_the_sdk_finds_a_batch_by_its_reference_and_by_its_id(
    sdk: SinchClient, sandbox: Sandbox
) -> None:
    sent = [
        sdk.sms.batches.send_sms(
            to=[sandbox.number()], from_=SENDER, body="Hello", client_reference=reference
        )
        for reference in ("found", "found", "other")
    ]
    # Pages of one, so that it asks for the next.
    found = sdk.sms.batches.list(client_reference="found", page_size=1)
    assert {batch.id for batch in found.iterator()} == {sent[0].id, sent[1].id}
    assert sdk.sms.batches.get(batch_id=sent[2].id).client_reference == "other"


def test_the_sdk_reads_delivery_reports(sdk: SinchClient, sandbox: Sandbox) -> None:
    to = [sandbox.number(), "+12025553005"]
    batch = sdk.sms.batches.send_sms(to=to, from_=SENDER, body="Hello").id

    def report(number: str) -> Any:
        return sdk.sms.delivery_reports.get_for_number(batch_id=batch, recipient=number[1:])

    wait_until(lambda: report(to[0]).status == "Delivered")
    wait_until(lambda: report(to[1]).status == "Failed")
    assert (report(to[1]).code, report(to[1]).type) == (150, "recipient_delivery_report_sms")
    full = sdk.sms.delivery_reports.get(batch_id=batch, report_type="full")
    told = {(each.status, each.code): each.recipients for each in full.statuses}
    assert told == {("Delivered", 0): [to[0][1:]], ("Failed", 150): [to[1][1:]]}
    assert full.total_message_count == 2


@pytest.mark.parametrize(
    ("to", "fields", "status", "code"),
    [
        ("+12025551614", {}, 400, "syntax_invalid_parameter_format"),
        ("12", {}, 400, "syntax_invalid_parameter_format"),
        ("+12025551611", {}, 403, "unknown_campaign"),
        (None, {"delivery_report": "per_recipient"}, 403, "missing_callback_url"),
        (None, {"send_at": datetime.now(UTC)}, 400, "syntax_constraint_violation"),
    ],
)
def test_the_sdk_reads_a_refusal(
    sdk: SinchClient,
    sandbox: Sandbox,
    to: str | None,
    fields: dict[str, Any],
    status: int,
    code: str,
) -> None:
    fine = sandbox.number()
    with pytest.raises(SmsException) as caught:
        sdk.sms.batches.send_sms(to=[fine, to or fine[:-1]], from_=SENDER, body="Hello", **fields)
    assert caught.value.http_response.status_code == status
    assert caught.value.http_response.body["code"] == code
    # Nothing of a refused batch is taken.
    assert sandbox.accepted(fine) == []


def test_the_sdk_reads_throttling_and_wrong_credentials(sdk: SinchClient, sandbox: Sandbox) -> None:
    sandbox.order({"kind": "refuse", "why": "throttled", "times": 1})
    told = []
    for each in (sdk, client(sandbox, "wrong")):
        with pytest.raises(SmsException) as caught:
            each.sms.batches.send_sms(to=[sandbox.number()], from_=SENDER, body="Hello")
        told.append(caught.value.http_response.status_code)
    assert told == [429, 401]


# The adapter's requests


@pytest.mark.parametrize("texts", [("Hello", "Hello"), ("Hi Ann", "Hi Bob")], ids=["one", "own"])
def test_the_sdk_knows_every_field_that_we_send(texts: tuple[str, str]) -> None:
    async def run() -> bytes:
        async with Wire() as wire:
            wire.script = [Respond(201, {"id": "B1"})]
            messages = [outgoing(i, f"+1212555010{i}", text, "s1") for i, text in enumerate(texts)]
            async with gateway(wire.url, "http://127.0.0.1:1") as made:
                await made.submit(messages)
            return wire.requests[0].body

    ours = json.loads(asyncio.run(run()))
    theirs = TextRequest.model_validate(ours)
    assert not theirs.model_extra
    assert theirs.model_dump(by_alias=True, exclude_none=True).keys() == ours.keys()


# Signatures


def test_the_sdk_accepts_and_reads_the_callbacks_of_the_sandbox(
    sdk: SinchClient, sandbox: Sandbox, receiver: Receiver
) -> None:
    to = sandbox.number()
    sent = sdk.sms.batches.send_sms(
        to=[to],
        from_=SENDER,
        body="Hello",
        delivery_report="per_recipient",
        event_destination_target=f"{receiver.address}/reports",
        client_reference="w1",
    )
    report = receiver.wait(lambda callback: b"Delivered" in callback.body)
    helper = sdk.sms.sinch_events(TOKEN)
    assert helper.validate_authentication_header(dict(report.headers), report.body)
    assert not sdk.sms.sinch_events("another").validate_authentication_header(
        dict(report.headers), report.body
    )
    event = helper.parse_event(report.body)
    assert (event.batch_id, event.recipient, event.client_reference) == (sent.id, to[1:], "w1")


def test_the_sdk_accepts_and_reads_an_inbound_message_of_the_sandbox(
    sdk: SinchClient, sandbox: Sandbox, receiver: Receiver
) -> None:
    reply = {
        "kind": "sinch",
        "from": sandbox.number(),
        "to": SENDER,
        "body": "STOP – à bientôt",
        "url": f"{receiver.address}/inbound",
    }
    sandbox.client.post("/_send_inbound", json=reply).raise_for_status()
    [callback] = receiver.got
    helper = sdk.sms.sinch_events(TOKEN)
    assert helper.validate_authentication_header(dict(callback.headers), callback.body)
    event = helper.parse_event(callback.body)
    assert (event.from_, event.to, event.body) == (reply["from"][1:], SENDER[1:], reply["body"])


@pytest.mark.parametrize("body", ["{}", '{"body": "Grüße 🎉"}', '{"a": 1.0}\n', ""])
def test_we_accept_the_signatures_that_the_sdk_makes(body: str) -> None:
    nonce, at = "01FJA8B4A7BM43YGWSG9GBV067", str(int(datetime.now(UTC).timestamp()))

    def signed(secret: str) -> Callback:
        data = signing.compute_signed_data(body, nonce, at)
        headers = {
            "x-sinch-webhook-signature": signing.calculate_sinch_event_signature(data, secret),
            "x-sinch-webhook-signature-nonce": nonce,
            "x-sinch-webhook-signature-timestamp": at,
        }
        return Callback("POST", "https://sms.example.com/", headers, body.encode())

    made = gateway("http://127.0.0.1:1", "https://sms.example.com")
    assert made.verify(signed(TOKEN))
    assert not made.verify(signed("another"))


# The adapter and the sandbox


def test_the_adapter_sends_through_the_sandbox_and_reads_its_reports(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    made = gateway(sandbox.url, receiver.address)
    long = "Grüße 🎉 ${0} " * 60
    sent = {sandbox.number(): "short", sandbox.number(): long, "+12025552610": "Hello"}
    messages = [outgoing(i, to, text, "w7") for i, (to, text) in enumerate(sent.items())]
    answers = submit(made, *messages)
    assert {answer.outcome for answer in answers} == {"accepted"}
    assert {to: sandbox.accepted(to)[0]["body"] for to in sent} == sent
    ends = dict.fromkeys(sent, "delivered") | {"+12025552610": "rejected"}
    wait_until(lambda: len(receiver.got) == 6)
    assert all(made.verify(callback) for callback in receiver.got)
    reports = [report for callback in receiver.got for report in made.parse(callback)[0]]
    assert {report.submission for report in reports} == {"w7"}
    assert {r.recipient: r.status for r in reports if r.status != "sent"} == ends
    batches = {answer.id: answer.gateway_message_id for answer in answers}
    assert {report.batch_id for report in reports} == set(batches.values())


def test_the_adapter_finds_again_what_it_never_heard_of(sandbox: Sandbox) -> None:
    made = gateway(sandbox.url, "http://127.0.0.1:1")
    numbers = [sandbox.number() for _ in range(3)]
    sandbox.order({"kind": "reset", "accepted": True, "times": 1})
    messages = [outgoing(i, to, "Hello", "w8") for i, to in enumerate(numbers[:2])]
    assert {answer.outcome for answer in submit(made, *messages)} == {"unknown"}
    now = datetime.now(UTC)
    before = now - timedelta(minutes=1)
    suspects = [
        Suspect(f"m{i}", to, "Hello", SENDER, before, now, "w8") for i, to in enumerate(numbers)
    ]

    async def run() -> list[Finding]:
        async with made:
            return list(await made.recover(suspects))

    found = asyncio.run(run())
    assert sorted(finding.id for finding in found) == ["m0", "m1"]
    [batch] = {finding.gateway_message_id for finding in found}
    assert {sandbox.accepted(to)[0]["batch"] for to in numbers[:2]} == {batch}


def test_a_number_that_the_sandbox_refuses_costs_no_other_message(sandbox: Sandbox) -> None:
    numbers = [sandbox.number(), "+12025551614", sandbox.number()]
    messages = [outgoing(i, to, f"Hello {i}", "w9") for i, to in enumerate(numbers)]
    answers = submit(gateway(sandbox.url, "http://127.0.0.1:1"), *messages)
    assert [answer.outcome for answer in answers] == ["accepted", "refused", "accepted"]
    assert [len(sandbox.accepted(to)) for to in numbers] == [1, 0, 1]


def test_the_check_finds_nothing_wrong_with_the_sandbox_and_its_settings(sandbox: Sandbox) -> None:
    async def run(**settings: str) -> list[str]:
        made = gateway(sandbox.url, "http://127.0.0.1:1", **settings)
        async with made:
            return await made.check()

    assert asyncio.run(run(**sandbox.settings("sinch"))) == []
    [problem] = asyncio.run(run(api_token="wrong"))
    assert "--set api_token=" in problem
