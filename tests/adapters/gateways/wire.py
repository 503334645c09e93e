"""A raw HTTP server on loopback that answers as told, or fails as told, and counts what it got."""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """A request as it was on the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return _first(urlsplit(self.target).query)

    @property
    def form(self) -> dict[str, str]:
        return _first(self.body.decode("ascii"))


def _first(pairs: str) -> dict[str, str]:
    found = parse_qs(pairs, keep_blank_values=True, strict_parsing=bool(pairs), errors="strict")
    return {name: values[0] for name, values in found.items()}


@dataclass(frozen=True)
class Respond:
    """Answer, after `delay` seconds."""

    status: int = 200
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0

    def bytes(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"content-length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Raw:
    """Write these bytes and close."""

    data: bytes


class Reset:
    """Read the request, then reset the connection."""


class Drop:
    """Read the request, then close the connection in good order, with nothing said."""


Reaction = Respond | Raw | Reset | Drop


class Wire:
    """The server. `script` is a list of reactions, of which the last stays, or a function."""

    def __init__(self) -> None:
        self.script: list[Reaction] | Callable[[Request], Reaction] = [Respond()]
        self.close_before_reading = False
        self.requests: list[Request] = []
        self.connections = 0
        self.most_at_once = 0
        self._now = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            if self.close_before_reading:
                _reset(writer)
                return
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader)
        self.requests.append(request)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            reaction = self._next(request)
            if isinstance(reaction, Reset):
                _reset(writer)
                return False
            if isinstance(reaction, Drop):
                return False
            if isinstance(reaction, Raw):
                writer.write(reaction.data)
                await writer.drain()
                return False
            await asyncio.sleep(reaction.delay)
            writer.write(reaction.bytes())
            await writer.drain()
            return True
        finally:
            self._now -= 1

    def _next(self, request: Request) -> Reaction:
        if callable(self.script):
            return self.script(request)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body)


def _reset(writer: asyncio.StreamWriter) -> None:
    # Lingering for 0 seconds turns the close into a TCP reset.
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
