"""Twilio: signatures, delivery reports and inbound messages."""

import base64
import hashlib
import hmac
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.gateways.base import (
    Callback,
    CallbackError,
    ErrorClass,
    Inbound,
    Report,
    Status,
)
from adapters.gateways.twilio import STATUSES
from tests.adapters.gateways.twilio_account import TOKEN, twilio

# Callbacks


def sign(address: str, fields: list[tuple[str, str]] = [], token: str = TOKEN) -> str:  # noqa: B006
    """An own reading of twilio.com/docs/usage/security, to check the adapter's against."""
    text = address
    for name, value in sorted(set(fields)):
        text += name + value
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def callback(url: str, body: bytes, signature: str) -> Callback:
    return Callback("POST", url, {"x-twilio-signature": signature}, body)


GATEWAY = twilio("https://api.twilio.com")
FIELDS = [("MessageSid", "SM1"), ("MessageStatus", "sent"), ("To", "+12125550101")]
URL = "https://sms.example.com/gateways/main/reports?ref=m1"


@pytest.mark.parametrize(
    ("number", "signature"),
    [
        ("+14158675309", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("+14158675310", "GvWf1cFY/Q7PnoempGyD5oXAezc="),
    ],
)
def test_the_examples_in_twilios_documentation_verify(number: str, signature: str) -> None:
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": number,
        "Digits": "1234",
        "From": number,
        "To": "+18005551212",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert GATEWAY.verify(callback(url, urlencode(fields).encode(), signature))


@pytest.mark.parametrize(
    ("seen", "signed"),
    [
        (URL, URL),
        (URL, URL.replace(".com/", ".com:443/")),
        (URL.replace(".com/", ".com:443/"), URL),
        (URL.replace(".com/", ".com:8443/"), URL),
        ("http://h/r?ref=1", "http://h:80/r?ref=1"),
        ("http://[::1]:8780/r", "http://[::1]/r"),
    ],
)
def test_a_signature_counts_with_and_without_the_port(seen: str, signed: str) -> None:
    assert GATEWAY.verify(callback(seen, urlencode(FIELDS).encode(), sign(signed, FIELDS)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=6))
def test_any_form_verifies_with_its_signature_and_with_no_other(
    fields: list[tuple[str, str]],
) -> None:
    body = urlencode(fields).encode()
    assert GATEWAY.verify(callback(URL, body, sign(URL, fields)))
    assert not GATEWAY.verify(callback(URL, body, sign(URL, fields, token="54321")))
    assert not GATEWAY.verify(callback(URL, body + b"&x=y", sign(URL, fields)))


@pytest.mark.parametrize("signature", ["", "é", "AAAA", sign(URL)])
def test_an_unsigned_or_wrongly_signed_callback_is_refused(signature: str) -> None:
    assert not GATEWAY.verify(callback(URL, urlencode(FIELDS).encode(), signature))


def test_a_changed_reference_is_refused() -> None:
    body = urlencode(FIELDS).encode()
    assert not GATEWAY.verify(callback(URL + "2", body, sign(URL, FIELDS)))


def test_a_json_body_is_signed_by_its_digest_in_the_address() -> None:
    body = b'{"a": "\xf0\x9f\x8e\x89", "b": "x&y=z"}'
    url = f"{URL}&bodySHA256={hashlib.sha256(body).hexdigest()}"
    assert GATEWAY.verify(callback(url, body, sign(url)))
    assert not GATEWAY.verify(callback(url, body + b" ", sign(url)))
    assert not GATEWAY.verify(callback(URL, body, sign(URL)))


@pytest.mark.parametrize(("word", "status"), [*STATUSES.items(), ("new word", Status.UNKNOWN)])
def test_a_status_callback_is_a_report_with_our_reference(word: str, status: Status) -> None:
    body = urlencode({"MessageSid": "SM1", "MessageStatus": word, "To": "+12125550101"}).encode()
    assert GATEWAY.parse(callback(URL, body, "")) == (
        [Report(status, reference="m1", gateway_message_id="SM1", recipient="+12125550101")],
        [],
    )


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        ("21610", ErrorClass.OPTOUT),
        ("30004", ErrorClass.RECIPIENT),
        ("30007", ErrorClass.CONTENT),
        ("30003", None),
        ("30008", None),
        ("39999", None),
    ],
)
def test_only_21610_on_a_report_is_an_opt_out(code: str, error_class: ErrorClass | None) -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": code}
    [report], _ = GATEWAY.parse(callback(URL, urlencode(fields).encode(), ""))
    assert (report.error_code, report.error_class) == (code, error_class)


@pytest.mark.parametrize("text", ["STOP", "", "Hola ñ 🎉 & more"])
def test_a_form_with_sender_and_text_is_an_inbound_message(text: str) -> None:
    fields = {
        "MessageSid": "SM2",
        "SmsStatus": "received",
        "From": "+12125550101",
        "To": "+15005550006",
        "Body": text,
    }
    assert GATEWAY.parse(callback(URL, urlencode(fields).encode(), "")) == (
        [],
        [Inbound("SM2", "+12125550101", "+15005550006", text)],
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"MessageStatus=sent",
        b"MessageSid=SM1",
        b"MessageSid=&Body=x&From=y",
        b"a=%FF",
        b"\xff\xfe",
        b"&".join(b"a%d=" % n for n in range(500)),
    ],
)
def test_a_body_that_is_no_callback_is_an_error(body: bytes) -> None:
    with pytest.raises(CallbackError):
        GATEWAY.parse(callback(URL, body, ""))
