"""The server: limits, control addresses, and what is printed at a start."""

import asyncio
import socket

import orjson
import pytest

from adapters.sandbox.app import create_app, describe


@pytest.mark.parametrize("megabytes", [0.3, 10])
def test_a_request_body_that_is_too_large_is_413(sandbox, megabytes):
    response = sandbox.send(Body="x" * int(megabytes * 2**20))

    assert (response.status_code, response.json()["status"]) == (413, 413)


def test_the_connection_is_usable_after_a_body_that_was_too_large(sandbox):
    sandbox.send(Body="x" * 2**20)

    assert sandbox.send().status_code == 201


def test_a_request_that_breaks_off_is_not_accepted(sandbox):
    to = sandbox.number()
    body = f"To=%2B{to[1:]}&From=12345&Body=Hello".encode()
    request = sandbox.client.build_request("POST", sandbox.messages)
    login = next(sandbox.client.auth.auth_flow(request)).headers["Authorization"]
    head = f"Host: x\r\nAuthorization: {login}\r\nContent-Length: {len(body) + 9}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sandbox.port)) as raw:
        raw.sendall(f"POST {sandbox.messages} HTTP/1.1\r\n{head}".encode() + body)
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1) == b""

    assert sandbox.accepted(to) == []


@pytest.mark.parametrize("body", [b"Body=%FF&To=%2B12025550100", b"\xff\xfe"])
def test_a_form_that_is_not_utf8_is_refused(sandbox, body):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    response = sandbox.client.post(sandbox.messages, content=body, headers=headers)

    assert response.status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/Messages.json", 405),
        ("POST", "/Calls.json", 405),
        ("GET", "/Calls.json", 404),
    ],
)
def test_what_the_sandbox_does_not_speak_is_refused(sandbox, method, path, status):
    root = sandbox.messages.removesuffix("/Messages.json")

    assert sandbox.client.request(method, root + path).status_code == status


def test_counts_tell_accepted_requests_and_duplicates_apart(sandbox):
    before = sandbox.client.get("/_stats").json()
    to = sandbox.number()
    sandbox.send(to)
    sandbox.send(to)
    sandbox.send("+12025551610")

    after = sandbox.client.get("/_stats").json()

    grown = {name: after[name] - before[name] for name in ("accepted", "requests", "duplicates")}
    assert grown == {"accepted": 2, "requests": 3, "duplicates": 1}


def test_messages_are_shown_with_their_reference_and_status(sandbox, receiver):
    to = sandbox.number()
    sandbox.order({"kind": "reports", "reports": "never"})
    sandbox.send(to, StatusCallback=receiver.url("shown"))

    (message,) = sandbox.accepted(to)

    assert (message["to"], message["body"]) == (to, "Hello")
    assert message["reference"] == receiver.url("shown")
    assert message["status"] in ("queued", "sent", "delivered")


@pytest.mark.parametrize(
    ("client", "status"), [("192.0.2.1", 403), ("127.0.0.1", 200), ("::1", 200)]
)
def test_control_addresses_answer_on_loopback_only(tmp_path, client, status):
    app = create_app(tmp_path / "journal.jsonl", account_sid="AC1", auth_token="t")
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/_stats",
        "query_string": b"",
        "headers": [],
        "client": (client, 1),
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event):
        sent.append(event)

    asyncio.run(app(scope, receive, send))

    assert sent[0]["status"] == status
    assert orjson.loads(sent[1]["body"])


def test_what_is_printed_at_a_start_can_be_pasted():
    first, line, *_ = describe(8790, "AC1", "secret").splitlines()

    assert "http://127.0.0.1:8790" in first
    assert line.strip() == (
        "sms gateway add sandbox twilio --set base_url=http://127.0.0.1:8790"
        " --set account_sid=AC1 --set auth_token=secret --set sender=+15005550006"
    )
