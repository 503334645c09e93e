"""Plivo: signatures, delivery reports and inbound messages."""

import base64
import hashlib
import hmac
from decimal import Decimal
from typing import Literal
from urllib.parse import urlencode

import pytest

from adapters.gateways.base import (
    Addresses,
    Callback,
    CallbackError,
    ErrorClass,
    Inbound,
    Report,
    Status,
)
from adapters.gateways.callbacks import with_token
from adapters.gateways.plivo import STATUSES
from tests.adapters.gateways.plivo_account import TOKEN, plivo

# Signatures

GATEWAY = plivo("https://api.plivo.com")
URL = "https://sms.example.com/gateways/main/reports?sub=s1"
ADDRESSES = Addresses("main", "https://sms.example.com")
FIELDS = {"To": "12125550101", "MessageUUID": "u1", "Status": "sent", "Empty": ""}


def digest(text: str, token: str = TOKEN) -> str:
    return base64.b64encode(
        hmac.new(token.encode(), text.encode(), hashlib.sha256).digest()
    ).decode()


def signed_v3(text: str, header: str = "v3", token: str = TOKEN) -> dict[str, str]:
    """Headers of a text spelt out in each test, as Plivo's description puts it together."""
    return {
        f"x-plivo-signature-{header}": digest(f"{text}.77", token),
        "x-plivo-signature-v3-nonce": "77",
    }


def callback(headers: dict[str, str], url: str = URL, method: str = "POST") -> Callback:
    body = urlencode(FIELDS).encode() if method == "POST" else b""
    return Callback(method, url, headers, body)


PARAMS = "EmptyMessageUUIDu1StatussentTo12125550101"


@pytest.mark.parametrize("header", ["v3", "ma-v3"])
def test_v3_signs_the_address_and_the_sorted_parameters(header: str) -> None:
    assert GATEWAY.verify(callback(signed_v3(f"{URL}.{PARAMS}", header)))
    assert not GATEWAY.verify(callback(signed_v3(f"{URL}.{PARAMS}", header, "another-token")))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://h/r", "https://h/r?" + PARAMS),
        ("https://h/r?b=2&a=%201", f"https://h/r?a= 1&b=2.{PARAMS}"),
        ("https://h/r?a=2&a=1", f"https://h/r?a=1&a=2.{PARAMS}"),
        ("https://h:8443/r?a=1", f"https://h/r?a=1.{PARAMS}"),
        ("https://h/r?a=1", f"https://h:443/r?a=1.{PARAMS}"),
    ],
)
def test_v3_counts_with_and_without_query_and_port(url: str, text: str) -> None:
    assert GATEWAY.verify(callback(signed_v3(text), url))


def test_v3_of_a_get_signs_the_sorted_query() -> None:
    url = "https://h/r?sub=s1&To=12125550101&Status=sent"
    text = "https://h/r?Status=sent&To=12125550101&sub=s1"
    assert GATEWAY.verify(callback(signed_v3(text), url, "GET"))
    assert not GATEWAY.verify(callback(signed_v3(text), url + "2", "GET"))


def test_one_good_signature_of_several_is_enough() -> None:
    headers = signed_v3(f"{URL}.{PARAMS}")
    headers["x-plivo-signature-v3"] = f"AAAA, {headers['x-plivo-signature-v3']}"
    assert GATEWAY.verify(callback(headers))


V2 = {
    "x-plivo-signature-v2": digest("https://sms.example.com/gateways/main/reports" + "42"),
    "x-plivo-signature-v2-nonce": "42",
}
INBOUND = digest("https://sms.example.com/gateways/main/inbound" + "42")
OURS = with_token(URL, TOKEN)


@pytest.mark.parametrize("header", ["v2", "ma-v2"])
def test_v2_signs_the_address_without_its_query(header: str) -> None:
    headers = {f"x-plivo-signature-{header}": V2["x-plivo-signature-v2"]}
    headers["x-plivo-signature-v2-nonce"] = "42"
    assert GATEWAY.verify(callback(headers, OURS))
    assert not GATEWAY.verify(callback(headers | {"x-plivo-signature-v2-nonce": "43"}, OURS))
    inbound = with_token(ADDRESSES.inbound, TOKEN)
    assert not GATEWAY.verify(callback(headers, inbound))
    assert GATEWAY.verify(callback(headers | {f"x-plivo-signature-{header}": INBOUND}, inbound))


@pytest.mark.parametrize("url", [URL, OURS.replace("sub=s1", "sub=s2"), f"{URL}&token={'0' * 32}"])
def test_v2_counts_at_an_address_of_ours_only_because_it_signs_no_query(url: str) -> None:
    assert GATEWAY.verify(callback(V2, OURS))
    assert not GATEWAY.verify(callback(V2, url))


def test_the_addresses_that_plivo_is_told_have_the_token() -> None:
    url = GATEWAY.inbound_url
    headers = V2 | {"x-plivo-signature-v2": digest(url.partition("?")[0] + "42")}
    assert GATEWAY.verify(callback(headers, url))


@pytest.mark.parametrize("header", ["v3", "ma-v3"])
def test_a_wrong_v3_signature_is_not_made_good_by_v2(header: str) -> None:
    assert GATEWAY.verify(callback(V2, OURS))
    assert not GATEWAY.verify(callback(V2 | {f"x-plivo-signature-{header}": "AAAA"}, OURS))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-plivo-signature-v3": "é", "x-plivo-signature-v3-nonce": "77"},
        {"x-plivo-signature-v3": "", "x-plivo-signature-v3-nonce": ""},
        {"x-plivo-signature-v2": ",", "x-plivo-signature-v2-nonce": ""},
    ],
)
def test_an_unsigned_callback_is_refused(headers: dict[str, str]) -> None:
    assert not GATEWAY.verify(callback(headers))


# Callbacks


def parsed(
    fields: dict[str, str], kind: Literal["report", "reply"] = "report"
) -> tuple[list[Report], list[Inbound]]:
    return GATEWAY.parse(Callback("POST", URL, {}, urlencode(fields).encode(), kind))


@pytest.mark.parametrize(("word", "status"), [*STATUSES.items(), ("new word", Status.UNKNOWN)])
def test_a_status_callback_is_a_report_of_a_recipient_in_a_window(
    word: str, status: Status
) -> None:
    assert parsed({"MessageUUID": "u1", "Status": word, "To": "12125550101"}) == (
        [Report(status, submission="s1", gateway_message_id="u1", recipient="+12125550101")],
        [],
    )


def test_a_status_callback_may_come_as_a_query() -> None:
    url = f"{URL}&MessageUUID=u1&Status=delivered&To=12125550101"
    [report], _ = GATEWAY.parse(Callback("GET", url, {}, b""))
    assert (report.submission, report.recipient) == ("s1", "+12125550101")
    assert report.status is Status.DELIVERED


@pytest.mark.parametrize(
    ("amount", "price"), [("0.00450", Decimal("0.00450")), ("0.00000", None), ("", None)]
)
def test_a_report_tells_the_price_once_it_is_known(amount: str, price: Decimal | None) -> None:
    [report], _ = parsed({"MessageUUID": "u1", "Status": "sent", "TotalAmount": amount})
    assert (report.price, report.currency) == (price, "USD" if price else None)


@pytest.mark.parametrize(
    ("code", "status", "error_class"),
    [
        ("200", Status.UNDELIVERED, ErrorClass.OPTOUT),
        ("50", Status.UNDELIVERED, ErrorClass.RECIPIENT),
        ("30", Status.UNDELIVERED, ErrorClass.CONTENT),
        ("900", Status.UNDELIVERED, ErrorClass.ACCOUNT),
        ("420", Status.EXPIRED, None),
        ("20", Status.UNDELIVERED, None),
        ("80", Status.UNDELIVERED, None),
        ("999", Status.UNDELIVERED, None),
    ],
)
def test_an_error_code_of_a_report_has_its_class(
    code: str, status: Status, error_class: ErrorClass | None
) -> None:
    [report], _ = parsed({"MessageUUID": "u1", "Status": "undelivered", "ErrorCode": code})
    assert (report.status, report.error_code) == (status, code)
    assert report.error_class is error_class


def test_code_000_is_no_error() -> None:
    [report], _ = parsed({"MessageUUID": "u1", "Status": "delivered", "ErrorCode": "000"})
    assert report.error_code is None


@pytest.mark.parametrize("text", ["STOP", "", "Hola ñ 🎉 & more"])
def test_a_form_with_sender_and_text_is_an_inbound_message(text: str) -> None:
    fields = {
        "MessageUUID": "u2",
        "From": "12125550101",
        "To": "15005550006",
        "Text": text,
        "Type": "sms",
    }
    assert parsed(fields, "reply") == ([], [Inbound("u2", "+12125550101", "+15005550006", text)])


@pytest.mark.parametrize("kind", ["report", "reply"])
def test_an_address_for_reports_takes_no_reply_and_one_for_replies_no_report(
    kind: Literal["report", "reply"],
) -> None:
    report = {"Status": "delivered", "To": "12125550101"}
    reply = {"From": "12125550101", "Text": "STOP"}
    with pytest.raises(CallbackError):
        parsed({"MessageUUID": "u1"} | (reply if kind == "report" else report), kind)
    reports, inbound = parsed({"MessageUUID": "u1"} | report | reply, kind)
    assert (len(reports), len(inbound)) == ((1, 0) if kind == "report" else (0, 1))


def test_a_short_code_gets_no_plus() -> None:
    fields = {"MessageUUID": "u2", "From": "12125550101", "To": "12345", "Text": "x"}
    _, [inbound] = parsed(fields, "reply")
    assert inbound.recipient == "12345"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"Status=sent", b"MessageUUID=u1", b"MessageUUID=&Status=sent", b"a=%FF"]
)
def test_a_body_that_is_no_callback_is_an_error(body: bytes) -> None:
    with pytest.raises(CallbackError):
        GATEWAY.parse(Callback("POST", URL, {}, body))
