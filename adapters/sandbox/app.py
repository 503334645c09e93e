"""The sandbox as a server: routes, submissions, ordered faults.

Raw ASGI, because it shares two cores with the system under test. Not here: the wire format
(twilio.py, lookups.py), reports (reports.py), what goes wrong (faults.py) and control.py.
"""

import asyncio
import base64
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.sandbox.control import Control
from adapters.sandbox.faults import Faults, Outcomes, Rule
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.lookups import Lookups
from adapters.sandbox.reports import Reporter
from adapters.sandbox.twilio import API, POOL_SENDER, check_submission, error

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BODY_LIMIT = 256 * 1024
_TRANSPORT = "sandbox.transport"


class _Protocol(HttpToolsProtocol):
    """Lets the app break the connection: ASGI has no word for that."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: self.transport}  # type: ignore[dict-item]


class Sandbox:
    """The ASGI app. One process, one journal, one account."""

    def __init__(
        self, journal: Path, *, account_sid: str, auth_token: str, outcomes: Outcomes
    ) -> None:
        self.journal = Journal(journal)
        self.outcomes = outcomes
        self.faults = Faults()
        self.reporter = Reporter(
            self.journal, outcomes, account_sid=account_sid, auth_token=auth_token
        )
        self.lookups = Lookups(self.journal, outcomes, account_sid)
        self.control = Control(self.journal, outcomes, self.faults, self.reporter, account_sid)
        self._account_sid = account_sid
        login = base64.b64encode(f"{account_sid}:{auth_token}".encode())
        self._authorization = b"Basic " + login
        self._root = f"{API}/{account_sid}"
        self._submissions = f"{self._root}/Messages.json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = await _read(receive)
        path: str = scope["path"]
        if body is None:
            await _answer(send, *error(20001, "The request body is too large", 413))
        elif path.startswith("/_"):
            await self._control(scope, path, body, send)
        elif not self._authorized(scope):
            await _answer(send, *error(20003))
        elif scope["method"] == "POST" and path == self._submissions:
            self.control.requests += 1
            await self._submit(scope, receive, send, body)
        else:
            await self._look_up(scope, path, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.reporter.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.reporter.stop()
        self.journal.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _authorized(self, scope: Scope) -> bool:
        if not scope["path"].startswith(self._root):
            return False
        return (b"authorization", self._authorization) in scope["headers"]

    async def _submit(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        try:
            form = dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
        except ValueError:
            await _answer(send, *error(20001, "The form is not UTF-8"))
            return
        to = form.get("To", "")
        ordered = self.faults.draw(to)
        ending = ordered.ending
        message: Message | None = None
        if ending is None or ending.accepted:
            refusal = check_submission(form)
            code = None if refusal else self.outcomes.refusal(to, form.get("From", ""))
            if refusal or code:
                await _answer(send, *(error(*refusal) if refusal else error(code or 0)))
                return
            message = await self._accept(form, ordered.reports)
        if ordered.wait:
            await asyncio.sleep(ordered.wait)
        if ending is not None:
            await _end(ending, scope, receive, send)
        elif message is not None:
            await _answer(send, 201, self.lookups.show(message, message.time))

    async def _accept(self, form: dict[str, str], reports: dict[str, Rule]) -> Message:
        early = "before_answer" in reports
        message = self.journal.accept(
            to=form["To"],
            sender=form.get("From", ""),
            body=form["Body"],
            reference=form.get("StatusCallback", ""),
            service=form.get("MessagingServiceSid", ""),
            hastened=early,
        )
        if early:
            await self.reporter.report_now(message, reports)
        elif message.reference:
            self.reporter.schedule(message, reports)
        return message

    async def _control(self, scope: Scope, path: str, body: bytes, send: Send) -> None:
        client = scope.get("client")
        if not client or not ip_address(client[0]).is_loopback:
            await _answer(send, 403, {"error": "the control addresses answer on loopback only"})
            return
        query = scope["query_string"].decode("latin-1")
        await _answer(send, *await self.control.answer(scope["method"], path, query, body))

    async def _look_up(self, scope: Scope, path: str, send: Send) -> None:
        ordered = self.faults.draw_look_up()
        if ordered is not None:
            await _answer_as(ordered, send)
        else:
            await _answer(send, *self._found(scope, path))

    def _found(self, scope: Scope, path: str) -> tuple[int, object]:
        if scope["method"] != "GET":
            return error(20004)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        place = path.removeprefix(self._root)
        if place == ".json":
            return self.lookups.account()
        if place == "/Messages.json":
            return self.lookups.messages(query, time.time())
        if place == "/IncomingPhoneNumbers.json":
            return self.lookups.numbers(query)
        if place.startswith("/Messages/") and place.endswith(".json"):
            sid = place.removeprefix("/Messages/").removesuffix(".json")
            return self.lookups.message(sid, time.time())
        return error(20404)


async def _read(receive: Receive) -> bytes | None:
    """Return the body; None for one that is too large or breaks off.

    A large one is read to its end all the same: a client that is cut off while it writes may
    never see the answer.
    """
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        if len(body) <= _BODY_LIMIT:
            body += event["body"]
        more = event["more_body"]
    return body if len(body) <= _BODY_LIMIT else None


async def _answer(
    send: Send, status: int, content: object, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    body = content.encode() if isinstance(content, str) else orjson.dumps(content)
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def _answer_as(rule: Rule, send: Send) -> None:
    """Give the answer that a rule orders."""
    code = {401: 20003, 404: 20404, 429: 20429}.get(rule.code, 20500)
    status, content = error(code, status=rule.code)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if rule.retry_after is not None:
        headers = ((b"retry-after", f"{rule.retry_after:g}".encode()),)
    await _answer(send, status, content if rule.body is None else rule.body, headers)


async def _end(rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
    """End a request as ordered: with a status, or with a connection that is reset or closed."""
    if rule.kind == "status":
        await _answer_as(rule, send)
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

    `report_delay` is the shortest and longest time to a final status, in seconds. Resets and
    closes need the protocol that `serve` sets.
    """
    return Sandbox(
        journal,
        account_sid=account_sid,
        auth_token=auth_token,
        outcomes=Outcomes(outcomes, report_delay),
    )


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
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )


def describe(port: int, account_sid: str, auth_token: str) -> str:
    """Return the lines to print at a start: address, credentials, and how to add the gateway."""
    address = f"http://127.0.0.1:{port}"
    return "\n".join(
        (
            f"Sandbox gateway (Twilio's wire format) at {address}",
            f"  account_sid {account_sid}",
            f"  auth_token  {auth_token}",
            "Add it as a gateway:",
            f"  sms gateway add sandbox twilio --set base_url={address}"
            f" --set account_sid={account_sid} --set auth_token={auth_token}"
            f" --set sender={POOL_SENDER}",
        )
    )
