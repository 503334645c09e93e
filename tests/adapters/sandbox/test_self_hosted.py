"""Kannel and Jasmin as the sandbox speaks them: our adapters send to it, and read what comes back.

There is no official SDK of either. The real Kannel is in tests/gateways_real.
"""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from adapters.gateways import KINDS, make_gateway
from adapters.gateways.base import Answer, Callback, Inbound, Outgoing, Report, Timeouts
from adapters.sandbox.dialect import Reply, Request, Submission
from adapters.sandbox.jasmin import Jasmin
from adapters.sandbox.kannel import Kannel
from tests.adapters.sandbox.conftest import Receiver
from tests.sandboxes import TOKEN, Sandbox, wait_until


@pytest.fixture(params=["kannel", "jasmin"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def gateway(kind: str, sandbox: Sandbox, receiver: Receiver) -> Callable[..., Any]:
    def make(**changes: str) -> Any:
        return make_gateway(
            kind,
            KINDS[kind].model_validate(sandbox.settings(kind) | changes),
            receiver_url=f"http://127.0.0.1:{receiver.server.server_port}",
            timeouts=Timeouts(5, 5),
        )

    return make


def submit(gateway: Any, to: str, **changes: Any) -> Answer:
    fields = {"id": str(uuid.uuid4()), "sender": "Acme", "encoding": "GSM-7", "segments": 1}
    message = Outgoing(**{**fields, "to": to, "text": "Hello", **changes})

    async def ask() -> Answer:
        async with gateway:
            [answer] = await gateway.submit([message])
            return answer

    return asyncio.run(ask())


def read(gateway: Any, receiver: Receiver, begins: str) -> list[tuple[list[Report], list[Inbound]]]:
    """Verify and parse what has come to the addresses that begin so, in order."""
    found = [got for calls in list(receiver.got.values()) for got in calls]
    callbacks = [
        Callback(
            got.method,
            f"http://127.0.0.1:{receiver.server.server_port}{got.target}",
            {name.lower(): value for name, value in got.headers.items()},
            got.body.encode("latin-1"),
            "report" if "/reports" in got.target else "reply",
        )
        for got in found
        if got.target.startswith(begins)
    ]
    assert all(gateway.verify(callback) for callback in callbacks)
    return [gateway.parse(callback) for callback in callbacks]


@pytest.mark.parametrize(
    ("text", "encoding", "segments"),
    [("Hello €[~] 100%d", "GSM-7", 1), ("x" * 300, "GSM-7", 2), ("ש 🎉", "UCS-2", 1)],
    ids=["gsm", "long", "ucs-2"],
)
def test_a_message_is_taken_as_it_is_and_reported_with_its_reference(
    kind: str,
    gateway: Callable[..., Any],
    sandbox: Sandbox,
    receiver: Receiver,
    text: str,
    encoding: str,
    segments: int,
) -> None:
    made, to, reference = gateway(), sandbox.number(), str(uuid.uuid4())
    deadline = datetime.now(UTC) + timedelta(hours=1)
    answer = submit(
        made, to, id=reference, text=text, encoding=encoding, segments=segments, deadline=deadline
    )
    assert answer.outcome == "accepted"
    [taken] = sandbox.accepted(to)
    assert (taken["body"], taken["from"]) == (text, "Acme")
    begins = f"/gateways/{kind}/reports?ref={reference}&"
    wait_until(lambda: len(read(made, receiver, begins)) == 2)
    reports = [report for found, _ in read(made, receiver, begins) for report in found]
    assert [(report.status, report.reference) for report in reports] == [
        ("sent", reference),
        ("delivered", reference),
    ]


@pytest.mark.parametrize(
    ("ending", "status", "code"), [("3003", "undelivered", "027"), ("3008", None, None)]
)
def test_a_failed_message_is_reported_with_a_code(
    kind: str,
    gateway: Callable[..., Any],
    receiver: Receiver,
    ending: str,
    status: str | None,
    code: str | None,
) -> None:
    made, reference = gateway(), str(uuid.uuid4())
    submit(made, f"+1202555{ending}", id=reference)
    begins = f"/gateways/{kind}/reports?ref={reference}&"
    wait_until(lambda: len(read(made, receiver, begins)) == 2)
    [report] = read(made, receiver, begins)[1][0]
    # Kannel has one word for all that fails.
    assert report.status == (status or {"kannel": "undelivered", "jasmin": "failed"}[kind])
    assert report.error_code == code


@pytest.mark.parametrize(
    ("to", "error_class"),
    [
        ("+12025551610", "recipient"),
        ("+12025551611", "content"),
        ("+12025551614", "recipient"),
        ("+15005550001", "recipient"),
    ],
)
def test_a_number_is_refused_in_the_gateways_own_words(
    gateway: Callable[..., Any], to: str, error_class: str
) -> None:
    answer = submit(gateway(), to)
    assert (answer.outcome, answer.error_class) == ("refused", error_class)


@pytest.mark.parametrize(
    ("fault", "outcome", "error_class"),
    [
        ({"kind": "refuse", "why": "throttled"}, "refused", "retry"),
        ({"kind": "refuse", "why": "account"}, "refused", "account"),
        ({"kind": "status", "code": 503, "accepted": True}, "unknown", None),
        ({"kind": "status", "code": 500}, "unknown", None),
        ({"kind": "status", "code": 403}, "unknown", None),
        ({"kind": "reset", "accepted": True}, "unknown", None),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_a_fault_is_understood(
    gateway: Callable[..., Any],
    sandbox: Sandbox,
    fault: dict[str, object],
    outcome: str,
    error_class: str | None,
) -> None:
    to = sandbox.number()
    sandbox.order({**fault, "to": to})
    answer = submit(gateway(), to)
    assert (answer.outcome, answer.error_class) == (outcome, error_class)
    assert len(sandbox.accepted(to)) == ("accepted" in fault)


def test_a_login_is_checked(gateway: Callable[..., Any]) -> None:
    async def check(made: Any) -> list[str]:
        async with made:
            found: list[str] = await made.check()
            return found

    assert asyncio.run(check(gateway())) == []
    [problem] = asyncio.run(check(gateway(password="wrong")))
    assert "password" in problem


@pytest.mark.parametrize("text", ["STOP", "Stop  it & 100% ünder", "ש 🎉"])
def test_a_reply_comes_to_the_address_that_was_configured(
    kind: str, gateway: Callable[..., Any], sandbox: Sandbox, receiver: Receiver, text: str
) -> None:
    made, sender = gateway(), sandbox.number()
    asked = {"kind": kind, "from": sender, "to": "13013", "body": text, "url": made.inbound_url}
    assert sandbox.client.post("/_send_inbound", json=asked).json() == {"status": 204}
    begins = urlsplit(made.inbound_url).path
    got = [reply for _, replies in read(made, receiver, begins) for reply in replies]
    [reply] = [reply for reply in got if reply.sender == sender]
    assert (reply.text, reply.recipient) == (text, "13013")


# What the sandbox refuses


HEADERS = {
    "content-type": "text/plain; charset=UTF-8",
    "x-kannel-username": "sandbox",
    "x-kannel-password": TOKEN,
    "x-kannel-to": "+12125550101",
    "x-kannel-from": "Acme",
}


def sendsms(**changes: str | None) -> Request:
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    headers = {name: value for name, value in (HEADERS | named).items() if value is not None}
    return Request("POST", "/cgi-bin/sendsms", {}, headers, b"Hello")


def answered(dialect: Kannel | Jasmin, request: Request) -> tuple[int, object]:
    reply = dialect.login(request) or dialect.read(request)
    assert isinstance(reply, Reply)
    return reply.status, reply.content


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"content_type": "application/x-www-form-urlencoded"}, 400, "Invalid content-type"),
        ({"x_kannel_password": "wrong"}, 403, "Authorization failed for sendsms"),
        ({"x_kannel_to": None}, 400, "Missing receiver(s) number(s), rejected"),
        ({"x_kannel_to": ""}, 400, "Empty receiver number not allowed, rejected"),
        ({"x_kannel_to": "+1212555010x"}, 400, "Number(s) has/have been denied"),
        ({"x_kannel_to": "+12125550101 +12125550102"}, 400, "Number(s) has/have been denied"),
        ({"x_kannel_from": None}, 400, "Sender missing and no global set, rejected"),
        ({"x_kannel_coding": "8"}, 400, "Coding field misformed, rejected"),
        ({"x_kannel_validity": "-9"}, 400, "Validity field misformed, rejected"),
        ({"x_kannel_dlr_url": "ftp://h/"}, 400, "DLR-URL field misformed, rejected"),
        ({"x_kannel_deferred": "5"}, 400, "The sandbox does not take"),
        ({"content_type": "text/plain; charset=none"}, 400, "Charset or body misformed"),
    ],
)
def test_kannel_refuses_a_bad_request(
    changes: dict[str, str | None], status: int, words: str
) -> None:
    got, said = answered(Kannel(TOKEN), sendsms(**changes))
    assert got == status
    assert str(said).startswith(words)


def test_kannel_makes_question_marks_of_what_the_coding_lacks() -> None:
    request = sendsms(x_kannel_coding="0")
    [read] = Kannel(TOKEN).read(Request("POST", "/", {}, request.headers, "aש€".encode()))
    assert isinstance(read, Submission)
    assert read.body == "a?€"


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ("username=sandbox&password=wrong&to=1", 403, "Authentication failure"),
        ("{}&content=x", 400, "Mandatory argument [to] is not found."),
        ("{}&to=1&content=x&sdt=1", 400, "Argument [sdt] is unknown."),
        ("{}&to=1,2&content=x", 400, "Argument [to] has an invalid value: [1,2]."),
        ("{}&to=1&content=x&coding=2", 400, "Argument [coding] has an invalid value: [2]."),
        ("{}&to=1&content=x&dlr-url=ftp://h", 400, "Argument [dlr-url] has an invalid value"),
        ("{}&to=1&hex-content=0", 400, "Argument [hex-content] has an invalid value: [0]."),
        ("{}&to=1", 400, "The sandbox takes content alone"),
        ("{}&to=1&content=x&coding=8", 400, "The sandbox takes hex-content alone"),
    ],
)
def test_jasmin_refuses_a_bad_request(form: str, status: int, words: str) -> None:
    body = form.format(f"username=sandbox&password={TOKEN}").encode()
    got, said = answered(Jasmin(TOKEN), Request("POST", "/send", {}, {}, body))
    assert got == status
    assert str(said).startswith(f'Error "{words}')
