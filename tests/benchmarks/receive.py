"""Signed delivery reports stored before the reply: the receiver, beside a commit for each report.

Run as a program it serves both on the port named; the benchmark starts it in a process of its own.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import func, select
from sqlmodel import Session

from adapters.gateways import callbacks
from adapters.gateways.base import Callback, Gateway
from adapters.web import app as web
from data.database import engine, reading
from data.tables import DeliveryEvent
from tests.benchmarks.bench import (
    GATEWAY,
    RECEIVER_URL,
    Figure,
    Report,
    free_port,
    fresh_home,
    gateway,
    timed,
)
from tests.sandboxes import ROOT, SID, TOKEN

CONNECTIONS = 100
ANSWERED = b"HTTP/1.1 204"


def run(reports: int = 15_000, sample: int = 3_000) -> Report:
    """Measure reports a second, each acknowledged with 204 after its commit."""
    with fresh_home(), _serving() as (process, port):

        def measured(way: str, root: str, count: int) -> Figure:
            requests = [signed(root, place) for place in range(count)]
            asyncio.run(_post_all(port, requests[: count // 10]))
            before = _stored()
            with timed(process) as timing:
                asyncio.run(_post_all(port, requests))
            assert _stored() - before == count
            return Figure(way, count, timing)

        ours = measured("receiver", "/gateways", reports)
        plain = measured("FastAPI and the ORM, a commit for each report", "/plain", sample)
    notes = [f"{CONNECTIONS} connections; CPU is the receiver's"]
    return Report("receive", "reports", 1_500, ours, [plain], notes)


def _stored() -> int:
    with reading() as connection:
        return connection.execute(select(func.count()).select_from(DeliveryEvent)).scalar_one()


def signed(root: str, place: int) -> bytes:
    """A status callback as Twilio posts it, whole, ready for the wire."""
    path = f"{root}/{GATEWAY}/reports?ref={place:032x}"
    form = {
        "AccountSid": SID,
        "ApiVersion": "2010-04-01",
        "From": "+15005550006",
        "MessageSid": f"SM{place:032x}",
        "MessageStatus": "delivered",
        "To": f"+1202{2_000_000 + place:07d}",
    }
    to_sign = RECEIVER_URL + path + "".join(name + form[name] for name in sorted(form))
    body = urlencode(form).encode()
    head = [
        f"POST {path} HTTP/1.1",
        "Host: sms.example.com",
        f"X-Twilio-Signature: {callbacks.hmac_base64(TOKEN, to_sign, 'sha1')}",
        "Content-Type: application/x-www-form-urlencoded; charset=UTF-8",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join((*head, "", "")).encode() + body


async def _post_all(port: int, requests: Sequence[bytes]) -> None:
    """Post over kept-alive connections. Bare sockets: the client shares the receiver's cores."""
    waiting = iter(requests)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(ANSWERED), answer
        writer.close()

    await asyncio.gather(*(client() for _ in range(min(CONNECTIONS, len(requests)))))


@contextmanager
def _serving() -> Iterator[tuple[int, int]]:
    """Yield the process number and port of the server."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.receive", str(port)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            _wait_for(port)
            yield process.pid, port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    ends = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)


def add_plain(app: FastAPI, adapter: Gateway) -> None:
    """Add the route that most people write first: correct, and one commit a report."""

    @app.post("/plain/{name}/reports", status_code=204)
    async def reports(name: str, request: Request) -> Response:
        address = f"{RECEIVER_URL}{request.url.path}?{request.url.query}"
        body = await request.body()
        callback = Callback("POST", address, dict(request.headers), body)
        if not adapter.verify(callback):
            raise HTTPException(403)
        (report,), _ = adapter.parse(callback)
        event = DeliveryEvent(
            gateway=name,
            source="callback",
            reference=report.reference,
            gateway_message_id=report.gateway_message_id,
            recipient=report.recipient,
            status=str(report.status),
            received_at=datetime.now(UTC),
            raw=body.decode(),
        )
        await run_in_threadpool(_store, event)
        return Response(status_code=204)


def _store(event: DeliveryEvent) -> None:
    with Session(engine()) as session:
        session.add(event)
        session.commit()


if __name__ == "__main__":
    known = gateway()
    receiver = web.create_app({GATEWAY: known}.get, public_url=RECEIVER_URL)
    add_plain(receiver, known)
    web.serve(receiver, int(sys.argv[1]))
