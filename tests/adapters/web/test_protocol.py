"""What one connection may take from the receiver: time, bytes, and a place."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from adapters.web import protocol
from tests.adapters.web.serving import Server

GET = b"GET /health HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /gateways/main/reports HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, server: Server) -> Server:
    """A server that waits half a second for a request to be whole."""
    monkeypatch.setattr(protocol, "SECONDS", 0.5)
    return server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(server.address, timeout=10)


def answer(connection: socket.socket) -> str:
    """The first line of what comes until the connection is closed; empty: it just closes."""
    got = b""
    try:
        while part := connection.recv(65_536):
            got += part
    except ConnectionResetError:
        pass
    return got.partition(b"\r\n")[0].decode()


def drip(server: Server, start: bytes, drops: Iterator[bytes]) -> str:
    """Send a start, and then a little at a time until the connection closes."""
    with connect(server) as connection:
        connection.sendall(start)
        ends = time.monotonic() + 10
        connection.settimeout(0.1)
        for drop in drops:
            assert time.monotonic() < ends, "the connection stayed open"
            try:
                connection.sendall(drop)
                if got := connection.recv(65_536):
                    return got.partition(b"\r\n")[0].decode()
                return ""
            except TimeoutError:
                continue
            except OSError:
                return ""
    return "there were no more drops"


def repeated(drop: bytes) -> Iterator[bytes]:
    while True:
        yield drop


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        pytest.param(b"", b"\r\n", id="empty lines"),
        pytest.param(b"GET /", b"x", id="a path"),
        pytest.param(GET + b"x-slow: ", b"x", id="a header"),
        pytest.param(GET, b"a: b\r\n", id="headers"),
        pytest.param(POST + b"content-length: 9000\r\n\r\n", b"x", id="a body"),
        pytest.param(POST + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="chunks"),
    ],
)
def test_a_request_that_is_not_whole_in_time_is_ended(
    quick: Server, caplog: pytest.LogCaptureFixture, start: bytes, drop: bytes
) -> None:
    assert drip(quick, start, repeated(drop)) == "HTTP/1.1 408 Request Timeout"
    assert "Traceback" not in caplog.text
    assert quick.post({"status": "sent"}).status_code == 204


def test_a_connection_on_which_nothing_comes_is_closed(quick: Server) -> None:
    with connect(quick) as connection:
        assert answer(connection) == ""


def test_empty_lines_do_not_keep_a_connection_that_has_had_its_answer(quick: Server) -> None:
    with connect(quick) as connection:
        connection.sendall(GET + b"\r\n")
        assert b"200 OK" in connection.recv(65_536)
        connection.settimeout(0.1)
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            try:
                connection.sendall(b"\r\n")
                if b"408" in connection.recv(65_536):
                    return
            except TimeoutError:
                pass
    raise AssertionError("the connection stayed open")


def test_a_connection_serves_one_request_after_another_for_longer_than_one_may_take(
    quick: Server,
) -> None:
    with connect(quick) as connection:
        ends = time.monotonic() + 1.2
        while time.monotonic() < ends:
            connection.sendall(GET)
            time.sleep(0.05)
            connection.sendall(b"\r\n")
            assert b"200 OK" in connection.recv(65_536)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(GET + b"x-long: " + b"x" * protocol.HEAD + b"\r\n\r\n", "431", id="a header"),
        pytest.param(GET + b"x-endless: " + b"x" * 500_000, "431", id="an endless header"),
        pytest.param(GET + b"a: b\r\n" * 101 + b"\r\n", "431", id="many headers"),
        pytest.param(b"GET /" + b"x" * 500_000, "431", id="an endless path"),
        pytest.param(
            POST + b"transfer-encoding: chunked\r\n\r\n0\r\nx-trailer: " + b"x" * 1_500_000,
            "413",
            id="an endless trailer",
        ),
        pytest.param(b"\x16\x03\x01 not HTTP\r\n\r\n", "400", id="not HTTP"),
    ],
)
def test_what_is_too_long_is_refused(server: Server, sent: bytes, status: str) -> None:
    with connect(server) as connection:
        # Refused while it is being sent, its answer may be lost.
        with suppress(ConnectionError):
            connection.sendall(sent)
        assert answer(connection)[9:12] in (status, "")
    assert server.post({"status": "sent"}).status_code == 204


def test_a_head_at_the_limit_is_read(server: Server) -> None:
    padding = {"x-pad": "x" * (protocol.HEAD - 1_000)}
    assert server.post({"status": "sent"}, **padding).status_code == 204


def test_requests_do_not_pile_up_on_a_connection(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall((GET + b"\r\n") * 200)
        got = b""
        try:
            while part := connection.recv(65_536):
                got += part
        except ConnectionResetError:
            pass
    assert got.count(b"200 OK") <= 9


def test_over_the_limit_a_connection_is_answered_503(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
    silent = [connect(server) for _ in range(3)]
    for one in silent:
        one.sendall(GET)
    time.sleep(0.1)
    with connect(server) as connection:
        got = connection.recv(65_536)
    assert got.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 5" in got
    for one in silent:
        one.sendall(b"\r\n")
        assert b"200 OK" in one.recv(65_536)
        one.close()


def test_at_the_limit_an_idle_connection_gives_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
    idle = [connect(server) for _ in range(3)]
    for one in idle:
        one.sendall(GET + b"\r\n")
        assert b"200 OK" in one.recv(65_536)
    with connect(server) as connection:
        connection.sendall(GET + b"\r\n")
        assert b"200 OK" in connection.recv(65_536)
    idle[0].settimeout(2)  # less than the five seconds after which any idle one is closed
    assert idle[0].recv(65_536) == b"", "it was not the longest idle one that gave way"
    for one in idle:
        one.close()
