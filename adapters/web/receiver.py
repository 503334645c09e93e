"""Callbacks from gateways: verify, store, commit, reply. Delivery reports (DLR) and replies (MO).

What is not signed costs as little as possible and is counted against its caller (`limits`). Not
here: how callbacks are stored (`inbox`), and matching them to messages (`tasks/reconciliation`).
"""

import logging
import math
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Literal

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from adapters.gateways import callbacks
from adapters.gateways.base import Callback, CallbackError, Gateway, Inbound, Report
from adapters.web.inbox import Inbox
from adapters.web.limits import Refusals
from adapters.web.protocol import RETRY_AFTER
from adapters.web.shared import Shared
from data.database import now
from data.errors import SmsError

log = logging.getLogger(__name__)

MAX_BODY = 65_536  # bytes; a gateway's callback is a few hundred
_LOOK = 5.0  # seconds that a callback waits for Prefect to say whether there is its gateway
_CLOSES = (404, 413, 429)
_Kind = Literal["report", "reply"]
# What an adapter's reading code raises on a body that is not what it looks like.
_UNREADABLE = (
    CallbackError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class Receiver:
    """The two routes of every gateway.

    `refresh` is called in a thread about a name that `gateways` does not know: it may take its
    time, and raises `SmsError` where it cannot learn what gateways there are.
    """

    def __init__(
        self,
        gateways: Callable[[str], Gateway | None],
        public_url: str,
        inbox: Inbox,
        refresh: Callable[[], None] | None = None,
    ) -> None:
        self._gateways = gateways
        self._public_url = public_url
        self._inbox = inbox
        self._refresh = None if refresh is None else Shared(refresh)
        self._refusals = Refusals()

    async def reports(self, request: Request) -> Response:
        """Delivery reports: 204, or the answer that the gateway wants, once they are stored."""
        return await self._receive(request, "report") or self._reply(request, "report_reply")

    async def inbound(self, request: Request) -> Response:
        """Replies (MO): likewise."""
        return await self._receive(request, "reply") or self._reply(request, "inbound_reply")

    def _reply(self, request: Request, which: str) -> Response:
        gateway = self._gateways(request.path_params["name"])
        body = "" if gateway is None else getattr(gateway.capabilities, which)
        if not body:
            return Response(status_code=204)
        return Response(body, media_type="text/xml" if body.startswith("<") else "text/plain")

    async def _receive(self, request: Request, kind: _Kind) -> Response | None:
        """Hear a caller unless too much of his was refused; a response only where not stored."""
        caller = request.client.host if request.client else ""
        if wait := self._refusals.wait(caller):
            return _refuse(429, "too many refused requests", wait=wait)
        try:
            refusal = await self._take(request, caller, kind)
        except Exception as error:  # noqa: BLE001 - its text may hold what nobody may read
            at = traceback.extract_tb(error.__traceback__)[-1]
            log.error("receiver: %s at %s:%s", type(error).__name__, at.filename, at.lineno)
            return _refuse(500, "this cannot be taken")
        if refusal is not None and refusal.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._refusals.count(caller)
        return refusal

    async def _take(self, request: Request, caller: str, kind: _Kind) -> Response | None:
        """Store what a callback says; a response only where that did not come about."""
        name = request.path_params["name"]
        try:
            gateway = await self._find(name)
        except (SmsError, TimeoutError):
            return _later("this gateway is not known yet; please send it again")
        if gateway is None:
            return _refuse(404, "no gateway of this name")
        body = await _read(request)
        if body is None:
            return _refuse(413, f"more than {MAX_BODY} bytes, or not all of them")
        callback = self._callback(request, body, kind)
        if not _verified(gateway, callback):
            log.warning("receiver: gateway %s: a callback without a valid signature", name)
            return _refuse(403, "the signature is missing or wrong")
        self._refusals.trust(caller)
        try:
            stored_as = rows(name, _payload(callback), *gateway.parse(callback))
        except _UNREADABLE as error:
            log.warning("receiver: gateway %s: unreadable (%s)", name, type(error).__name__)
            told = str(error) if isinstance(error, CallbackError) else "this cannot be read"
            return _refuse(400, told)
        stored = await self._inbox.store(*stored_as)
        return None if stored else _later("not stored; please send it again")

    async def _find(self, name: str) -> Gateway | None:
        gateway = self._gateways(name)
        if gateway is None and self._refresh is not None:
            await self._refresh(_LOOK)
            gateway = self._gateways(name)
        return gateway

    def _callback(self, request: Request, body: bytes, kind: _Kind) -> Callback:
        path = request.scope.get("raw_path") or request.scope["path"].encode()
        query = request.scope["query_string"]
        address = path + b"?" + query if query else path
        return Callback(
            method=request.method,
            url=self._public_url + address.decode("latin-1"),
            headers={
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in request.scope["headers"]
            },
            body=body,
            kind=kind,
        )


def _verified(gateway: Gateway, callback: Callback) -> bool:
    """Whether it is signed; what cannot even be looked at is not."""
    try:
        return gateway.verify(callback)
    except _UNREADABLE:
        return False


async def _read(request: Request) -> bytes | None:
    """Read the body; None as soon as it is known to be too long, or not to come."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        return None
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY:
                return None
            parts.append(part)
    except ClientDisconnect:
        return None
    return b"".join(parts)


def _payload(callback: Callback) -> str:
    if callback.body:
        return callback.body.decode("utf-8", "replace")
    return callbacks.without_token(callback.url.partition("?")[2])


def rows(
    gateway: str, payload: str, reports: Sequence[Report], inbound: Sequence[Inbound]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events as the tables take them. The raw payload is kept once, with the first of them."""
    at = now()
    raw = _clean(payload)
    events = [
        {
            "gateway": gateway,
            "source": "callback",
            "reference": _clean(report.reference),
            "gateway_message_id": _clean(report.gateway_message_id),
            "batch_id": _clean(report.batch_id),
            "submission": _clean(report.submission),
            "part": _clean(report.part),
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
    return events, replies


def _clean(value: str | None) -> str | None:
    """Replace what no database stores: NUL characters and lone surrogates."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _refuse(status: int, error: str, *, wait: float = 0) -> Response:
    headers = {}
    if status in _CLOSES:
        # Nobody reads the body: what is still under way is not worth a connection.
        headers["connection"] = "close"
    if wait:
        headers["retry-after"] = str(math.ceil(wait))
    return JSONResponse({"error": error}, status, headers)


def _later(error: str) -> Response:
    return JSONResponse({"error": error}, 503, {"retry-after": str(RETRY_AFTER)})
