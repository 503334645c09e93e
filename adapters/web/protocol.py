"""HTTP as uvicorn speaks it, with limits on what one connection may take: time, bytes, requests.

uvicorn has no such limits: measured with 0.54, a byte a second keeps a connection open for ever,
and a header of 200 MB is kept whole. Not here: what is said on a connection (`receiver`), and how
often a caller may call (`limits`).
"""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SECONDS = 10.0
"""For a request to be whole, from its first byte; of the first, from the connection."""
HEAD = 16_384
"""Bytes of a request's first line and headers."""
HEADERS = 100
REQUEST = 1_048_576
"""Bytes of a request with what frames it: chunks of a byte each, and trailers after the body."""
CONNECTIONS = 800
"""Open connections; a process may usually have 1,024 files open."""
RETRY_AFTER = 5  # seconds

_PIPELINED = 8  # requests that wait for others on their connection; gateways send one at a time


class LimitedProtocol(HttpToolsProtocol):
    """A connection that is closed when it takes too much.

    At the limit of connections, a new one takes the place of the one that has been idle longest,
    or is answered 503.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._taken = 0  # bytes of the request that is not whole yet
        self._in_head, self._whole = True, False
        self._deadline: asyncio.TimerHandle | None = None
        self._set_deadline()
        if len(self.connections) > CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and time them only where they do not make a request whole."""
        self._taken += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._taken > (HEAD if self._in_head else REQUEST):
            self._refuse(431 if self._in_head else 413)
        elif self._whole and self.cycle is not None and not self.cycle.response_complete:
            self._clear_deadline()
        elif self._deadline is None:
            self._set_deadline()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if len(self.pipeline) >= _PIPELINED:
            raise OverflowError("too many requests wait on this connection")
        self._in_head, self._whole = True, False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is too long already."""
        if len(self.headers) > HEADERS or (self._taken > HEAD and self._head_size() > HEAD):
            self._refuse(431)
            raise OverflowError("the head of a request is too long")
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._in_head, self._whole, self._taken = True, True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read, unless it has been answered."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(SECONDS, self._too_slow)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._taken and not self.transport.is_closing():
            self._refuse(408)
        self.transport.close()

    def _make_room(self) -> None:
        timers = {
            other: other.timeout_keep_alive_task
            for other in self.connections
            if isinstance(other, LimitedProtocol)
            and other.timeout_keep_alive_task is not None
            and not other.transport.is_closing()
        }
        if timers:
            min(timers, key=lambda other: timers[other].when()).transport.close()
        else:
            self._refuse(503)

    def _refuse(self, status: int) -> None:
        """Answer without the application, and close."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "connection: close"]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append(f"retry-after: {RETRY_AFTER}")
        # Not into the middle of another answer.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write("\r\n".join((*lines, "content-length: 0", "", "")).encode())
        self.transport.close()
