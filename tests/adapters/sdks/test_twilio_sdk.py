"""Twilio's own Python SDK agrees with the sandbox, and its signatures with the adapter's."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlparse

import pytest
from starlette.datastructures import ImmutableMultiDict
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator, add_port, remove_port
from twilio.rest import Client

from adapters.gateways.base import Callback
from tests.adapters.gateways.twilio_account import TOKEN as OUR_TOKEN
from tests.adapters.gateways.twilio_account import twilio
from tests.adapters.sdks.conftest import Receiver
from tests.sandboxes import SID, TOKEN, Sandbox, wait_until

SENDER = "+15005550006"


class Elsewhere(TwilioHttpClient):
    """The SDK's client, with Twilio's address replaced."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        here = url.replace("https://api.twilio.com", self.address.rstrip("/"))
        return super().request(method, here, *args, **kwargs)


@pytest.fixture
def sdk(sandbox: Sandbox) -> Client:
    return Client(SID, TOKEN, http_client=Elsewhere(str(sandbox.client.base_url)))


# Sending


def test_the_sdk_sends_and_reads_the_answer(sdk: Client, sandbox: Sandbox) -> None:
    to = sandbox.number()
    sent = sdk.messages.create(to=to, from_=SENDER, body="Grüße 🎉", validity_period=600)
    assert (sent.status, sent.to, sent.from_, sent.body) == ("queued", to, SENDER, "Grüße 🎉")
    assert (sent.num_segments, sent.error_code, sent.direction) == ("1", None, "outbound-api")
    assert [line["sid"] for line in sandbox.accepted(to)] == [sent.sid]


def test_the_sdk_looks_a_message_up_alone_and_in_the_list(sdk: Client, sandbox: Sandbox) -> None:
    to = sandbox.number()
    sids = [sdk.messages.create(to=to, from_=SENDER, body=body).sid for body in ("one", "two")]
    wait_until(lambda: sdk.messages(sids[0]).fetch().status == "delivered")
    found = sdk.messages(sids[0]).fetch()
    assert found.date_updated >= found.date_created
    assert (float(found.price) < 0, found.price_unit) == (True, "USD")
    # Pages of one, so that it follows the address of the next.
    assert {message.sid for message in sdk.messages.list(to=to, page_size=1)} == set(sids)


def test_the_sdk_reads_the_account(sdk: Client) -> None:
    assert sdk.api.accounts(SID).fetch().status == "active"


@pytest.mark.parametrize(
    ("ending", "code"), [("1610", 21610), ("1614", 21614)], ids=["opted_out", "landline"]
)
def test_the_sdk_reads_a_refusal(sdk: Client, ending: str, code: int) -> None:
    with pytest.raises(TwilioRestException) as caught:
        sdk.messages.create(to=f"+1202555{ending}", from_=SENDER, body="Hello")
    assert (caught.value.status, caught.value.code) == (400, code)
    assert caught.value.msg


def test_the_sdk_reads_throttling_and_wrong_credentials(sdk: Client, sandbox: Sandbox) -> None:
    sandbox.order({"kind": "status", "code": 429, "times": 1})
    with pytest.raises(TwilioRestException) as throttled:
        sdk.messages.create(to=sandbox.number(), from_=SENDER, body="Hello")
    stranger = Client(SID, "wrong", http_client=sdk.http_client)
    with pytest.raises(TwilioRestException) as denied:
        stranger.messages.create(to=sandbox.number(), from_=SENDER, body="Hello")
    told = [(error.value.status, error.value.code) for error in (throttled, denied)]
    assert told == [(429, 20429), (401, 20003)]


# Signatures


def validated(callback: Callback, token: str) -> bool:
    form = dict(parse_qsl(callback.body.decode(), keep_blank_values=True))
    signature = callback.headers.get("x-twilio-signature", "")
    return bool(RequestValidator(token).validate(callback.url, form, signature))


def test_the_sdk_accepts_the_signatures_of_the_sandboxs_reports(
    sdk: Client, sandbox: Sandbox, receiver: Receiver
) -> None:
    to = sandbox.number()
    url = f"{receiver.address}/gateways/main/reports?ref=m1"
    sdk.messages.create(to=to, from_=SENDER, body="Hello", status_callback=url)
    report = receiver.wait(lambda callback: b"=delivered" in callback.body)
    assert report.url == url
    assert validated(report, TOKEN)
    assert not validated(report, "another")


def test_the_sdk_accepts_the_signature_of_the_sandboxs_inbound_message(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    url = f"{receiver.address}/gateways/main/inbound"
    reply = {"from": sandbox.number(), "to": SENDER, "body": "STOP – à bientôt", "url": url}
    sandbox.client.post("/_send_inbound", json=reply).raise_for_status()
    [callback] = receiver.got
    assert validated(callback, TOKEN)
    assert not validated(callback, "another")


FORMS = {
    "report": [("MessageSid", "SM1"), ("MessageStatus", "sent"), ("To", "+12125550101")],
    "typographic": [("Body", "Grüße – 50 % & mehr 🎉"), ("From", "+12125550101")],
    "blank": [("Body", ""), ("From", "+12125550101")],
    "repeated": [("Url", "b"), ("Url", "a"), ("Url", "a")],
    "sorted by case": [("body", "b"), ("Body", "a"), ("BODY", "c")],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "url",
    [
        "https://sms.example.com/gateways/main/reports?ref=m1",
        "https://sms.example.com:8443/gateways/main/reports?ref=m1",
        "https://sms.example.com:443/gateways/main/inbound",
        "http://sms.example.com/gateways/main/inbound",
    ],
)
def test_we_accept_the_signatures_that_the_sdk_makes(url: str, form: list[tuple[str, str]]) -> None:
    values = ImmutableMultiDict(form)
    signature = RequestValidator(OUR_TOKEN).compute_signature(url, values)
    body = urlencode(form).encode()
    gateway = twilio("https://api.twilio.com")
    genuine = Callback("POST", url, {"x-twilio-signature": signature}, body)
    assert gateway.verify(genuine)
    other = RequestValidator("another").compute_signature(url, values)
    assert not gateway.verify(Callback("POST", url, {"x-twilio-signature": other}, body))


@pytest.mark.parametrize("remove", [True, False], ids=["port_left_out", "port_as_it_is"])
def test_we_accept_either_way_of_signing_the_port(remove: bool) -> None:
    url = "https://sms.example.com:443/gateways/main/reports?ref=m1"
    signed = remove_port(urlparse(url)) if remove else add_port(urlparse(url))
    signature = RequestValidator(OUR_TOKEN).compute_signature(signed, dict(FORMS["report"]))
    body = urlencode(FORMS["report"]).encode()
    gateway = twilio("https://api.twilio.com")
    assert gateway.verify(Callback("POST", url, {"x-twilio-signature": signature}, body))


def test_we_accept_a_body_that_is_signed_by_its_digest() -> None:
    validator, body = RequestValidator(OUR_TOKEN), b'{"status": "sent"}'
    digest = validator.compute_hash(body.decode())
    url = f"https://sms.example.com/gateways/main/reports?bodySHA256={digest}"
    signature = validator.compute_signature(url, {})
    gateway = twilio("https://api.twilio.com")
    assert gateway.verify(Callback("POST", url, {"x-twilio-signature": signature}, body))
    changed = body.replace(b"sent", b"lost")
    assert not gateway.verify(Callback("POST", url, {"x-twilio-signature": signature}, changed))
