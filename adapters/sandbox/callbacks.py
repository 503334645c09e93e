"""The HTTP client that calls back: POST on kept-alive connections, and nothing more.

Written out because every accepted message costs two callbacks, and the sandbox shares its cores
with the system under test: half the CPU of aiohttp. Not here: what is posted, and retries.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import cast
from urllib.parse import SplitResult, urlsplit

import httptools

_TIMEOUT = 15
"""Seconds for one callback, as Twilio's."""


class Callbacks:
    """Posts forms. Connections are kept for the next post to the same host."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], list[_Connection]] = defaultdict(list)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the answer.

        Raises OSError (TimeoutError among them) where there was none. The address is sent letter
        by letter as given, because it is signed.
        """
        parts = urlsplit(url)
        head = [
            f"POST {_target(parts)} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}",
            "Content-Type: application/x-www-form-urlencoded; charset=UTF-8",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        request = "\r\n".join((*head, "", "")).encode() + body
        idle = self._idle[parts.scheme, parts.netloc]
        connection = None
        async with asyncio.timeout(_TIMEOUT):
            while idle and (connection is None or connection.closed):
                connection = idle.pop()
            if connection is None or connection.closed:
                connection = await _connect(parts)
            try:
                status = await connection.request(request)
            except BaseException:
                connection.close()
                raise
        if not connection.closed:
            idle.append(connection)
        return status

    def close(self) -> None:
        """Close every idle connection."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because the transport of uvloop is not a subclass.
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    async def request(self, data: bytes) -> int:
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            self._fail(ConnectionError(f"the answer is not HTTP: {problem}"))
            self.close()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and not self._answer.done():
            self._answer.set_result(status)
            if not self._parser.should_keep_alive():
                self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._fail(ConnectionError("the connection was closed before the answer"))

    def close(self) -> None:
        self.closed = True
        self._transport.close()

    def _fail(self, problem: Exception) -> None:
        answer = getattr(self, "_answer", None)
        if answer is not None and not answer.done():
            answer.set_exception(problem)


async def _connect(parts: SplitResult) -> _Connection:
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(_Connection, host, port, ssl=secure or None)
    except UnicodeError as problem:
        raise ConnectionError("the host name cannot exist") from problem
    return connection


def _target(parts: SplitResult) -> str:
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
