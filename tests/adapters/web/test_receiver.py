"""The receiver over real HTTP: what is refused, what is stored, and what is acknowledged."""

import hashlib
import hmac
import json
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import Connection, insert, select

from adapters.gateways.base import Callback, CallbackError, Inbound, Report, Status
from adapters.web import receiver
from adapters.web.app import create_app
from data import database as database_module
from data import deliveries
from data.database import engine, reading, writing
from data.tables import DeliveryEvent, InboundMessage, Message

KEY = b"gateway-secret"
PUBLIC = "https://sms.example.com/hooks"
NUMBER = "+14155550123"


class SignedGateway:
    """A gateway that signs method, address and body, and speaks JSON."""

    def verify(self, callback: Callback) -> bool:
        signed = hmac.new(KEY, callback.url.encode() + callback.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(signed, callback.headers.get("x-signature", ""))

    def parse(self, callback: Callback) -> tuple[list[Report], list[Inbound]]:
        told = json.loads(callback.body or b"{}")
        if "text" in told:
            return [], [Inbound("MO1", NUMBER, "+15005550006", told["text"])]
        if "status" not in told:
            raise CallbackError("no status: is this the address of another gateway?")
        reference = told.get("ref")
        return [Report(Status(told["status"]), reference, "SM1", NUMBER)], []


class Server:
    """The application, served on loopback by a thread."""

    def __init__(self, on_inbound: receiver.OnInbound | None = None) -> None:
        gateway = SignedGateway()
        app = create_app(
            lambda name: gateway if name == "main" else None,  # type: ignore[arg-type,return-value]
            public_url=PUBLIC + "/",
            on_inbound=on_inbound,
        )
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self._server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self.socket]}, daemon=True
        )
        self._thread.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.address[1]}", timeout=20)
        while not self._server.started:
            time.sleep(0.01)

    def post(
        self, body: Any, path: str = "/gateways/main/reports", **headers: str
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        signature = hmac.new(KEY, (PUBLIC + path).encode() + content, hashlib.sha256).hexdigest()
        return self.client.post(path, content=content, headers={"x-signature": signature} | headers)

    def stop(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(on_inbound: receiver.OnInbound | None = None) -> Server:
        servers.append(Server(on_inbound))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def server(sqlite: str, serve: Callable[..., Server]) -> Server:
    return serve()


def events() -> list[Any]:
    with reading() as connection:
        table = DeliveryEvent.__table__  # type: ignore[attr-defined]
        return list(connection.execute(select(table).order_by(table.c.id)))


def replies() -> list[Any]:
    with reading() as connection:
        return list(connection.execute(select(InboundMessage.__table__)))  # type: ignore[attr-defined]


def test_a_signed_report_is_stored_before_the_reply(
    database: str, serve: Callable[..., Server]
) -> None:
    body = {"status": "delivered", "ref": "m1"}
    path = "/gateways/main/reports?ref=a%2Fb&x="
    assert serve().post(body, path).status_code == 204
    (stored,) = events()
    assert (stored.gateway, stored.source, stored.reference) == ("main", "callback", "m1")
    assert (stored.status, stored.gateway_message_id, stored.recipient) == (
        "delivered",
        "SM1",
        NUMBER,
    )
    assert json.loads(stored.raw) == body
    assert stored.message_id is None


@pytest.mark.parametrize("signature", ["", "0" * 64, "é"])
def test_an_unsigned_report_is_refused(server: Server, signature: str) -> None:
    reply = server.post({"status": "delivered"}, **{"x-signature": signature.encode()})
    assert (reply.status_code, list(reply.json())) == (403, ["error"])
    assert events() == []


def test_a_signature_for_another_address_is_refused(server: Server) -> None:
    signed = server.post({"status": "sent"}).request
    reply = server.client.post(
        "/gateways/main/reports?ref=other", content=signed.content, headers=signed.headers
    )
    assert reply.status_code == 403


@pytest.mark.parametrize("body", [b"{}", b"not json", b"\xff\xfe", b'{"status": "odd"}', b"[1]"])
def test_a_signed_body_that_cannot_be_read_is_refused(server: Server, body: bytes) -> None:
    assert server.post(body).status_code == 400
    assert events() == []


@pytest.mark.parametrize("path", ["/gateways/other/reports", "/gateways/main/other", "/docs"])
def test_unknown_addresses_are_not_found(server: Server, path: str) -> None:
    assert server.post({"status": "sent"}, path).status_code == 404


def test_a_replayed_report_is_stored_again(server: Server) -> None:
    for _ in range(2):
        assert server.post({"status": "sent", "ref": "m1"}).status_code == 204
    assert len(events()) == 2


def test_a_report_may_come_by_get(server: Server) -> None:
    url = f"{PUBLIC}/gateways/main/reports?a=1"
    signature = hmac.new(KEY, url.encode(), hashlib.sha256).hexdigest()
    reply = server.client.get("/gateways/main/reports?a=1", headers={"x-signature": signature})
    assert reply.status_code == 400  # signed, and without a status
    assert "no status" in reply.json()["error"]


@pytest.mark.parametrize("framing", ["content-length: 10485760", "transfer-encoding: chunked"])
def test_a_10_mb_body_is_refused_before_it_is_sent(server: Server, framing: str) -> None:
    with socket.create_connection(server.address, timeout=10) as connection:
        head = f"POST /gateways/main/reports HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n"
        connection.sendall(head.encode())
        if "chunked" in framing:
            connection.sendall(b"A00000\r\n" + b"x" * (receiver.MAX_BODY + 1))
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_at_the_limit_is_read(server: Server) -> None:
    body = json.dumps({"status": "sent", "pad": ""})
    body = body.replace('""', f'"{"x" * (receiver.MAX_BODY - len(body))}"')
    assert len(body) == receiver.MAX_BODY
    assert server.post(body.encode()).status_code == 204
    assert server.post(body.encode() + b" ").status_code == 413


@pytest.mark.parametrize("text", ["nul \0 inside", "lone \ud800 surrogate", "👋 مرحبا"])
def test_any_text_can_be_stored(database: str, serve: Callable[..., Server], text: str) -> None:
    reply = serve().post({"text": text}, "/gateways/main/inbound")
    assert reply.status_code == 200
    assert reply.text.endswith("<Response/>")
    (stored,) = replies()
    assert stored.text == text.replace("\0", "\ufffd").replace("\ud800", "?")


def test_the_policy_for_replies_runs_in_the_same_transaction(
    sqlite: str, serve: Callable[..., Server]
) -> None:
    def on_inbound(connection: Connection, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            message["kind"] = "opt_out"
        deliveries.append(connection, [report_of("policy")])

    assert serve(on_inbound).post({"text": "STOP"}, "/gateways/main/inbound").status_code == 200
    assert [reply.kind for reply in replies()] == ["opt_out"]
    assert [event.gateway for event in events()] == ["policy"]


def test_a_reply_that_the_policy_cannot_take_does_not_take_others_along(
    sqlite: str, serve: Callable[..., Server]
) -> None:
    def on_inbound(connection: Connection, messages: list[dict[str, Any]]) -> None:
        deliveries.append(connection, [report_of("policy")])
        if any(message["text"] == "bad" for message in messages):
            raise RuntimeError(NUMBER)

    server = serve(on_inbound)
    bodies = [({"text": "bad"}, "/gateways/main/inbound")] + [
        ({"status": "sent"}, "/gateways/main/reports")
    ] * 8
    with ThreadPoolExecutor(9) as pool:
        codes = list(pool.map(lambda sent: server.post(*sent).status_code, bodies))
    assert codes == [503] + [204] * 8
    assert [event.gateway for event in events()] == ["main"] * 8


def report_of(gateway: str) -> dict[str, Any]:
    at = datetime.now(UTC)
    return {"gateway": gateway, "source": "callback", "status": "sent", "received_at": at}


def test_a_locked_database_is_answered_503_and_then_works_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Server], request: Any
) -> None:
    monkeypatch.setattr(database_module, "_BUSY_SECONDS", 0.2)
    request.getfixturevalue("sqlite")
    server = serve()
    holder = sqlite3.connect(str(engine().url.database), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    reply = server.post({"status": "sent"})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert server.client.get("/health").status_code == 200
    holder.execute("ROLLBACK")
    holder.close()
    assert events() == []
    assert server.post({"status": "sent"}).status_code == 204
    assert len(events()) == 1


def test_a_full_queue_is_answered_503(
    sqlite: str, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Server]
) -> None:
    monkeypatch.setattr(receiver, "_WAITING", 1)
    monkeypatch.setattr(receiver, "_GROUP", 1)
    server = serve()
    with ThreadPoolExecutor(6) as pool:
        with writing():
            sent = [pool.submit(server.post, {"status": "sent"}) for _ in range(6)]
            while sum(reply.done() for reply in sent) < 4:
                time.sleep(0.01)
            assert {reply.result().status_code for reply in sent if reply.done()} == {503}
        codes = [reply.result().status_code for reply in sent]
    assert 1 <= codes.count(204) == len(events()) <= 2


def test_everything_acknowledged_to_many_clients_is_stored(server: Server) -> None:
    with ThreadPoolExecutor(16) as pool:
        sent = [{"status": "sent", "ref": f"m{number}"} for number in range(200)]
        assert {reply.status_code for reply in pool.map(server.post, sent)} == {204}
    assert {event.reference for event in events()} == {f"m{number}" for number in range(200)}


def test_a_report_before_the_answer_settles_the_message(server: Server) -> None:
    assert server.post({"status": "delivered", "ref": "m1"}).status_code == 204
    at = datetime.now(UTC)
    with writing() as connection:
        connection.execute(
            insert(Message),
            [
                {
                    "id": "m1",
                    "run_id": "run",
                    "kind": "campaign",
                    "request_key": NUMBER,
                    "batch": 0,
                    "recipient": NUMBER,
                    "number_key": "key",
                    "zones": "",
                    "text": "Hello",
                    "encoding": "GSM-7",
                    "segments": 1,
                    "sender": "+15005550006",
                    "gateway": "main",
                    "state": "sending",
                    "reason": "",
                    "rule": "",
                    "attempt": 1,
                    "status_rank": 0,
                    "conflict": False,
                }
            ],
        )
        assert deliveries.match(connection, since=at - timedelta(days=1)).matched == 1
        deliveries.apply(connection)
        table = Message.__table__  # type: ignore[attr-defined]
        found = connection.execute(select(table)).one()
    assert (found.state, found.status, found.gateway_message_id) == ("accepted", "delivered", "SM1")


def test_logs_hold_no_number_and_no_body(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "adapters")
    server.post({"status": "sent", "to": NUMBER}, **{"x-signature": "wrong"})
    server.post({"status": NUMBER})
    server.post({"status": "sent", "to": NUMBER})
    assert "signature" in caplog.text
    assert NUMBER[1:] not in caplog.text
