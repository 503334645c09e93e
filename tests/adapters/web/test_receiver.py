"""The receiver over real HTTP: what is refused, what is stored, and what is acknowledged."""

import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from adapters.gateways import make_gateway
from adapters.gateways.base import Timeouts
from adapters.gateways.callbacks import with_token
from adapters.gateways.kannel import KannelSettings
from adapters.web import receiver
from adapters.web.limits import BURST
from data import deliveries
from data.database import writing
from data.errors import SmsError
from data.tables import Message
from tests.adapters.web.serving import KEY, NUMBER, PUBLIC, Server, SignedGateway, events, replies


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


@pytest.mark.parametrize("path", ["/gateways/main/reports", "/gateways/main/inbound"])
def test_a_look_at_an_address_stores_nothing(server: Server, path: str) -> None:
    assert server.client.head(path).status_code == 405
    assert server.client.head("/health").status_code == 200


KANNEL = KannelSettings.model_validate(
    {"username": "u", "password": "p", "callback_token": "a-token-of-our-own-making"}
)
REPLY = "from=%2B14155550123&to=%2B15005550006&text=STOP&charset=UTF-8&id=77"


@pytest.mark.parametrize("route", ["reports", "inbound"])
def test_a_token_is_good_for_one_route_and_is_not_kept(
    sqlite: str, serve: Callable[..., Server], route: str
) -> None:
    gateway = make_gateway("main", KANNEL, receiver_url=PUBLIC, timeouts=Timeouts())
    server = serve(gateways={"main": gateway})
    address = f"{PUBLIC}/gateways/main/" + ("reports?ref=m1" if route == "reports" else "inbound")
    signed = with_token(address, "a-token-of-our-own-making").removeprefix(PUBLIC)
    forged, genuine = "ref=m2&type=2&id=5&answer=", REPLY
    if route == "reports":
        forged, genuine = genuine, "type=1&id=5&answer="
    assert server.client.get(f"{signed}&{forged}").status_code == 400
    assert server.client.get(f"{signed}&{genuine}&{forged}").status_code == 200
    assert [event.reference for event in events()] == (["m1"] if route == "reports" else [])
    assert [reply.text for reply in replies()] == (["STOP"] if route == "inbound" else [])
    [stored] = [*events(), *replies()]
    own = "ref=m1&" if route == "reports" else ""
    assert stored.raw == f"{own}{genuine}&{forged}"


def test_a_reply_that_comes_again_is_stored_and_heard_once(
    database: str, serve: Callable[..., Server]
) -> None:
    heard = []

    def on_inbound(connection: Connection, messages: list[dict[str, Any]]) -> None:
        heard.extend(message["text"] for message in messages)

    server = serve(on_inbound)
    for text in ("START", "STOP", "START"):
        assert server.post({"text": text}, "/gateways/main/inbound").status_code == 200
    assert heard == [reply.text for reply in replies()] == ["START", "STOP"]


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


def test_after_a_burst_of_refused_requests_a_caller_is_not_heard(server: Server) -> None:
    unsigned = {"x-signature": "wrong"}
    burst = [server.post({"status": "sent"}, **unsigned).status_code for _ in range(BURST)]
    assert burst == [403] * BURST
    reply = server.post({"status": "sent"}, **unsigned)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")


def test_a_caller_that_is_not_heard_is_answered_before_its_body(server: Server) -> None:
    for _ in range(BURST):
        server.post({}, **{"x-signature": "wrong"})
    with socket.create_connection(server.address, timeout=10) as connection:
        head = "POST /gateways/main/reports HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 429")


def test_who_has_sent_a_signed_callback_is_always_heard(server: Server) -> None:
    assert server.post({"status": "sent"}).status_code == 204
    for _ in range(2 * BURST):
        assert server.post({"status": "sent"}, **{"x-signature": "wrong"}).status_code == 403
    assert server.post({"status": "sent"}).status_code == 204


def test_behind_a_proxy_on_this_machine_callers_are_told_apart(server: Server) -> None:
    def post(caller: str, **headers: str) -> int:
        sent = server.post({"status": "sent"}, **{"x-forwarded-for": caller}, **headers)
        return sent.status_code

    for _ in range(BURST):
        assert post("192.0.2.1", **{"x-signature": "wrong"}) == 403
    assert post("192.0.2.1") == 429
    assert post("192.0.2.1, 198.51.100.7") == 204, "the last one is whom the proxy saw"


@pytest.mark.parametrize("path", ["/gateways/other/reports", "/gateways/other/inbound"])
def test_refused_names_are_counted_too(server: Server, path: str) -> None:
    codes = [server.post({}, path).status_code for _ in range(BURST + 1)]
    assert codes == [404] * BURST + [429]


def test_unknown_names_are_asked_about_once_for_all_who_wait(
    sqlite: str, serve: Callable[..., Server]
) -> None:
    asked = []
    gateways: dict[str, SignedGateway] = {}

    def refresh() -> None:
        asked.append(threading.current_thread())
        time.sleep(0.5)
        gateways["main"] = SignedGateway()

    server = serve(gateways=gateways, refresh=refresh)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: server.post({"status": "sent"}).status_code, range(8)))
    assert (codes, len(asked)) == ([204] * 8, 1)


@pytest.mark.parametrize(
    "trouble", [pytest.param(0, id="it raises"), pytest.param(1, id="it takes too long")]
)
def test_a_name_that_cannot_be_asked_about_is_to_come_again(
    sqlite: str, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, trouble: float
) -> None:
    monkeypatch.setattr(receiver, "_LOOK", 0.2)

    def refresh() -> None:
        time.sleep(trouble)
        raise SmsError("Prefect does not answer")

    server = serve(gateways={}, refresh=refresh)
    for _ in range(3):
        reply = server.post({"status": "sent"})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")


def test_a_caller_that_leaves_is_no_error(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(server.address, timeout=10) as connection:
        head = "POST /gateways/main/reports HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nxx"
        connection.sendall(head.encode())
    assert server.post({"status": "sent"}).status_code == 204
    assert [record.levelname for record in caplog.records if record.levelno > 20] == []


def test_an_error_nobody_thought_of_tells_its_place_and_no_more(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(self: object, callback: object) -> None:
        raise RuntimeError(f"cannot read {NUMBER}")

    monkeypatch.setattr(SignedGateway, "parse", parse)
    assert server.post({"status": "sent"}).status_code == 500
    assert "RuntimeError at" in caplog.text
    assert "test_receiver.py" in caplog.text
    assert NUMBER[1:] not in caplog.text


def test_logs_hold_no_number_and_no_body(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "adapters")
    server.post({"status": "sent", "to": NUMBER}, **{"x-signature": "wrong"})
    server.post({"status": NUMBER})
    server.post({"status": "sent", "to": NUMBER})
    assert "signature" in caplog.text
    assert NUMBER[1:] not in caplog.text
