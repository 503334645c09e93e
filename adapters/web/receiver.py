"""Callbacks from gateways: verify, store, commit, reply. Delivery reports (DLR) and replies (MO).

Nothing is acknowledged that is not stored. Matching reports to messages is not done on this path
(`tasks/reconciliation`), and what a reply means is for the function handed in from above.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapters.gateways.base import Callback, CallbackError, Gateway, Inbound, Report
from data import deliveries
from data.database import DatabaseError, now, writing
from data.errors import SmsError

log = logging.getLogger(__name__)

OnInbound = Callable[[Connection, list[dict[str, Any]]], None]
"""What to make of replies: it may fill the `kind` of each (keys as in `InboundMessage`), and
writes by the connection in whose transaction the replies are stored after it returns."""

MAX_BODY = 65_536  # bytes; a gateway's callback is a few hundred
RETRY_AFTER = 5  # seconds

_GROUP = 500  # events in one commit
_GATHER = 0.010  # seconds that a commit waits for more of them
_WAITING = 10_000  # callbacks in the queue; more are refused
# What an adapter's reading code raises on a body that is not what it looks like.
_UNREADABLE = (CallbackError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
_TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response/>'


@dataclass(slots=True)
class _Entry:
    """One callback on its way into the database."""

    reports: list[dict[str, Any]]
    inbound: list[dict[str, Any]]
    stored: "asyncio.Future[bool]"


class Inbox:
    """Stores callbacks from one thread, many in one commit, and tells each when it is safe."""

    def __init__(self, on_inbound: OnInbound | None = None) -> None:
        self._on_inbound = on_inbound
        self._queue: queue.Queue[_Entry | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread; call it inside the event loop that serves the requests."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="receiver-inbox", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Store what has arrived, and end the thread."""
        if self._thread is not None:
            await asyncio.to_thread(self._queue.put, None)
            await asyncio.to_thread(self._thread.join)

    async def store(
        self, reports: list[dict[str, Any]], inbound: list[dict[str, Any]] | None = None
    ) -> bool:
        """Return whether the events are committed; False: not stored, the caller may try again."""
        entry = _Entry(reports, inbound or [], asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            log.error("receiver: %d callbacks wait for the database; refusing more", _WAITING)
            return False
        return await entry.stored

    def _run(self) -> None:
        while group := self._gather():
            self._tell(group, self._write(group))

    def _gather(self) -> list[_Entry]:
        """Take what arrives within a moment of the first; nothing: the end."""
        group: list[_Entry] = []
        events, until = 0, 0.0
        while events < _GROUP:
            try:
                if not group:
                    entry = self._queue.get()
                    until = time.monotonic() + _GATHER
                else:
                    entry = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if entry is None:
                if group:
                    self._queue.put(None)
                break
            group.append(entry)
            events += len(entry.reports) + len(entry.inbound)
        return group

    def _write(self, group: Sequence[_Entry]) -> list[bool]:
        try:
            self._commit(group)
        except DatabaseError as error:
            log.error("receiver: %d callbacks not stored: %s", len(group), error)
            return [False] * len(group)
        except Exception as error:  # noqa: BLE001 - one bad callback must not take the rest along
            if len(group) > 1:
                return [self._write([entry])[0] for entry in group]
            log.error("receiver: a callback cannot be stored (%s)", type(error).__name__)
            return [False]
        return [True] * len(group)

    def _commit(self, group: Sequence[_Entry]) -> None:
        reports = [report for entry in group for report in entry.reports]
        # Copies: what the policy writes into them must not outlive a rolled-back attempt.
        inbound = [dict(message) for entry in group for message in entry.inbound]
        with writing() as connection:
            deliveries.append(connection, reports)
            if inbound:
                if self._on_inbound is not None:
                    self._on_inbound(connection, inbound)
                deliveries.append_inbound(connection, inbound)

    def _tell(self, group: Sequence[_Entry], stored: Sequence[bool]) -> None:
        def settle() -> None:
            for entry, success in zip(group, stored, strict=True):
                if not entry.stored.done():
                    entry.stored.set_result(success)

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)


@dataclass(frozen=True, slots=True)
class Receiver:
    """The two routes of every gateway."""

    gateways: Callable[[str], Gateway | None]
    public_url: str
    inbox: Inbox
    look_up: Callable[[str], Gateway | None] | None = None
    """Asked in a thread about a name that `gateways` does not know; it may take its time."""

    async def reports(self, request: Request) -> Response:
        """Delivery reports: 204 once they are stored."""
        return await self._receive(request) or Response(status_code=204)

    async def inbound(self, request: Request) -> Response:
        """Replies: 200 with an empty TwiML document once they are stored."""
        return await self._receive(request) or Response(_TWIML, media_type="text/xml")

    async def _receive(self, request: Request) -> Response | None:
        """Store what a callback says; a response only where that did not come about."""
        name = request.path_params["name"]
        try:
            gateway = self.gateways(name)
            if gateway is None and self.look_up is not None:
                gateway = await run_in_threadpool(self.look_up, name)
        except SmsError as error:
            log.error("receiver: gateway %s cannot be used: %s", name, error)
            return _later(f"gateway {name} cannot be used at present")
        if gateway is None:
            return _refuse(404, "no gateway of this name")
        body = await _read(request)
        if body is None:
            return _refuse(413, f"more than {MAX_BODY} bytes", close=True)
        callback = self._callback(request, body)
        if not _verified(gateway, callback):
            log.warning("receiver: gateway %s: a callback without a valid signature", name)
            return _refuse(403, "the signature is missing or wrong")
        try:
            reports, inbound = gateway.parse(callback)
        except _UNREADABLE as error:
            log.warning("receiver: gateway %s: unreadable (%s)", name, type(error).__name__)
            told = str(error) if isinstance(error, CallbackError) else "this cannot be read"
            return _refuse(400, told)
        stored = await self.inbox.store(*_rows(name, callback, reports, inbound))
        return None if stored else _later("not stored; please send it again")

    def _callback(self, request: Request, body: bytes) -> Callback:
        path = request.scope.get("raw_path") or request.scope["path"].encode()
        query = request.scope["query_string"]
        address = path + b"?" + query if query else path
        return Callback(
            method=request.method,
            url=self.public_url + address.decode("latin-1"),
            headers={
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in request.scope["headers"]
            },
            body=body,
        )


def _verified(gateway: Gateway, callback: Callback) -> bool:
    """Whether it is signed; what cannot even be looked at is not."""
    try:
        return gateway.verify(callback)
    except _UNREADABLE:
        return False


async def _read(request: Request) -> bytes | None:
    """Read the body; None as soon as it is known to be too long."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        return None
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _rows(
    gateway: str, callback: Callback, reports: Sequence[Report], inbound: Sequence[Inbound]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events as the tables take them. The raw payload is kept once, with the first of them."""
    at = now()
    raw = _clean(callback.body.decode("utf-8", "replace") or callback.url.partition("?")[2])
    rows = [
        {
            "gateway": gateway,
            "source": "callback",
            "reference": _clean(report.reference),
            "gateway_message_id": _clean(report.gateway_message_id),
            "batch_id": _clean(report.batch_id),
            "recipient": _clean(report.recipient),
            "status": str(report.status),
            "error_code": _clean(report.error_code),
            "error_class": None if report.error_class is None else str(report.error_class),
            "price": report.price,
            "currency": _clean(report.currency),
            "occurred_at": report.occurred_at,
            "received_at": at,
            "raw": raw if place == 0 else "",
        }
        for place, report in enumerate(reports)
    ]
    replies = [
        {
            "gateway": gateway,
            "gateway_message_id": _clean(message.gateway_message_id),
            "sender": _clean(message.sender),
            "recipient": _clean(message.recipient),
            "text": _clean(message.text),
            "kind": "",
            "received_at": at,
            "raw": raw if place == 0 else "",
        }
        for place, message in enumerate(inbound)
    ]
    return rows, replies


def _clean(value: str | None) -> str | None:
    """Replace what no database stores: NUL characters and lone surrogates."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _refuse(status: int, error: str, *, close: bool = False) -> Response:
    # A body that nobody reads must not be taken for the next request on the connection.
    headers = {"connection": "close"} if close else None
    return JSONResponse({"error": error}, status, headers)


def _later(error: str) -> Response:
    return JSONResponse({"error": error}, 503, {"retry-after": str(RETRY_AFTER)})
