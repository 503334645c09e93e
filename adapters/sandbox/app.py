"""The sandbox as a server: which dialect a request is in, submissions, ordered faults.

Raw ASGI, because it shares two cores with the system under test. Not here: the wire formats (one
file each, dialects.py lists them), reports (reports.py), what goes wrong (faults.py), control.py.
"""

import asyncio
import gc
import shlex
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.sandbox.control import Control
from adapters.sandbox.dialect import Dialect, Refused, Reply, Request, Submission
from adapters.sandbox.dialects import all_dialects
from adapters.sandbox.faults import NOTHING, Faults, Ordered, Outcomes, Rule, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.reports import Reporter

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BODY_LIMIT = 4 * 1024 * 1024
"""Room for a thousand long messages in one request; a dialect may allow less."""
_PLACES_KEPT = 1000
_TRANSPORT = "sandbox.transport"


class _Protocol(HttpToolsProtocol):
    """Lets the app break the connection: ASGI has no word for that."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: self.transport}  # type: ignore[dict-item]


class Sandbox:
    """The ASGI app. One process, one journal, one account at each gateway."""

    def __init__(self, journal: Path, dialects: Sequence[Dialect], outcomes: Outcomes) -> None:
        self.dialects = {dialect.kind: dialect for dialect in dialects}
        self.journal = Journal(journal)
        self.outcomes = outcomes
        self.faults = Faults()
        self.reporter = Reporter(self.journal, outcomes, self.dialects)
        self.control = Control(self.journal, outcomes, self.faults, self.reporter, self.dialects)
        self._seen = {kind: self.journal.of(kind) for kind in self.dialects}
        self._submitted: dict[tuple[str, str], Dialect] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = await _read(receive)
        if scope["path"].startswith("/_"):
            await self._control(scope, body or b"", send)
            return
        request = _request(scope, body or b"")
        dialect, place = self._place(request)
        if dialect is None:
            nobody = {"error": f"no gateway here has {request.method} {request.path}"}
            await _answer(send, Reply(404, nobody))
        elif body is None:
            await _answer(send, dialect.failure(413, None))
        elif (denied := dialect.login(request)) is not None:
            await _answer(send, denied)
        elif place == "submission":
            self.control.requests += 1
            await self._submit(dialect, request, scope, receive, send)
        else:
            await self._look_up(dialect, request, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.reporter.start()
        gc.freeze()  # what every dialect imported is there to stay
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.reporter.stop()
        self.journal.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _place(self, request: Request) -> tuple[Dialect | None, str]:
        at = request.method, request.path
        if (known := self._submitted.get(at)) is not None:
            return known, "submission"
        for dialect in self.dialects.values():
            place = dialect.place(request)
            if place == "submission" and len(self._submitted) < _PLACES_KEPT:
                self._submitted[at] = dialect
            if place is not None:
                return dialect, place
        return None, ""

    async def _submit(
        self, dialect: Dialect, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        asked = dialect.read(request)
        if isinstance(asked, Reply):
            await _answer(send, asked)
            return
        ordered = NOTHING
        if self.faults.rules:
            ordered = self.faults.draw([submission.to for submission in asked])
        ending = ordered.ending
        entries: list[Message | Refused] = []
        if ending is None or ending.accepted:
            entries = self._accept(dialect, asked, ordered)
            if not any(isinstance(entry, Message) for entry in entries):
                ending = None
            await self._report(entries, ordered)
        if ordered.wait:
            await asyncio.sleep(ordered.wait)
        if ending is not None:
            await _end(ending, dialect, scope, receive, send)
        else:
            await _answer(send, dialect.answer(request, entries))

    def _accept(
        self, dialect: Dialect, asked: Sequence[Submission], ordered: Ordered
    ) -> list[Message | Refused]:
        """Write down what is taken of a request; what becomes of each message, in order."""
        entries: list[Message | Refused] = []
        accepted: list[Message] = []
        seen, now, taken = self._seen[dialect.kind], time.time(), set[str]()
        for place, submission in enumerate(asked):
            to, sid = submission.to, submission.id
            why = ordered.refused.get(place) or self.outcomes.refusal(to)
            if sid and (sid in taken or seen.find(sid) is not None):
                why = Why.DUPLICATE
            if why is not None:
                entries.append(Refused(submission, why))
                continue
            taken.add(sid)
            message = Message(
                sid or dialect.new_id(),
                to,
                submission.sender,
                submission.body,
                submission.reference,
                now,
                dialect.kind,
                submission.callback,
                submission.batch,
                submission.extra,
                "before_answer" in ordered.reports.get(place, ()),
            )
            entries.append(message)
            accepted.append(message)
        if accepted:
            self.journal.accept(accepted)
        return entries

    async def _report(self, entries: Sequence[Message | Refused], ordered: Ordered) -> None:
        """Arrange the reports; those that are to come before the answer are through after this."""
        early = []
        for place, entry in enumerate(entries):
            if isinstance(entry, Refused):
                continue
            rules = ordered.reports.get(place, {})
            if entry.hastened:
                early.append(self.reporter.report_now(entry, rules))
            else:
                self.reporter.schedule(entry, rules)
        if early:
            await asyncio.gather(*early)

    async def _control(self, scope: Scope, body: bytes, send: Send) -> None:
        client = scope.get("client")
        if not client or not ip_address(client[0]).is_loopback:
            elsewhere = {"error": "the control addresses answer on loopback only"}
            await _answer(send, Reply(403, elsewhere))
            return
        query = scope["query_string"].decode("latin-1")
        path: str = scope["path"]
        status, content = await self.control.answer(scope["method"], path, query, body)
        await _answer(send, Reply(status, content))

    async def _look_up(self, dialect: Dialect, request: Request, send: Send) -> None:
        ordered = self.faults.draw_look_up()
        if ordered is not None:
            await _answer(send, _as_ordered(ordered, dialect))
            return
        seen = self._seen[dialect.kind]
        await _answer(send, dialect.look_up(request, seen, self.outcomes, time.time()))


def _request(scope: Scope, body: bytes) -> Request:
    query = scope["query_string"].decode("latin-1")
    return Request(
        scope["method"],
        scope["path"],
        dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body,
        query,
    )


async def _read(receive: Receive) -> bytes | None:
    """Return the body; None for one that is too large or breaks off.

    A large one is read to its end all the same: a client that is cut off while it writes may
    never see the answer.
    """
    chunks, size, more = [], 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        size += len(event["body"])
        if size <= _BODY_LIMIT:
            chunks.append(event["body"])
        more = event["more_body"]
    return b"".join(chunks) if size <= _BODY_LIMIT else None


async def _answer(send: Send, reply: Reply) -> None:
    content = reply.content
    if isinstance(content, str):
        body, kind = content.encode(), b"text/plain; charset=utf-8"
    else:
        body, kind = orjson.dumps(content), b"application/json"
    headers = {b"content-type": kind, b"content-length": b"%d" % len(body)}
    for name, value in reply.headers.items():
        headers[name.lower().encode()] = value.encode()
    await send({"type": "http.response.start", "status": reply.status, "headers": headers.items()})
    await send({"type": "http.response.body", "body": body})


def _as_ordered(rule: Rule, dialect: Dialect) -> Reply:
    """Return the answer that a rule orders, in the gateway's own words where it has none."""
    reply = dialect.failure(rule.code if rule.why is None else 0, rule.why)
    if rule.body is not None:
        reply = Reply(rule.code, rule.body)
    if rule.retry_after is None:
        return reply
    headers = {**reply.headers, "retry-after": f"{rule.retry_after:g}"}
    return Reply(reply.status, reply.content, headers)


async def _end(rule: Rule, dialect: Dialect, scope: Scope, receive: Receive, send: Send) -> None:
    """End a request as ordered: with an answer, or with a connection that is reset or closed."""
    if rule.kind in ("status", "refuse"):
        await _answer(send, _as_ordered(rule, dialect))
        return
    transport = scope["extensions"][_TRANSPORT]
    if rule.kind == "reset":
        # Lingering for no time makes the kernel send RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


def create_app(
    journal: Path,
    *,
    account_sid: str,
    auth_token: str,
    outcomes: Literal["realistic", "delivered"] = "realistic",
    report_delay: tuple[float, float] = (0.2, 2.0),
) -> Sandbox:
    """Return the sandbox as an ASGI app.

    `auth_token` is the secret at every gateway, and `account_sid` the account at Twilio.
    `report_delay` is the shortest and longest time to a final status, in seconds. Resets and
    closes need the protocol that `serve` sets.
    """
    dialects = all_dialects(auth_token, account_sid)
    return Sandbox(journal, dialects, Outcomes(outcomes, report_delay))


def serve(
    port: int,
    *,
    journal: Path,
    account_sid: str,
    auth_token: str,
    host: str = "127.0.0.1",
    outcomes: Literal["realistic", "delivered"] = "realistic",
    report_delay: tuple[float, float] = (0.2, 2.0),
) -> None:
    """Serve until the process is told to stop."""
    app = create_app(
        journal,
        account_sid=account_sid,
        auth_token=auth_token,
        outcomes=outcomes,
        report_delay=report_delay,
    )
    run(app, port, host)


def run(app: Sandbox, port: int, host: str = "127.0.0.1") -> None:
    """Serve an app that was made before."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )


def describe(port: int, account_sid: str, auth_token: str) -> str:
    """Return the lines to print at a start: the address, and how to add each kind of gateway."""
    address = f"http://127.0.0.1:{port}"
    lines = [f"Sandbox gateway at {address}. Add it as a gateway of any kind:"]
    for dialect in all_dialects(auth_token, account_sid):
        fields = dialect.settings(address).items()
        sets = " ".join(f"--set {shlex.quote(f'{name}={value}')}" for name, value in fields)
        lines.append(f"  sms gateway add sandbox {dialect.kind} {sets}")
    return "\n".join(lines)
