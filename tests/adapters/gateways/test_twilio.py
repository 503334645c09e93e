"""Twilio's wire format: requests as they must be, answers as they must be understood."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import (
    Callback,
    CallbackError,
    ErrorClass,
    Finding,
    Inbound,
    Outgoing,
    Report,
    Route,
    Status,
    Suspect,
    Timeouts,
)
from adapters.gateways.twilio import STATUSES, Twilio, TwilioSettings
from tests.adapters.gateways.wire import Reaction, Request, Respond, Wire

pytestmark = pytest.mark.anyio

SID = "AC" + "5" * 32
ACCOUNT = f"/2010-04-01/Accounts/{SID}"
TOKEN = "12345"  # the token of the example in Twilio's documentation
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CREATED = {"sid": "SM" + "1" * 32, "status": "queued", "num_segments": "1", "price": None}


def twilio(base_url: str, *, receiver: str = "http://127.0.0.1:8780", **settings: Any) -> Twilio:
    made = TwilioSettings(
        account_sid=SID, auth_token=SecretStr(TOKEN), base_url=base_url, **settings
    )
    return Twilio(made, Route("main", receiver), Timeouts(5, 5), 8)


def message(**changes: Any) -> Outgoing:
    values = {
        "id": "m1",
        "to": "+12125550101",
        "text": "Hello",
        "sender": "+15005550006",
        "encoding": "GSM-7",
        "segments": 1,
    }
    return Outgoing(**(values | changes))


async def submitted(wire: Wire, **changes: Any) -> dict[str, str]:
    wire.script = [Respond(201, CREATED)]
    async with twilio(wire.url) as gateway:
        await gateway.submit([message(**changes)])
    return wire.requests[0].form


# Submission: the request


async def test_a_message_is_one_form_with_our_reference_in_its_callback(wire: Wire) -> None:
    form = await submitted(wire)
    assert form == {
        "To": "+12125550101",
        "From": "+15005550006",
        "Body": "Hello",
        "StatusCallback": "http://127.0.0.1:8780/gateways/main/reports?ref=m1",
    }
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", f"{ACCOUNT}/Messages.json")
    login = base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {login}"


@pytest.mark.parametrize(
    "text",
    ["x" * 1600, "🎉" * 800, "a+b&c=d %41\r\n\t€[~]", "שלום 你好 👩‍👩‍👧", " \n ", ""],
    ids=["1600", "4-byte", "delimiters", "scripts", "blank", "empty"],
)
async def test_a_text_arrives_as_it_is(wire: Wire, text: str) -> None:
    assert (await submitted(wire, text=text))["Body"] == text


@pytest.mark.parametrize(
    ("left", "lowest", "highest"),
    [
        (timedelta(hours=1), 3590, 3600),
        (timedelta(days=3), 36_000, 36_000),
        (timedelta(seconds=-9), 1, 1),
    ],
)
async def test_the_deadline_is_sent_as_seconds_within_twilios_bounds(
    wire: Wire, left: timedelta, lowest: int, highest: int
) -> None:
    form = await submitted(wire, deadline=datetime.now(UTC) + left)
    assert lowest <= int(form["ValidityPeriod"]) <= highest


async def test_a_messaging_service_picks_the_sender_where_none_is_named(wire: Wire) -> None:
    wire.script = [Respond(201, CREATED)]
    service = "MG" + "a" * 32
    async with twilio(wire.url, messaging_service_sid=service) as gateway:
        await gateway.submit([message(sender="")])
    assert wire.requests[0].form["MessagingServiceSid"] == service
    assert "From" not in wire.requests[0].form


# Submission: the answer


async def answer_to(wire: Wire, reaction: Reaction) -> Any:
    wire.script = [reaction]
    async with twilio(wire.url) as gateway:
        [answer] = await gateway.submit([message()])
    assert len(wire.requests) == 1
    assert answer.id == "m1"
    return answer


async def test_a_created_message_is_accepted_with_what_twilio_knows(wire: Wire) -> None:
    body = CREATED | {"num_segments": "3", "price": "-0.0225", "price_unit": "USD"}
    answer = await answer_to(wire, Respond(201, body))
    assert (answer.outcome, answer.gateway_message_id) == ("accepted", CREATED["sid"])
    assert (answer.segments, answer.price, answer.currency) == (3, Decimal("0.0225"), "USD")


async def test_zero_segments_and_no_price_mean_not_known_yet(wire: Wire) -> None:
    body = CREATED | {"num_segments": "0", "price_unit": "USD"}
    answer = await answer_to(wire, Respond(201, body))
    assert (answer.segments, answer.price, answer.currency) == (None, None, None)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, 20429, "retry"),
        (429, None, "retry"),
        (400, 21611, "retry"),
        (400, 21610, "optout"),
        (400, 21211, "recipient"),
        (400, 21614, "recipient"),
        (400, 21612, "recipient"),
        (400, 21408, "recipient"),
        (403, 21408, "recipient"),
        (400, 21606, "content"),
        (400, 21617, "content"),
        (400, 21660, "content"),
        (400, 30034, "content"),
        (400, 21609, "account"),
        (401, 20003, "account"),
        (401, None, "account"),
        (403, None, "account"),
        (403, 20005, "account"),
        (400, 30002, "account"),
        (404, 20404, "account"),
        # Codes that nobody has listed: one message, or the account and the API.
        (400, 21999, "recipient"),
        (400, 63999, "recipient"),
        (400, 20999, "account"),
    ],
)
async def test_a_refusal_has_the_class_of_its_code(
    wire: Wire, status: int, code: int | None, expected: str
) -> None:
    body: object = {"code": code, "message": "No", "status": status} if code else b"<html>"
    answer = await answer_to(wire, Respond(status, body))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert answer.error_code == (str(code) if code else None)


@pytest.mark.parametrize(
    "reaction",
    [
        Respond(500, {"code": 20500, "message": "Internal"}),
        Respond(503, {"code": 20503, "message": "Unavailable"}),
        Respond(502, b"<html>"),
        Respond(408, {"code": 20408, "message": "Timeout"}),
        Respond(400, b"<html>"),
        Respond(400, {"message": "no code"}),
        Respond(400, {"code": None}),
        Respond(302, b"", {"location": "/"}),
        Respond(201, b""),
        Respond(201, b"<html>"),
        Respond(201, [CREATED]),
        Respond(201, {"status": "queued"}),
        Respond(201, {"sid": None}),
        Respond(201, {"sid": ["SM"]}),
        Respond(204),
    ],
    ids=lambda reaction: f"{reaction.status} {reaction.body}"[:40],
)
async def test_what_twilio_does_not_document_as_not_accepted_is_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    answer = await answer_to(wire, reaction)
    assert (answer.outcome, answer.error_class, answer.retry_after) == ("unknown", None, None)
    assert f"HTTP {reaction.status}" in answer.error_text


@pytest.mark.parametrize(
    ("code", "headers", "seconds"),
    [
        (20429, {"retry-after": "7"}, 7),
        (20429, {}, 1),
        (21611, {}, 60),
        (21610, {"retry-after": "7"}, None),
    ],
)
async def test_only_a_retry_says_how_long_to_wait(
    wire: Wire, code: int, headers: dict[str, str], seconds: float | None
) -> None:
    answer = await answer_to(wire, Respond(429, {"code": code, "message": "No"}, headers))
    assert answer.retry_after == seconds


async def test_the_number_in_twilios_error_text_is_masked(wire: Wire) -> None:
    body = {"code": 21211, "message": "The 'To' number +12125550101 is not valid."}
    answer = await answer_to(wire, Respond(400, body))
    assert answer.error_text == "HTTP 400 The 'To' number +1•••••••101 is not valid."


# Check


async def problems(wire: Wire, *reactions: Respond, **settings: Any) -> list[str]:
    wire.script = list(reactions)
    sender = settings.pop("asked", None)
    async with twilio(wire.url, **({"sender": "+15005550006"} | settings)) as gateway:
        return await gateway.check(sender)


ACTIVE = Respond(200, {"sid": SID, "status": "active"})


@pytest.mark.parametrize(
    "sender", ["+15005550006", "+15550000123", "Acme", "Acme-2 &+", "12345", "A" * 11]
)
async def test_a_good_account_and_sender_have_no_problem(wire: Wire, sender: str) -> None:
    assert await problems(wire, ACTIVE, asked=sender) == []
    assert [(request.method, request.path) for request in wire.requests] == [
        ("GET", f"{ACCOUNT}.json")
    ]


@pytest.mark.parametrize("sender", ["15005550006", "+0123456789", "A" * 12, "Åcme", "12"])
async def test_a_sender_of_no_known_form_is_a_problem(wire: Wire, sender: str) -> None:
    [problem] = await problems(wire, ACTIVE, asked=sender)
    assert problem.endswith("sms gateway add main twilio --set sender=…")
    assert sender not in problem


async def test_no_sender_at_all_is_a_problem_unless_a_service_picks_it(wire: Wire) -> None:
    [problem] = await problems(wire, ACTIVE, sender="")
    assert "no sender" in problem
    assert await problems(wire, ACTIVE, sender="", messaging_service_sid="MG" + "a" * 32) == []


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (
            Respond(401, {"code": 20003, "message": "Authenticate"}),
            "account_sid or auth_token is wrong (HTTP 401): sms gateway add main twilio"
            " --set auth_token=…",
        ),
        (Respond(404, {"code": 20404}), "--set base_url=…"),
        (Respond(301, b"", {"location": "/"}), "redirect"),
        (Respond(500), "HTTP 500"),
        (Respond(200, b"<html>"), "base_url"),
        (Respond(200, {"sid": SID, "status": "suspended"}), "the account is suspended"),
    ],
)
async def test_a_problem_is_one_line_with_the_setting_and_the_mend(
    wire: Wire, reaction: Respond, words: str
) -> None:
    [problem] = await problems(wire, reaction)
    assert words in problem
    assert "\n" not in problem
    assert TOKEN not in problem


async def test_test_credentials_are_good_though_they_may_read_nothing(wire: Wire) -> None:
    assert await problems(wire, Respond(403, {"code": 20008, "message": "Test"})) == []


async def test_a_receiver_on_this_machine_is_a_problem_for_a_gateway_elsewhere() -> None:
    async with twilio("https://twilio.invalid", sender="Acme") as gateway:
        first, second = await gateway.check()
    assert "SMS_PUBLIC_URL" in first
    assert "base_url" in second


# Recovery


def suspect(name: str = "m1", after: int = 0, lease: int = 60, **changes: Any) -> Suspect:
    values = {"to": "+12125550101", "text": "Hello", "sender": "+15005550006"}
    return Suspect(
        id=name,
        submitted_after=NOW + timedelta(seconds=after),
        lease_until=NOW + timedelta(seconds=lease),
        **(values | changes),
    )


def listed(sid: str, seconds: int = 5, **changes: Any) -> dict[str, Any]:
    return {
        "sid": sid,
        "to": "+12125550101",
        "from": "+15005550006",
        "body": "Hello",
        "direction": "outbound-api",
        "date_created": format_datetime(NOW + timedelta(seconds=seconds)),
    } | changes


async def recovered(wire: Wire, entries: list[Any], *suspects: Suspect) -> list[Finding]:
    wire.script = [Respond(200, {"messages": entries, "next_page_uri": None})]
    async with twilio(wire.url) as gateway:
        return await gateway.recover(suspects)


async def test_a_listed_message_proves_that_it_was_accepted(wire: Wire) -> None:
    assert await recovered(wire, [listed("SM1")], suspect()) == [Finding("m1", "accepted", "SM1")]
    [request] = wire.requests
    assert request.path == f"{ACCOUNT}/Messages.json"
    assert request.query == {
        "To": "+12125550101",
        "From": "+15005550006",
        "DateSent>": "2026-11-24",
        "PageSize": "1000",
    }


@pytest.mark.parametrize(
    "entry",
    [
        listed("SM1", body="Hello!"),
        listed("SM1", to="+12125550102"),
        listed("SM1", **{"from": "+15005550007"}),
        listed("SM1", seconds=-121),
        listed("SM1", seconds=60 + 5 + 121),
        listed("SM1", direction="inbound"),
        listed("SM1", date_created=None),
        listed("SM1", date_created="yesterday"),
        {},
        None,
    ],
)
async def test_what_does_not_fit_proves_nothing_and_never_absence(wire: Wire, entry: Any) -> None:
    assert await recovered(wire, [entry], suspect()) == []


async def test_one_id_belongs_to_one_message(wire: Wire) -> None:
    twins = [suspect("m1"), suspect("m2"), suspect("m3", sender="")]
    found = await recovered(wire, [listed("SM1"), listed("SM2"), listed("SM1")], *twins)
    assert sorted(finding.gateway_message_id or "" for finding in found) == ["SM1", "SM2"]


async def test_suspects_with_windows_of_their_own_find_the_message_that_fits(wire: Wire) -> None:
    early, late = suspect("early", 0, 60), suspect("late", 1000, 1060)
    found = await recovered(wire, [listed("SM2", 1010), listed("SM1", 10)], late, early)
    assert {(finding.id, finding.gateway_message_id) for finding in found} == {
        ("early", "SM1"),
        ("late", "SM2"),
    }


async def test_all_pages_are_read(wire: Wire) -> None:
    def page(request: Request) -> Respond:
        if "PageToken" in request.query:
            return Respond(200, {"messages": [listed("SM2")], "next_page_uri": None})
        following = f"{ACCOUNT}/Messages.json?Page=1&PageToken=PA1"
        return Respond(200, {"messages": [listed("SM1")], "next_page_uri": following})

    wire.script = page
    async with twilio(wire.url) as gateway:
        assert len(await gateway.recover([suspect("m1"), suspect("m2")])) == 2


@pytest.mark.parametrize("reaction", [Respond(500), Respond(200, b"<"), Respond(429), Respond(401)])
async def test_a_look_up_that_fails_leaves_the_message_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    wire.script = [reaction]
    async with twilio(wire.url) as gateway:
        assert await gateway.recover([suspect()]) == []


async def test_pages_without_end_come_to_an_end(wire: Wire) -> None:
    uri = f"{ACCOUNT}/Messages.json?Page=1"
    wire.script = [Respond(200, {"messages": [], "next_page_uri": uri})]
    async with twilio(wire.url) as gateway:
        assert await gateway.recover([suspect()]) == []
    assert len(wire.requests) < 50


# Poll


async def test_a_poll_reports_status_error_and_absolute_price(wire: Wire) -> None:
    wire.script = [
        Respond(
            200,
            {
                "sid": "SM1",
                "to": "+12125550101",
                "status": "undelivered",
                "error_code": 30005,
                "price": "-0.00750",
                "price_unit": "USD",
                "date_updated": "Tue, 24 Nov 2026 12:00:00 +0000",
            },
        )
    ]
    async with twilio(wire.url) as gateway:
        assert await gateway.poll(["SM1"]) == [
            Report(
                Status.UNDELIVERED,
                gateway_message_id="SM1",
                recipient="+12125550101",
                error_code="30005",
                error_class=ErrorClass.RECIPIENT,
                occurred_at=NOW,
                price=Decimal("0.00750"),
                currency="USD",
            )
        ]
    assert wire.requests[0].path == f"{ACCOUNT}/Messages/SM1.json"


async def test_a_poll_leaves_out_what_has_no_clear_answer(wire: Wire) -> None:
    answers: dict[str, Respond] = {
        "SM1": Respond(404, {"code": 20404}),
        "SM2": Respond(500),
        "SM3": Respond(200, {"sid": "SM3"}),
        "SM4": Respond(200, {"sid": "SM4", "status": "new word"}),
    }
    wire.script = lambda request: answers[request.path.split("/")[-1].removesuffix(".json")]
    async with twilio(wire.url) as gateway:
        reports = await gateway.poll(list(answers))
    assert [(report.gateway_message_id, report.status) for report in reports] == [
        ("SM4", Status.UNKNOWN)
    ]


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
    [b"", b"{}", b"MessageStatus=sent", b"MessageSid=SM1", b"MessageSid=&Body=x&From=y", b"a=%FF"]
    + [b"\xff\xfe", b"&".join(b"a%d=" % n for n in range(500))],
)
def test_a_body_that_is_no_callback_is_an_error_without_its_content(body: bytes) -> None:
    with pytest.raises(CallbackError):
        GATEWAY.parse(callback(URL, body, ""))


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"account_sid": "AC1"},
        {"account_sid": "SK" + "5" * 32},
        {"auth_token": ""},
        {"base_url": "api.twilio.com"},
        {"base_url": "ftp://api.twilio.com"},
        {"messaging_service_sid": "main"},
        {"rate": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"account_sid": SID, "auth_token": "secret-token"}
    TwilioSettings.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        TwilioSettings.model_validate(good | changes)
    assert "secret-token" not in str(caught.value)


def test_a_missing_setting_is_named_without_showing_the_others() -> None:
    with pytest.raises(ValidationError) as caught:
        TwilioSettings.model_validate({"auth_token": "secret-token"})
    assert "account_sid" in str(caught.value)
    assert "secret-token" not in str(caught.value)


def test_a_trailing_slash_of_base_url_does_no_harm() -> None:
    made = TwilioSettings(account_sid=SID, auth_token=SecretStr("x"), base_url="http://h:1/")
    assert made.base_url == "http://h:1"
