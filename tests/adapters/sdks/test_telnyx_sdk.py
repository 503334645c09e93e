"""Telnyx' own Python SDK agrees with the sandbox: sending, answers and signed events."""

import sys
import time
from types import ModuleType

import pytest
import telnyx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature

from adapters.gateways.base import (
    Addresses,
    Callback,
    ErrorClass,
    Inbound,
    Outgoing,
    Status,
    Timeouts,
)
from adapters.gateways.telnyx import Telnyx, TelnyxSettings
from tests.adapters.gateways.examples.telnyx import EXAMPLE, PUBLIC, sign
from tests.adapters.sdks.conftest import Receiver
from tests.sandboxes import TOKEN, Sandbox, wait_until

SENDER = "+15005550006"


@pytest.fixture
def sdk(sandbox: Sandbox) -> telnyx.Telnyx:
    return telnyx.Telnyx(api_key=TOKEN, base_url=f"{sandbox.url}/v2", max_retries=0)


@pytest.fixture
def _nacl(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK needs of PyNaCl, by `cryptography`: it is not among our dependencies."""
    signing, exceptions = ModuleType("nacl.signing"), ModuleType("nacl.exceptions")

    class VerifyKey:
        def __init__(self, key: bytes) -> None:
            self._key = Ed25519PublicKey.from_public_bytes(key)

        def verify(self, signed: bytes, signature: bytes) -> None:
            self._key.verify(signature, signed)

    signing.VerifyKey = VerifyKey
    exceptions.BadSignatureError = InvalidSignature
    monkeypatch.setitem(sys.modules, "nacl", ModuleType("nacl"))
    monkeypatch.setitem(sys.modules, "nacl.signing", signing)
    monkeypatch.setitem(sys.modules, "nacl.exceptions", exceptions)


# Sending


def test_the_sdk_sends_and_reads_the_answer(sdk: telnyx.Telnyx, sandbox: Sandbox) -> None:
    to = sandbox.number()
    sent = sdk.messages.send(to=to, from_=SENDER, text="Grüße 🎉", type="SMS", encoding="auto").data
    assert [(one.phone_number, one.status) for one in sent.to] == [(to, "queued")]
    assert (sent.text, sent.parts, sent.errors) == ("Grüße 🎉", 1, [])
    assert [line["sid"] for line in sandbox.accepted(to)] == [sent.id]


def test_the_same_idempotency_key_is_taken_once(sdk: telnyx.Telnyx, sandbox: Sandbox) -> None:
    to = sandbox.number()
    sent = [
        sdk.messages.send(to=to, from_=SENDER, text="Hello", idempotency_key=f"key-{to[1:]}").data
        for _ in range(2)
    ]
    assert sent[0].id == sent[1].id
    assert len(sandbox.accepted(to)) == 1


def test_the_sdk_looks_a_message_up(sdk: telnyx.Telnyx, sandbox: Sandbox) -> None:
    sent = sdk.messages.send(to=sandbox.number(), from_=SENDER, text="Hello").data

    wait_until(lambda: sdk.messages.retrieve(sent.id).data.to[0].status == "delivered")
    cost = sdk.messages.retrieve(sent.id).data.cost
    assert (float(cost.amount) > 0, cost.currency) == (True, "USD")


def test_the_sdk_reads_the_balance(sdk: telnyx.Telnyx) -> None:
    balance = sdk.balance.retrieve().data
    assert balance.currency == "USD"


@pytest.mark.parametrize(
    ("ending", "code"), [("1610", "40300"), ("1614", "40001")], ids=["opted_out", "landline"]
)
def test_the_sdk_reads_a_refusal(sdk: telnyx.Telnyx, ending: str, code: str) -> None:
    with pytest.raises(telnyx.BadRequestError) as caught:
        sdk.messages.send(to=f"+1202555{ending}", from_=SENDER, text="Hello")
    assert [error["code"] for error in caught.value.body["errors"]] == [code]


def test_the_sdk_reads_what_fails_as_a_whole(sdk: telnyx.Telnyx, sandbox: Sandbox) -> None:
    sandbox.order({"kind": "refuse", "why": "throttled", "times": 1})
    with pytest.raises(telnyx.RateLimitError):
        sdk.messages.send(to=sandbox.number(), from_=SENDER, text="Hello")
    with pytest.raises(telnyx.AuthenticationError):
        sdk.with_options(api_key="wrong").messages.send(
            to=sandbox.number(), from_=SENDER, text="Hello"
        )
    with pytest.raises(telnyx.NotFoundError):
        sdk.messages.retrieve("nothing")


# Signatures


def validated(callback: Callback, public_key: str) -> bool:
    try:
        verify_webhook_signature(callback.body, callback.headers, public_key)
    except WebhookVerificationError:
        return False
    return True


@pytest.mark.usefixtures("_nacl")
def test_the_sdk_accepts_the_signatures_of_the_sandboxs_events(
    sdk: telnyx.Telnyx, sandbox: Sandbox, receiver: Receiver
) -> None:
    public_key = sandbox.settings("telnyx")["public_key"]
    url = f"{receiver.address}/gateways/main/reports?ref=m1"
    sdk.messages.send(to=sandbox.number(), from_=SENDER, text="Hello", webhook_url=url)
    report = receiver.wait(lambda got: b"message.finalized" in got.body)
    assert report.url == url
    assert validated(report, public_key)
    assert not validated(report, PUBLIC)


@pytest.mark.usefixtures("_nacl")
def test_the_sdk_accepts_the_signature_of_the_sandboxs_inbound_message(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    url = f"{receiver.address}/gateways/main/inbound"
    reply = {"kind": "telnyx", "from": sandbox.number(), "body": "STOP – à bientôt", "url": url}
    sandbox.client.post("/_send_inbound", json=reply).raise_for_status()
    [callback] = receiver.got
    assert validated(callback, sandbox.settings("telnyx")["public_key"])


@pytest.mark.usefixtures("_nacl")
@pytest.mark.parametrize("seconds", [0, -290, 290, -310, 310])
def test_we_and_the_sdk_accept_the_same_signatures(seconds: int) -> None:
    settings = TelnyxSettings.model_validate(EXAMPLE.settings)
    gateway = Telnyx(settings, Addresses("main", "http://127.0.0.1"), Timeouts(5, 5), 8)
    signed = sign(EXAMPLE.report, time.time() + seconds)
    assert gateway.verify(signed) is validated(signed, PUBLIC) is (abs(seconds) < 300)


# The adapter against the sandbox


def _adapter(sandbox: Sandbox, receiver: Receiver) -> Telnyx:
    settings = TelnyxSettings.model_validate(sandbox.settings("telnyx"))
    return Telnyx(settings, Addresses("main", receiver.address), Timeouts(5, 5), 8)


@pytest.mark.anyio
async def test_the_adapter_sends_and_reads_what_comes_of_it(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    good, stopped = sandbox.number(), "+12025551610"
    messages = [
        Outgoing(f"{to[1:]}", to, "Hello ñ €", SENDER, "GSM-7", 1) for to in (good, stopped)
    ]
    async with _adapter(sandbox, receiver) as gateway:
        assert await gateway.check() == []
        accepted, refused = await gateway.submit(messages)
    assert (accepted.outcome, refused.error_class) == ("accepted", ErrorClass.OPTOUT)
    receiver.wait(lambda got: b"message.finalized" in got.body)
    assert all(map(gateway.verify, receiver.got))
    parsed = [gateway.parse(callback)[0][0] for callback in receiver.got]
    assert [(r.status, r.reference, r.gateway_message_id) for r in parsed] == [
        (status, good[1:], accepted.gateway_message_id)
        for status in (Status.SENT, Status.DELIVERED)
    ]
    async with _adapter(sandbox, receiver) as gateway:
        polled = await gateway.poll([accepted.gateway_message_id or ""])
    assert [report.status for report in polled] == [Status.DELIVERED]


@pytest.mark.anyio
@pytest.mark.parametrize("ending", ["reset", "close"])
async def test_a_message_whose_answer_was_lost_is_sent_again_and_taken_once(
    sandbox: Sandbox, receiver: Receiver, ending: str
) -> None:
    to = sandbox.number()
    sandbox.order({"kind": ending, "accepted": True, "times": 1})
    async with _adapter(sandbox, receiver) as gateway:
        message = Outgoing(f"m{to[1:]}", to, "Hello", SENDER, "GSM-7", 1)
        outcomes = [(await gateway.submit([message]))[0] for _ in range(2)]
    assert [answer.outcome for answer in outcomes] == ["unknown", "accepted"]
    assert [line["sid"] for line in sandbox.accepted(to)] == [outcomes[1].gateway_message_id]


def test_the_adapter_reads_an_inbound_message(sandbox: Sandbox, receiver: Receiver) -> None:
    gateway, sender = _adapter(sandbox, receiver), sandbox.number()
    url = f"{receiver.address}/gateways/main/inbound"
    reply = {"kind": "telnyx", "from": sender, "body": "STOP – à bientôt", "url": url}
    sandbox.client.post("/_send_inbound", json=reply).raise_for_status()
    [callback] = receiver.got
    assert gateway.verify(callback)
    _, [inbound] = gateway.parse(callback)
    assert inbound == Inbound(inbound.gateway_message_id, sender, SENDER, "STOP – à bientôt")
