"""The HTTP client: what is on the wire, and what each failure proves."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import httpx
import pytest

from adapters.gateways.base import ErrorClass, Timeouts
from adapters.gateways.http import (
    LARGEST_BODY,
    Client,
    NoAnswerError,
    NotSentError,
    Reply,
    never_sent,
    no_success,
)
from tests.adapters.gateways.wire import Drop, Raw, Reset, Respond, Wire

pytestmark = pytest.mark.anyio


def client(url: str, *, timeout: float = 5, in_flight: int = 4) -> Client:
    return Client(
        url, headers={}, timeouts=Timeouts(timeout, timeout), requests_in_flight=in_flight
    )


@pytest.mark.parametrize("failure", [Reset(), Drop()])
@pytest.mark.parametrize("kept_alive", [False, True])
async def test_a_post_whose_connection_drops_is_one_request_and_in_doubt(
    wire: Wire, failure: Reset | Drop, kept_alive: bool
) -> None:
    before = [Respond()] if kept_alive else []
    wire.script = [*before, failure, Respond()]
    async with client(wire.url) as http:
        for _ in before:
            await http.post_form("/", {"a": "b"})
        with pytest.raises(NoAnswerError):
            await http.post_form("/", {"a": "b"})
    assert len(wire.requests) == len(before) + 1
    assert wire.connections == 1


async def test_a_connection_closed_before_it_is_read_is_in_doubt(wire: Wire) -> None:
    wire.close_before_reading = True
    async with client(wire.url) as http:
        with pytest.raises(NoAnswerError):
            await http.post_form("/", {"a": "b"})
    assert wire.connections == 1


async def test_a_get_is_repeated_by_aiohttp_which_is_why_messages_go_by_post(wire: Wire) -> None:
    wire.script = [Respond(), Reset(), Respond(body={"a": 1})]
    async with client(wire.url) as http:
        await http.get("/")
        assert (await http.get("/")).fields == {"a": 1}
    assert len(wire.requests) == 3


async def test_a_refused_connection_was_never_sent(free_port: Callable[[], int]) -> None:
    async with client(f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(NotSentError, match="no connection to"):
            await http.post_form("/", {})


async def test_a_failed_tls_handshake_was_never_sent(wire: Wire) -> None:
    wire.close_before_reading = True
    async with client(wire.url.replace("http:", "https:")) as http:
        with pytest.raises(NotSentError):
            await http.post_form("/", {})
    assert wire.requests == []


@pytest.mark.parametrize("delay", [0.3])
async def test_a_slow_answer_is_in_doubt(wire: Wire, delay: float) -> None:
    wire.script = [Respond(delay=delay)]
    async with client(wire.url, timeout=0.1) as http:
        with pytest.raises(NoAnswerError, match="Timeout"):
            await http.post_form("/", {})
    assert len(wire.requests) == 1


async def test_an_answer_that_trickles_is_held_to_the_same_time_out() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        try:
            for _ in range(100):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with client(f"http://127.0.0.1:{port}", timeout=0.2) as http:
        with pytest.raises(NoAnswerError, match="Timeout"):
            await http.post_form("/", {})
    server.close()


@pytest.mark.parametrize(
    "answer",
    [
        Raw(b""),
        Raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
        Raw(b"HTTP/1.1 200 OK\r\n"),
        Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
        Raw(b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\nhalf"),
        Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        Raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"),
        Respond(headers={"content-encoding": "gzip"}, body=b"no gzip"),
        Respond(body=b" " * (LARGEST_BODY + 1)),
    ],
    ids=["empty", "ssh", "cut head", "cut body", "length", "chunk", "head", "gzip", "large"],
)
async def test_an_unreadable_answer_is_in_doubt_and_the_client_goes_on(
    wire: Wire, answer: Raw | Respond
) -> None:
    wire.script = [answer, Respond(status=201)]
    async with client(wire.url) as http:
        with pytest.raises(NoAnswerError):
            await http.post_form("/", {})
        assert len(wire.requests) == 1
        assert (await http.post_form("/", {})).status == 201


async def test_the_largest_body_is_read(wire: Wire) -> None:
    wire.script = [Respond(body=b" " * LARGEST_BODY)]
    async with client(wire.url) as http:
        assert len((await http.post_form("/", {})).body) == LARGEST_BODY


async def test_a_redirect_is_an_answer_and_is_not_followed(wire: Wire) -> None:
    wire.script = [Respond(status=307, headers={"location": f"{wire.url}/elsewhere"})]
    async with client(wire.url) as http:
        assert (await http.post_form("/", {})).status == 307
    assert len(wire.requests) == 1


async def test_no_more_requests_than_allowed_are_in_flight_on_kept_connections(wire: Wire) -> None:
    wire.script = [Respond(delay=0.01)]
    async with client(wire.url, in_flight=3) as http:
        await asyncio.gather(*(http.post_form("/", {}) for _ in range(20)))
    assert (len(wire.requests), wire.most_at_once, wire.connections) == (20, 3, 3)


async def test_waiting_for_a_slot_is_not_part_of_the_time_out(wire: Wire) -> None:
    wire.script = [Respond(delay=0.1)]
    async with client(wire.url, in_flight=1, timeout=0.3) as http:
        replies = await asyncio.gather(*(http.post_form("/", {}) for _ in range(6)))
    assert len(replies) == 6


async def test_neither_proxy_nor_login_is_taken_from_the_environment(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with client(wire.url) as http:
        assert (await http.post_form("/", {})).status == 200


async def test_a_cookie_is_not_kept(wire: Wire) -> None:
    wire.script = [Respond(headers={"set-cookie": "a=b"})]
    async with client(wire.url) as http:
        await http.post_form("/", {})
        await http.post_form("/", {})
    assert "cookie" not in wire.requests[1].headers


async def test_the_client_can_be_used_again_in_another_event_loop(wire: Wire) -> None:
    http = client(wire.url)
    for _ in range(2):
        async with http:
            assert (await http.get("/")).status == 200


async def test_the_number_in_a_look_up_is_in_no_log_line_and_no_error(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.script = [Respond(), Respond(delay=0.3)]
    with caplog.at_level(logging.DEBUG):
        async with client(wire.url, timeout=0.1) as http:
            await http.get("/?To=%2B12125550101")
            with pytest.raises(NoAnswerError) as caught:
                await http.get("/?To=%2B12125550101")
    assert "2125550101" not in caplog.text + str(caught.value)


async def test_json_is_posted_as_utf_8(wire: Wire) -> None:
    async with client(wire.url) as http:
        await http.post_json("/", {"text": "🎉"})
    assert wire.requests[0].body == '{"text":"🎉"}'.encode()
    assert wire.requests[0].headers["content-type"] == "application/json"


class _Key:
    host, port, ssl = "gateway", 443, True


_CONNECTOR = aiohttp.ClientConnectorError(_Key(), OSError(111, "refused"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raised", "cause", "expected"),
    [
        (httpx.ConnectError("x"), _CONNECTOR, True),
        (
            httpx.ConnectError("x"),
            aiohttp.ClientConnectorDNSError(_Key(), OSError("no host")),  # type: ignore[arg-type]
            True,
        ),
        (httpx.ConnectTimeout("x"), aiohttp.ServerDisconnectedError(), False),
        (httpx.ConnectTimeout("x"), aiohttp.ClientOSError(104, "reset"), False),
        (httpx.ConnectTimeout("x"), aiohttp.ConnectionTimeoutError(), False),
        (httpx.ConnectError("x"), None, False),
        (TimeoutError(), asyncio.CancelledError(), False),
    ],
)
def test_only_aiohttps_connector_error_proves_that_nothing_was_sent(
    raised: Exception, cause: BaseException | None, expected: bool
) -> None:
    raised.__cause__ = cause
    assert never_sent(raised) is expected


def test_a_connector_error_that_was_got_over_proves_nothing() -> None:
    later = httpx.ReadError("x")
    later.__context__ = _CONNECTOR
    assert not never_sent(later)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0", 0), ("", None), ("soon", None), ("-1", None), ("²", None)],
)
def test_retry_after_is_read_as_seconds(value: str, seconds: float | None) -> None:
    assert Reply(429, httpx.Headers({"retry-after": value.encode()}), b"").retry_after == seconds


def test_retry_after_is_read_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    after = Reply(429, httpx.Headers({"retry-after": date}), b"").retry_after
    assert after is not None
    assert 55 < after <= 60


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("86400", 3600),
        ("99999999999999", 3600),
        ("9" * 400, 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Mon, 01 Jan 2024 00:00:00 +9999999999999999", 20),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0),
    ],
)
def test_an_absurd_retry_after_is_an_hour_at_most(value: str, seconds: float) -> None:
    reply = Reply(429, httpx.Headers({"retry-after": value}), b"")
    answer = no_success("m1", reply, error_class=ErrorClass.RETRY, code=None, text=None, wait=20)
    assert answer.retry_after == seconds


def test_a_foreign_text_is_cut_and_masked() -> None:
    reply = Reply(400, httpx.Headers(), b"")
    text = "+12125550101 " + "x" * 900_000
    answer = no_success("m1", reply, error_class=ErrorClass.RECIPIENT, code="1", text=text)
    assert len(answer.error_text) == 300
    assert "2125550101" not in answer.error_text


def test_a_number_at_the_cut_is_masked_as_a_whole() -> None:
    reply = Reply(400, httpx.Headers(), b"")
    for length in range(270, 300):
        text = "x" * length + " +12125550101"
        answer = no_success("m1", reply, error_class=ErrorClass.RECIPIENT, code="1", text=text)
        assert "1212" not in answer.error_text


@pytest.mark.parametrize(
    "address",
    [
        "http://host:port",
        "http://host:99999",
        "http://a..b",
        f"http://{'a' * 64}.com",
        "http://☃.net",
        "http://ho\tst",
    ],
)
async def test_what_is_no_address_is_told_and_never_sent(address: str) -> None:
    async with client(address) as http:
        with pytest.raises(NotSentError, match="is no address"):
            await http.post_form("/", {})


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"<html>", b"\xff", b'{"a":'])
def test_a_body_that_is_no_json_object_has_no_fields(body: bytes) -> None:
    assert Reply(200, httpx.Headers(), body).fields == {}
