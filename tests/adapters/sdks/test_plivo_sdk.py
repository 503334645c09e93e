"""Plivo's own Python SDK agrees with the sandbox, and its signatures with the adapter's."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlencode

import plivo.rest.client
import pytest
from plivo import RestClient
from plivo.exceptions import (
    AuthenticationError,
    GeoPermissionError,
    PlivoRestError,
    ResourceNotFoundError,
    ValidationError,
)
from plivo.utils import validate_signature
from plivo.utils.signature_v3 import (
    construct_get_url,
    construct_post_url,
    get_signature_v3,
    validate_v3_signature,
)

from adapters.gateways.base import (
    Addresses,
    Callback,
    Inbound,
    Outgoing,
    Status,
    Suspect,
    Timeouts,
)
from adapters.gateways.plivo import Plivo, PlivoSettings
from tests.adapters.gateways.plivo_account import TOKEN as OUR_TOKEN
from tests.adapters.gateways.plivo_account import plivo as our_plivo
from tests.adapters.sdks.conftest import Receiver
from tests.sandboxes import TOKEN, Sandbox, wait_until

SENDER = "+15005550006"
NONCE = "05429567804466091622"


@pytest.fixture
def sdk(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[RestClient]:
    monkeypatch.setattr(plivo.rest.client, "PLIVO_API_BASE_URI", f"{sandbox.url}/v1/Account")
    with RestClient(sandbox.settings("plivo")["auth_id"], TOKEN) as client:
        yield client


# Sending


def test_the_sdk_sends_and_reads_the_answer(sdk: RestClient, sandbox: Sandbox) -> None:
    to = sandbox.number()
    sent = sdk.messages.create(src=SENDER, dst=to, text="Grüße 🎉", message_expiry=600)
    [line] = sandbox.accepted(to)
    assert (sent.message, sent.message_uuid) == ("message(s) queued", [line["sid"]])
    assert (line["from"], line["body"]) == ("15005550006", "Grüße 🎉")


def test_the_sdk_sends_one_text_to_many_each_once(sdk: RestClient, sandbox: Sandbox) -> None:
    numbers = [sandbox.number() for _ in range(5)]
    sent = sdk.messages.create(src=SENDER, dst="<".join([*numbers, numbers[0]]), text="Hello")
    uuids = {line["sid"] for number in numbers for line in sandbox.accepted(number)}
    assert set(sent.message_uuid) == uuids
    assert len(uuids) == 5


def test_the_sdk_reads_which_numbers_are_invalid(sdk: RestClient, sandbox: Sandbox) -> None:
    good, odd, refused = sandbox.number(), "12", "+12025551614"
    sent = sdk.messages.create(src=SENDER, dst=f"{good}<{odd}<{refused}", text="Hello")
    assert sorted(sent.invalid_number) == ["12", "12025551614"]
    assert sent.message_uuid == [line["sid"] for line in sandbox.accepted(good)]


def test_the_sdk_looks_a_message_up_alone_and_in_the_list(
    sdk: RestClient, sandbox: Sandbox
) -> None:
    to = sandbox.number()
    uuids = [
        sdk.messages.create(src=SENDER, dst=to, text=text).message_uuid[0] for text in ("1", "2")
    ]
    wait_until(lambda: sdk.messages.get(uuids[0]).message_state == "delivered")
    found = sdk.messages.get(uuids[0])
    assert (found.to_number, found.units, float(found.total_amount) > 0) == (to[1:], 1, True)
    made = datetime.fromisoformat(found.message_time)
    since = (made - timedelta(minutes=1) - (made.utcoffset() or timedelta())).replace(tzinfo=None)
    listed = sdk.messages.list(to_number=to[1:], message_time__gte=since, limit=1)
    assert listed.meta.next.startswith("/v1/Account/")
    rest = sdk.messages.list(to_number=to[1:], limit=1, offset=1)
    assert {one.message_uuid for one in [*listed.objects, *rest.objects]} == set(uuids)


def test_the_sdk_reads_the_account(sdk: RestClient, sandbox: Sandbox) -> None:
    assert sdk.account.get().auth_id == sandbox.settings("plivo")["auth_id"]


@pytest.mark.parametrize(
    ("number", "error"),
    [("+12025551610", ValidationError), ("+15005550003", GeoPermissionError)],
    ids=["opted_out", "region"],
)
def test_the_sdk_reads_a_refusal(sdk: RestClient, number: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        sdk.messages.create(src=SENDER, dst=number, text="Hello")
    assert str(caught.value)


def test_the_sdk_reads_what_fails_as_a_whole(sdk: RestClient, sandbox: Sandbox) -> None:
    def send(client: RestClient) -> None:
        client.messages.create(src=SENDER, dst=sandbox.number(), text="Hello")

    sandbox.order({"kind": "refuse", "why": "throttled", "times": 1})
    with pytest.raises(PlivoRestError, match="429"):
        send(sdk)
    with pytest.raises(AuthenticationError):
        send(RestClient(sandbox.settings("plivo")["auth_id"], "wrong"))
    with pytest.raises(ResourceNotFoundError):
        sdk.messages.get("nothing")


# Signatures


def validated(callback: Callback, token: str) -> list[bool]:
    """What the SDK says of each signature of a callback: v3, v2, and both of the main account."""
    form = dict(parse_qsl(callback.body.decode(), keep_blank_values=True))
    headers = callback.headers
    v3, v2 = (headers[f"x-plivo-signature-{version}-nonce"] for version in ("v3", "v2"))
    return [
        validate_v3_signature(
            callback.method, callback.url, v3, token, headers["x-plivo-signature-v3"], dict(form)
        ),
        validate_v3_signature(
            callback.method, callback.url, v3, token, headers["x-plivo-signature-ma-v3"], dict(form)
        ),
        validate_signature(callback.url, v2, headers["x-plivo-signature-v2"], token),
        validate_signature(callback.url, v2, headers["x-plivo-signature-ma-v2"], token),
    ]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_sdk_accepts_the_signatures_of_the_sandboxs_reports(
    sdk: RestClient, sandbox: Sandbox, receiver: Receiver, method: str
) -> None:
    url = f"{receiver.address}/gateways/main/reports?sub=s1"
    sdk.messages.create(src=SENDER, dst=sandbox.number(), text="Hello", url=url, method=method)
    report = receiver.wait(lambda got: "=delivered" in got.url + got.body.decode())
    assert report.method == method
    assert validated(report, TOKEN) == [True] * 4
    assert validated(report, "another") == [False] * 4


def test_the_sdk_accepts_the_signature_of_the_sandboxs_inbound_message(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    url = f"{receiver.address}/gateways/main/inbound"
    reply = {"kind": "plivo", "from": sandbox.number(), "body": "STOP – à bientôt", "url": url}
    sandbox.client.post("/_send_inbound", json=reply).raise_for_status()
    [callback] = receiver.got
    assert validated(callback, TOKEN) == [True] * 4


FORMS = {
    "report": {"MessageUUID": "u1", "Status": "sent", "To": "12125550101", "ErrorCode": ""},
    "typographic": {"Text": "Grüße – 50 % & mehr 🎉", "From": "12125550101"},
    "sorted by case": {"text": "b", "Text": "a", "TEXT": "c"},
    "empty": {},
}
URLS = [
    "https://sms.example.com/gateways/main/reports?sub=s1",
    "https://sms.example.com:8443/gateways/main/reports?b=2&a=1&a=0&c=",
    "https://sms.example.com/gateways/main/inbound",
    "http://sms.example.com/gateways/main/inbound",
]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("url", URLS)
def test_we_accept_the_signatures_that_the_sdk_makes(url: str, form: dict[str, str]) -> None:
    signed = construct_post_url(url, form).decode()
    gateway, body = our_plivo("https://api.plivo.com"), urlencode(form).encode()
    for token, genuine in ((OUR_TOKEN, True), ("another", False)):
        headers = {
            "x-plivo-signature-ma-v3": get_signature_v3(token, signed, NONCE).decode(),
            "x-plivo-signature-v3-nonce": NONCE,
        }
        assert gateway.verify(Callback("POST", url, headers, body)) is genuine


@pytest.mark.parametrize("url", URLS)
def test_we_accept_the_signatures_that_the_sdk_makes_of_a_get(url: str) -> None:
    signed = construct_get_url(url, {}).decode()
    headers = {
        "x-plivo-signature-v3": get_signature_v3(OUR_TOKEN, signed, NONCE).decode(),
        "x-plivo-signature-v3-nonce": NONCE,
    }
    assert our_plivo("https://api.plivo.com").verify(Callback("GET", url, headers, b""))


# The adapter against the sandbox


def _adapter(sandbox: Sandbox, receiver: Receiver) -> Plivo:
    settings = PlivoSettings.model_validate(sandbox.settings("plivo"))
    return Plivo(settings, Addresses("main", receiver.address), Timeouts(5, 5), 8)


@pytest.mark.anyio
async def test_the_adapter_sends_a_group_and_reads_what_comes_of_it(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    numbers = ["+12025551614", *(sandbox.number() for _ in range(3))]
    messages = [
        Outgoing(f"m{place}", number, "Hello", SENDER, "GSM-7", 1, submission="s1")
        for place, number in enumerate(numbers)
    ]
    async with _adapter(sandbox, receiver) as gateway:
        assert await gateway.check() == []
        answers = {answer.id: answer.outcome for answer in await gateway.submit(messages)}
    assert answers == {"m0": "refused", "m1": "accepted", "m2": "accepted", "m3": "accepted"}
    wait_until(lambda: sum(b"=delivered" in got.body for got in receiver.got) == 3)
    assert all(map(gateway.verify, receiver.got))
    parsed = [gateway.parse(callback)[0][0] for callback in receiver.got]
    done = {(r.submission, r.recipient) for r in parsed if r.status is Status.DELIVERED}
    assert done == {("s1", number) for number in numbers[1:]}
    async with _adapter(sandbox, receiver) as gateway:
        polled = await gateway.poll([parsed[-1].gateway_message_id or ""])
    assert [report.status for report in polled] == [Status.DELIVERED]


@pytest.mark.anyio
async def test_the_adapter_finds_a_message_whose_answer_was_lost(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    to = sandbox.number()
    message = Outgoing("m1", to, "Hello", SENDER, "GSM-7", 1, submission="s1")
    sandbox.order({"kind": "reset", "accepted": True, "times": 1})
    before = datetime.now().astimezone()
    async with _adapter(sandbox, receiver) as gateway:
        [answer] = await gateway.submit([message])
        assert answer.outcome == "unknown"
        suspect = Suspect("m1", to, "Hello", SENDER, before, before, submission="s1")
        [found] = await gateway.recover([suspect])
    assert found.outcome == "accepted"
    assert [line["sid"] for line in sandbox.accepted(to)] == [found.gateway_message_id]


def test_the_adapter_reads_an_inbound_message(sandbox: Sandbox, receiver: Receiver) -> None:
    gateway, sender = _adapter(sandbox, receiver), sandbox.number()
    url = f"{receiver.address}/gateways/main/inbound"
    reply = {"kind": "plivo", "from": sender, "body": "STOP – à bientôt", "url": url}
    sandbox.client.post("/_send_inbound", json=reply).raise_for_status()
    [callback] = receiver.got
    assert gateway.verify(callback)
    _, [inbound] = gateway.parse(replace(callback, kind="reply"))
    assert inbound == Inbound(
        inbound.gateway_message_id, sender, "+15005550006", "STOP – à bientôt"
    )
