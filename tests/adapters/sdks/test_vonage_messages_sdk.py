"""Vonage's own Python SDK agrees with the sandbox's Messages API, and its tokens with ours."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from vonage import Auth, HttpClientOptions, Vonage
from vonage_http_client.errors import AuthenticationError, HttpRequestError, RateLimitedError
from vonage_jwt import verify_signature
from vonage_messages import Sms
from vonage_messages.models import SmsOptions

from adapters.gateways import base
from adapters.gateways.base import Callback, Finding, Inbound, Outgoing, Status, Suspect
from adapters.gateways.vonage_messages import VonageMessages, VonageMessagesSettings
from adapters.sandbox.vonage_messages import APPLICATION_ID, private_key
from tests.adapters.sdks.conftest import Receiver
from tests.adapters.sdks.tls import certificate, front
from tests.sandboxes import TOKEN, Sandbox

KEY, SENDER = "abcd1234", "15005550006"
WITH_SECRET = {"api_key": KEY, "api_secret": TOKEN}
WITH_TOKEN = {"application_id": APPLICATION_ID, "private_key": private_key()}


def client(host: str, **login: str) -> Vonage:
    options = HttpClientOptions(api_host=host, rest_host=host, max_retries=0)
    return Vonage(Auth(**login), options)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(certificate(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def host(sandbox: Sandbox, pem: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", pem)
    with front(pem, sandbox.port) as address:
        yield address


@pytest.fixture
def sdk(host: str) -> Vonage:
    return client(host, **WITH_SECRET)


def adapter(sandbox: Sandbox, receiver: Receiver, **changes: Any) -> VonageMessages:
    settings = VonageMessagesSettings.model_validate(sandbox.settings("vonage-messages") | changes)
    return VonageMessages(
        settings, base.Addresses("main", receiver.address), base.Timeouts(5, 5), 8
    )


def sms(to: str, text: str = "Hello", **fields: object) -> Sms:
    return Sms(to=to.removeprefix("+"), from_=SENDER, text=text, **fields)


# Sending


@pytest.mark.parametrize("login", [WITH_SECRET, WITH_TOKEN], ids=["secret", "token"])
def test_the_sdk_sends_and_reads_the_answer(
    host: str, sandbox: Sandbox, login: dict[str, str]
) -> None:
    to, options = sandbox.number(), SmsOptions(encoding_type="unicode")
    sent = client(host, **login).messages.send(
        sms(to, "Grüße 🎉", ttl=600, client_ref="m1", sms=options)
    )
    [line] = sandbox.accepted(to)
    assert (line["sid"], line["body"]) == (sent.message_uuid, "Grüße 🎉")


@pytest.mark.parametrize(
    ("ending", "code"), [("1610", "1240"), ("1614", "1250")], ids=["opted_out", "landline"]
)
def test_the_sdk_reads_a_refusal(sdk: Vonage, ending: str, code: str) -> None:
    with pytest.raises(HttpRequestError) as caught:
        sdk.messages.send(sms(f"+1202555{ending}"))
    problem = caught.value.response.json()
    assert (caught.value.response.status_code, problem["type"][-5:]) == (422, f"#{code}")
    assert problem["title"] in str(caught.value)


def test_the_sdk_reads_throttling_and_an_empty_account(sdk: Vonage, sandbox: Sandbox) -> None:
    sandbox.order({"kind": "refuse", "why": "throttled", "times": 1})
    with pytest.raises(RateLimitedError):
        sdk.messages.send(sms(sandbox.number()))
    sandbox.order({"kind": "refuse", "why": "account", "times": 1})
    with pytest.raises(HttpRequestError, match="402"):
        sdk.messages.send(sms(sandbox.number()))


def test_the_sdk_reads_wrong_credentials(host: str, sandbox: Sandbox) -> None:
    with pytest.raises(AuthenticationError):
        client(host, api_key=KEY, api_secret="wrong").messages.send(sms(sandbox.number()))
    other = {"application_id": "bbbbbbbb-bbbb-cccc-dddd-0123456789ab"}
    with pytest.raises(AuthenticationError):
        client(host, **WITH_TOKEN | other).messages.send(sms(sandbox.number()))


def test_the_sdk_reads_the_application(sdk: Vonage) -> None:
    found = sdk.application.get_application(APPLICATION_ID)
    assert (found.id, found.capabilities.messages is not None) == (APPLICATION_ID, True)
    applications, _ = sdk.application.list_applications()
    assert [one.id for one in applications] == [APPLICATION_ID]


# Signatures


def token_of(callback: Callback) -> str:
    return callback.headers["authorization"].removeprefix("Bearer ")


def test_the_sdk_and_we_accept_the_signatures_of_the_sandboxs_statuses(
    sdk: Vonage, sandbox: Sandbox, receiver: Receiver
) -> None:
    url = f"{receiver.address}/gateways/main/reports"
    sdk.messages.send(sms(sandbox.number(), webhook_url=url, client_ref="m1"))
    status = receiver.wait(lambda callback: b'"delivered"' in callback.body)
    secret = sandbox.settings("vonage-messages")["signature_secret"]
    assert verify_signature(token_of(status), secret)
    assert not verify_signature(token_of(status), "another secret of 32 bytes or so")
    gateway = adapter(sandbox, receiver)
    assert gateway.verify(status)
    # What the SDK's helper does not see.
    assert not gateway.verify(replace(status, body=status.body + b" "))


def test_the_sdk_and_we_accept_the_signature_of_the_sandboxs_inbound_message(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    number, url = sandbox.number(), f"{receiver.address}/gateways/main/inbound"
    reply = {"from": number, "to": f"+{SENDER}", "body": "STOP – à bientôt", "url": url}
    answer = sandbox.client.post("/_send_inbound", json={"kind": "vonage-messages", **reply})
    answer.raise_for_status()
    [callback] = receiver.got
    gateway = adapter(sandbox, receiver)
    assert verify_signature(
        token_of(callback), sandbox.settings("vonage-messages")["signature_secret"]
    )
    assert gateway.verify(callback)
    _, [inbound] = gateway.parse(callback)
    assert inbound == Inbound(inbound.gateway_message_id, number, f"+{SENDER}", "STOP – à bientôt")


# The adapter against the sandbox


def message(to: str, text: str = "Hello") -> Outgoing:
    return Outgoing(f"m{to[1:]}", to, text, f"+{SENDER}", "GSM-7", 1)


@pytest.mark.anyio
@pytest.mark.parametrize("login", [{}, WITH_TOKEN], ids=["secret", "token"])
async def test_the_adapter_sends_reads_statuses_and_polls(
    sandbox: Sandbox, receiver: Receiver, login: dict[str, str]
) -> None:
    to = sandbox.number()
    async with adapter(sandbox, receiver, **login) as gateway:
        assert await gateway.check() == []
        [answer] = await gateway.submit([message(to, "x" * 300)])
        assert answer.outcome == "accepted"
        receiver.wait(lambda callback: b'"delivered"' in callback.body)
        [polled] = await gateway.poll([answer.gateway_message_id or "", "unknown"])
    assert all(gateway.verify(got) for got in receiver.got)
    reports = [report for got in receiver.got for report in gateway.parse(got)[0]]
    assert [report.status for report in reports] == [Status.SENT, Status.DELIVERED]
    assert {(report.reference, report.recipient) for report in reports} == {(f"m{to[1:]}", to)}
    assert (polled.status, polled.reference) == (Status.DELIVERED, f"m{to[1:]}")


@pytest.mark.anyio
async def test_the_adapter_finds_a_message_again_whose_answer_was_lost(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    lost, never = sandbox.number(), sandbox.number()
    before = datetime.now(UTC)
    sandbox.order({"kind": "reset", "accepted": True, "times": 1, "to": lost})
    async with adapter(sandbox, receiver) as gateway:
        [answer] = await gateway.submit([message(lost)])
        suspects = [
            Suspect(f"m{to[1:]}", to, "Hello", SENDER, before, before + timedelta(minutes=1))
            for to in (lost, never)
        ]
        found = await gateway.recover(suspects)
    [line] = sandbox.accepted(lost)
    assert answer.outcome == "unknown"
    assert found == [Finding(f"m{lost[1:]}", "accepted", str(line["sid"]))]
