"""Kannel's wire format: requests as they must be, answers and callbacks as they must be understood.

What is said here of Kannel is tried with the real one in tests/gateways_real.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways.base import (
    Addresses,
    Answer,
    Callback,
    CallbackError,
    ErrorClass,
    Outgoing,
    Status,
    Timeouts,
)
from adapters.gateways.callbacks import with_token
from adapters.gateways.kannel import Kannel, KannelSettings
from tests.adapters.gateways.wire import Reaction, Request, Respond, Wire

pytestmark = pytest.mark.anyio

OWN = {"server": "Kannel/1.4.5"}
TAKEN = Respond(202, b"0: Accepted for delivery", OWN)
TOKEN = "the-callback-token"
REPORTS = "http://127.0.0.1:8780/gateways/main/reports?ref=m1"
INBOUND = "http://127.0.0.1:8780/gateways/main/inbound"


def kannel(base_url: str, route: str = "http://127.0.0.1:8780", **settings: Any) -> Kannel:
    values = {"sender": "Acme", "max_parts": 4, **settings}
    made = KannelSettings(
        base_url=base_url,
        username="tester",
        password=SecretStr("the-password"),
        callback_token=SecretStr(TOKEN),
        **values,
    )
    return Kannel(made, Addresses("main", route), Timeouts(5, 5), 8)


def message(**changes: Any) -> Outgoing:
    values = {
        "id": "m1",
        "to": "+12125550101",
        "text": "Hello",
        "sender": "Acme",
        "encoding": "GSM-7",
        "segments": 1,
    }
    return Outgoing(**(values | changes))


async def submitted(wire: Wire, route: str = "http://127.0.0.1:8780", **changes: Any) -> Request:
    wire.script = [TAKEN]
    async with kannel(wire.url, route) as gateway:
        await gateway.submit([message(**changes)])
    [request] = wire.requests
    return request


# Submission: the request


async def test_a_message_is_one_post_with_our_reference_and_a_token_in_its_dlr_url(
    wire: Wire,
) -> None:
    request = await submitted(wire)
    assert (request.method, request.target) == ("POST", "/cgi-bin/sendsms")
    assert request.body == b"Hello"
    assert request.headers["content-type"] == "text/plain; charset=UTF-8"
    ours = {name: value for name, value in request.headers.items() if name.startswith("x-")}
    assert ours == {
        "x-kannel-username": "tester",
        "x-kannel-password": "the-password",
        "x-kannel-to": "+12125550101",
        "x-kannel-from": "Acme",
        "x-kannel-coding": "0",
        "x-kannel-dlr-mask": "31",
        "x-kannel-dlr-url": with_token(REPORTS, TOKEN) + "&type=%d&id=%F&answer=%A",
    }


@pytest.mark.parametrize(
    "text",
    ["x" * 1600, "🎉" * 35, "a+b&c=d %41\r\n\t€[~]", "48656c6c6f", "שלום 你好", " \n ", ""],
    ids=["1600", "4-byte", "delimiters", "hex", "scripts", "blank", "empty"],
)
async def test_a_text_is_the_body_as_it_is(wire: Wire, text: str) -> None:
    assert (await submitted(wire, text=text)).body.decode() == text


@pytest.mark.parametrize(("encoding", "coding"), [("GSM-7", "0"), ("UCS-2", "2")])
async def test_the_coding_is_the_planners(wire: Wire, encoding: str, coding: str) -> None:
    request = await submitted(wire, encoding=encoding)
    assert request.headers["x-kannel-coding"] == coding


@pytest.mark.parametrize(
    ("left", "minutes"),
    [
        (timedelta(hours=1, seconds=30), "60"),
        (timedelta(seconds=90), "1"),
        (timedelta(seconds=20), "1"),
        (timedelta(seconds=-9), "1"),
    ],
)
async def test_the_deadline_is_sent_in_minutes(wire: Wire, left: timedelta, minutes: str) -> None:
    request = await submitted(wire, deadline=datetime.now(UTC) + left)
    assert request.headers["x-kannel-validity"] == minutes


async def test_no_sender_is_left_to_kannels_configuration(wire: Wire) -> None:
    assert "x-kannel-from" not in (await submitted(wire, sender="")).headers


async def test_a_sender_that_is_not_ascii_is_sent_in_utf_8(wire: Wire) -> None:
    request = await submitted(wire, sender="Åcme")
    assert request.headers["x-kannel-from"].encode("latin-1").decode() == "Åcme"


async def test_a_sender_cannot_add_a_header(wire: Wire) -> None:
    request = await submitted(wire, sender="Ac\r\nX-Kannel-To: +12125550199")
    assert request.headers["x-kannel-to"] == "+12125550101"


async def test_a_percent_sign_in_the_receivers_address_is_no_escape_code(wire: Wire) -> None:
    request = await submitted(wire, route="http://127.0.0.1:8780/a%20b")
    assert "/a%%20b/gateways/main/reports?ref=m1&token=" in request.headers["x-kannel-dlr-url"]


async def test_a_text_that_kannel_would_cut_off_is_not_sent(wire: Wire) -> None:
    wire.script = [TAKEN]
    async with kannel(wire.url, max_parts=2) as gateway:
        short, long = await gateway.submit([message(segments=2), message(id="m2", segments=3)])
    assert (short.id, short.outcome) == ("m1", "accepted")
    assert (long.id, long.outcome, long.error_class) == ("m2", "refused", ErrorClass.CONTENT)
    assert "max_parts" in long.error_text
    assert len(wire.requests) == 1


# Submission: the answer


async def answer_to(wire: Wire, reaction: Reaction) -> Answer:
    wire.script = [reaction]
    async with kannel(wire.url) as gateway:
        [answer] = await gateway.submit([message()])
    assert len(wire.requests) == 1
    return answer


@pytest.mark.parametrize(
    "said", [b"0: Accepted for delivery", b"3: Queued for later delivery", b"Sent."]
)
async def test_what_kannel_takes_is_accepted_without_an_id(wire: Wire, said: bytes) -> None:
    answer = await answer_to(wire, Respond(202, said, OWN))
    assert (answer.outcome, answer.gateway_message_id) == ("accepted", None)


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (403, "Authorization failed for sendsms", "account"),
        (404, "Unknown request.", "account"),
        (400, "DLR-URL field misformed, rejected", "account"),
        (400, "Number(s) has/have been denied by white- and/or black-lists.", "recipient"),
        (400, "Missing receiver(s) number(s), rejected", "recipient"),
        (403, "Not routable. Do not try again.", "content"),
        (400, "Sender missing and no global set, rejected", "content"),
        (400, "Charset or body misformed, rejected", "content"),
        (503, "Temporal failure, try again later.", "retry"),
        (400, "Something else, rejected", "recipient"),
    ],
)
async def test_a_refusal_has_the_class_of_its_words(
    wire: Wire, status: int, said: str, expected: str
) -> None:
    answer = await answer_to(wire, Respond(status, said.encode(), OWN))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass(expected))
    assert answer.retry_after == (1 if expected == "retry" else None)
    assert answer.error_text.startswith(f"HTTP {status} {said[:8]}")


@pytest.mark.parametrize(
    "reaction",
    [
        Respond(202, b"", OWN),
        Respond(202, b"<html>0: ", OWN),
        Respond(200, b"0: Accepted for delivery", OWN),
        Respond(500, b"Sending failed.", OWN),
        Respond(503, b"<html>Service Unavailable"),
        Respond(503, b"", OWN),
        Respond(400, b"<html>Bad Request", {"server": "nginx"}),
        Respond(403, b"<html>Forbidden", {"server": "nginx"}),
        Respond(404, b"<html>Not Found", {"server": "nginx"}),
        Respond(408, b"Authorization failed", OWN),
    ],
    ids=lambda reaction: f"{reaction.status} {reaction.body}"[:40],
)
async def test_what_is_not_kannels_word_that_it_has_nothing_is_in_doubt(
    wire: Wire, reaction: Respond
) -> None:
    answer = await answer_to(wire, reaction)
    assert (answer.outcome, answer.error_class) == ("unknown", None)


# Callbacks


def callback(address: str, escapes: str, token: str = TOKEN) -> Callback:
    kind: Literal["report", "reply"] = "reply" if address == INBOUND else "report"
    return Callback("GET", with_token(address, token) + escapes, {}, b"", kind)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("1", Status.DELIVERED),
        ("2", Status.UNDELIVERED),
        ("4", Status.QUEUED),
        ("8", Status.SENT),
        ("16", Status.REJECTED),
        ("32", Status.UNKNOWN),
    ],
)
def test_a_report_has_the_status_of_its_type(kind: str, status: Status) -> None:
    gateway = kannel("http://127.0.0.1:1")
    got = callback(REPORTS, f"&type={kind}&id=5d27af04&answer=ACK%2F")
    assert gateway.verify(got)
    [report], inbound = gateway.parse(got)
    assert (report.reference, report.status, inbound) == ("m1", status, [])
    assert report.gateway_message_id == "5d27af04"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("ACK/", None),
        ("", None),
        ("NACK/0x0000000b/Invalid Destination Address", "0x0000000b"),
        ("id:7 sub:001 dlvrd:000 done date:2611241406 stat:UNDELIV err:011 text:Hi Ann", "011"),
        ("id:7 sub:001 dlvrd:001 stat:DELIVRD err:000 text:Hi Ann", None),
        ("NACK/Retries Exceeded +12125550101", None),
    ],
)
def test_of_an_smscs_answer_only_the_code_is_kept(answer: str, code: str | None) -> None:
    got = callback(REPORTS, f"&type=2&id=&answer={quote(answer)}")
    [report], _ = kannel("http://127.0.0.1:1").parse(got)
    assert (report.error_code, report.gateway_message_id) == (code, None)


@pytest.mark.parametrize(
    ("octets", "charset", "text"),
    [
        (b"STOP", "UTF-8", "STOP"),
        (" Stop  é\n€".encode(), "UTF-8", " Stop  é\n€"),
        ("ש 🎉".encode("utf-16-be"), "UTF-16BE", "ש 🎉"),
        (b"a\xffb", "8-BIT", "aÿb"),
        (b"", "UTF-8", ""),
        (b"\x05", "UTF-16BE", "\x05"),
    ],
)
def test_a_reply_is_read_in_its_charset(octets: bytes, charset: str, text: str) -> None:
    gateway = kannel("http://127.0.0.1:1")
    query = f"&from=%2B447700900001&to=13013&text={quote(octets)}&charset={charset}&id=960876fa"
    got = callback(INBOUND, query)
    assert gateway.verify(got)
    reports, [reply] = gateway.parse(got)
    assert (reports, reply.text) == ([], text)
    assert (reply.sender, reply.recipient) == ("+447700900001", "13013")
    assert reply.gateway_message_id == "960876fa"


def test_the_plus_that_an_smsc_left_away_is_put_back() -> None:
    query = "&from=447700900001&to=447700900009&text=STOP&charset=UTF-8&id=1"
    _, [reply] = kannel("http://127.0.0.1:1").parse(callback(INBOUND, query))
    assert (reply.sender, reply.recipient) == ("+447700900001", "+447700900009")


def test_the_get_url_for_kannels_configuration_verifies() -> None:
    gateway = kannel("http://127.0.0.1:1")
    url = gateway.inbound_url
    assert url.endswith("&from=%p&to=%P&text=%b&charset=%C&id=%I")
    assert gateway.verify(Callback("GET", url, {}, b""))


@pytest.mark.parametrize(
    "got",
    [
        Callback("GET", REPORTS + "&type=1", {}, b""),
        callback(REPORTS, "&type=1", token="another-callback-token"),
        Callback("GET", with_token(REPORTS, TOKEN).replace("m1", "m2") + "&type=1", {}, b""),
        Callback("GET", with_token(REPORTS, TOKEN).replace("main", "other") + "&type=1", {}, b""),
        Callback("GET", with_token(REPORTS, TOKEN)[:-1] + "&type=1", {}, b""),
        Callback("POST", REPORTS, {}, f"token={TOKEN}".encode()),
    ],
    ids=["none", "another secret", "another message", "another gateway", "short", "in the body"],
)
def test_a_callback_without_its_token_is_refused(got: Callback) -> None:
    assert not kannel("http://127.0.0.1:1").verify(got)


@pytest.mark.parametrize("escapes", ["", "&type=", "&from=%2B44770090&id=1", "&text=STOP&id=1"])
def test_a_callback_that_says_nothing_is_an_error(escapes: str) -> None:
    with pytest.raises(CallbackError, match="get-url"):
        kannel("http://127.0.0.1:1").parse(callback(INBOUND, escapes))


# Check


async def problems(wire: Wire, reaction: Respond, **settings: Any) -> list[str]:
    wire.script = [reaction]
    async with kannel(wire.url, **settings) as gateway:
        return await gateway.check()


NOBODY = Respond(400, b"Missing receiver(s) number(s), rejected", OWN)


async def test_a_login_is_checked_with_a_message_to_nobody(wire: Wire) -> None:
    assert await problems(wire, NOBODY) == []
    [request] = wire.requests
    assert "x-kannel-to" not in request.headers
    assert request.body == b""


@pytest.mark.parametrize(
    ("reaction", "setting"),
    [
        (Respond(403, b"Authorization failed for sendsms", OWN), "password"),
        (Respond(404, b"Unknown request.", OWN), "base_url"),
        (Respond(403, b"<html>"), "base_url"),
        (Respond(202, b"0: Accepted for delivery", OWN), "base_url"),
        (Respond(301, b"", {"location": "/"}), "base_url"),
    ],
)
async def test_a_problem_is_one_line_with_the_setting_and_the_mend(
    wire: Wire, reaction: Respond, setting: str
) -> None:
    [problem] = await problems(wire, reaction)
    assert problem.endswith(f"sms gateway add main kannel --set {setting}=…")
    assert "the-password" not in problem


async def test_a_sender_of_no_known_form_is_a_problem(wire: Wire) -> None:
    [problem] = await problems(wire, NOBODY, sender="Åcme")
    assert "--set sender=…" in problem


# Settings


@pytest.mark.parametrize(
    "changes",
    [{"username": ""}, {"callback_token": "short"}, {"base_url": "127.0.0.1"}, {"max_parts": 0}],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    good = {"username": "tester", "password": "the-password", "callback_token": TOKEN}
    assert KannelSettings.model_validate(good).base_url == "http://127.0.0.1:13013"
    with pytest.raises(ValidationError) as caught:
        KannelSettings.model_validate(good | changes)
    assert "the-password" not in str(caught.value)
