"""Vonage's own Python SDK agrees with the sandbox's SMS API, and its signatures with the adapter's.

How it signs what it sends is not asked: it signs fields that it does not send.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

import pytest
from vonage import Auth, HttpClientOptions, Vonage
from vonage_http_client.errors import AuthenticationError, RateLimitedError
from vonage_sms import SmsMessage
from vonage_sms.errors import SmsError

from adapters.gateways import base
from adapters.gateways.base import Callback, Finding, Inbound, Outgoing, Status, Suspect
from adapters.gateways.vonage import Vonage as Adapter
from adapters.gateways.vonage import VonageSettings
from tests.adapters.sdks.conftest import Receiver
from tests.adapters.sdks.tls import certificate, front
from tests.sandboxes import TOKEN, Sandbox, wait_until

KEY, SENDER = "abcd1234", "15005550006"


def client(host: str, secret: str = TOKEN) -> Vonage:
    options = HttpClientOptions(api_host=host, rest_host=host, max_retries=0)
    return Vonage(Auth(api_key=KEY, api_secret=secret), options)


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
    return client(host)


@pytest.fixture
def adapter(sandbox: Sandbox, receiver: Receiver) -> Adapter:
    settings = VonageSettings.model_validate(sandbox.settings("vonage"))
    return Adapter(settings, base.Addresses("main", receiver.address), base.Timeouts(5, 5), 8)


def sms(to: str, text: str = "Hello", **fields: object) -> SmsMessage:
    return SmsMessage(to=to.removeprefix("+"), from_=SENDER, text=text, **fields)


# Sending


def test_the_sdk_sends_and_reads_the_answer(sdk: Vonage, sandbox: Sandbox) -> None:
    to = sandbox.number()
    answer = sdk.sms.send(sms(to, "Grüße 🎉", type="unicode", ttl=600_000, client_ref="m1"))
    [sent] = answer.messages
    assert (answer.message_count, sent.status, sent.client_ref) == ("1", "0", "m1")
    assert (sent.to, float(sent.message_price) > 0) == (to[1:], True)
    [line] = sandbox.accepted(to)
    assert (line["sid"], line["body"]) == (sent.message_id, "Grüße 🎉")


def test_the_sdk_reads_the_parts_of_a_long_message(sdk: Vonage, sandbox: Sandbox) -> None:
    answer = sdk.sms.send(sms(sandbox.number(), "x" * 400))
    assert answer.message_count == "3"
    assert len({sent.message_id for sent in answer.messages}) == 3


@pytest.mark.parametrize(
    ("ending", "status"), [("1610", "7"), ("1614", "6")], ids=["opted_out", "landline"]
)
def test_the_sdk_reads_a_refusal(sdk: Vonage, ending: str, status: str) -> None:
    with pytest.raises(SmsError, match=f"error code {status}:"):
        sdk.sms.send(sms(f"+1202555{ending}"))


def test_the_sdk_reads_throttling_in_both_ways(sdk: Vonage, sandbox: Sandbox) -> None:
    sandbox.order({"kind": "refuse", "why": "throttled", "times": 1})
    with pytest.raises(SmsError, match="error code 1: Throughput"):
        sdk.sms.send(sms(sandbox.number()))
    sandbox.order({"kind": "status", "code": 429, "times": 1})
    with pytest.raises(RateLimitedError):
        sdk.sms.send(sms(sandbox.number()))


def test_the_sdk_reads_wrong_credentials(host: str, sandbox: Sandbox) -> None:
    stranger = client(host, "wrong")
    with pytest.raises(SmsError, match="error code 4:"):
        stranger.sms.send(sms(sandbox.number()))
    with pytest.raises(AuthenticationError):
        stranger.account.get_balance()


def test_the_sdk_reads_the_balance(sdk: Vonage) -> None:
    assert sdk.account.get_balance().value > 0


# Signatures


def signs(callback: Callback, secret: str) -> bool:
    fields = dict(parse_qsl(callback.body.decode(), keep_blank_values=True))
    sdk = Auth(api_key=KEY, signature_secret=secret, signature_method="sha256")
    return sdk.check_signature(fields)


def test_the_sdk_and_we_accept_the_signatures_of_the_sandboxs_receipts(
    sdk: Vonage, sandbox: Sandbox, receiver: Receiver, adapter: Adapter
) -> None:
    url = f"{receiver.address}/gateways/main/reports"
    sdk.sms.send(sms(sandbox.number(), callback=url, client_ref="a & b = c"))
    receipt = receiver.wait(lambda callback: b"=delivered" in callback.body)
    secret = sandbox.settings("vonage")["signature_secret"]
    assert (receipt.url, signs(receipt, secret), signs(receipt, "another")) == (url, True, False)
    assert adapter.verify(receipt)
    assert not adapter.verify(replace(receipt, body=receipt.body + b"&x=1"))


def test_the_sdk_and_we_accept_the_signature_of_the_sandboxs_inbound_message(
    sandbox: Sandbox, receiver: Receiver, adapter: Adapter
) -> None:
    number, url = sandbox.number(), f"{receiver.address}/gateways/main/inbound"
    reply = {"from": number, "to": f"+{SENDER}", "body": "STOP – à bientôt & =", "url": url}
    answer = sandbox.client.post("/_send_inbound", json={"kind": "vonage", **reply})
    answer.raise_for_status()
    [callback] = receiver.got
    assert signs(callback, sandbox.settings("vonage")["signature_secret"])
    assert adapter.verify(callback)
    _, [inbound] = adapter.parse(callback)
    assert inbound == Inbound(
        inbound.gateway_message_id, number, f"+{SENDER}", "STOP – à bientôt & ="
    )


@pytest.mark.parametrize("method", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("text", ["Grüße – 50 % & mehr = 🎉", "", "a=b&c=d", "+ ~"])
def test_we_accept_the_signatures_that_the_sdk_makes(
    sandbox: Sandbox, method: str, text: str
) -> None:
    settings = sandbox.settings("vonage") | {"signature_method": method}
    gateway = Adapter(
        VonageSettings.model_validate(settings),
        base.Addresses("main", "http://127.0.0.1:8780"),
        base.Timeouts(5, 5),
        8,
    )
    fields = {"msisdn": "12125550101", "text": text, "timestamp": str(int(time.time()))}
    for secret, accepted in ((settings["signature_secret"], True), ("another", False)):
        sdk = Auth(api_key=KEY, signature_secret=secret, signature_method=method)
        body = urlencode(fields | {"sig": sdk.sign_params(dict(fields))}).encode()
        assert gateway.verify(Callback("POST", "http://127.0.0.1:8780/", {}, body)) == accepted


# The adapter against the sandbox


def message(to: str, text: str = "Hello") -> Outgoing:
    return Outgoing(f"m{to[1:]}", to, text, f"+{SENDER}", "GSM-7", 1)


@pytest.mark.anyio
async def test_the_adapter_sends_reads_receipts_and_polls(
    sandbox: Sandbox, receiver: Receiver, adapter: Adapter
) -> None:
    to = sandbox.number()
    async with adapter:
        assert await adapter.check() == []
        [answer] = await adapter.submit([message(to, "x" * 300)])
        assert (answer.outcome, answer.segments, len(answer.parts)) == ("accepted", 2, 2)
        wait_until(lambda: sum(b"=delivered" in got.body for got in receiver.got) == 2)
        ids = [part.part or "" for part in answer.parts]
        polled = await adapter.poll([*ids, "unknown"])
    assert all(adapter.verify(got) for got in receiver.got)
    reports = [report for got in receiver.got for report in adapter.parse(got)[0]]
    assert {(report.reference, report.recipient) for report in reports} == {(f"m{to[1:]}", to)}
    assert {report.part for report in reports} == {*ids}
    assert [(report.part, report.status) for report in polled] == [
        (id_, Status.DELIVERED) for id_ in ids
    ]


@pytest.mark.anyio
async def test_the_adapter_finds_a_message_again_whose_answer_was_lost(
    sandbox: Sandbox, adapter: Adapter
) -> None:
    lost, never = sandbox.number(), sandbox.number()
    before = datetime.now(UTC)
    sandbox.order({"kind": "reset", "accepted": True, "times": 1, "to": lost})
    async with adapter:
        [answer] = await adapter.submit([message(lost)])
        suspects = [
            Suspect(f"m{to[1:]}", to, "Hello", SENDER, before, before + timedelta(minutes=1))
            for to in (lost, never)
        ]
        found = await adapter.recover(suspects)
    [line] = sandbox.accepted(lost)
    assert answer.outcome == "unknown"
    assert found == [Finding(f"m{lost[1:]}", "accepted", str(line["sid"]))]
