"""An SMSC on loopback that answers as told, or fails as told, and keeps what it got."""

import asyncio
import itertools
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import smpp34

HEADER = struct.Struct(">IIII")
BIND_RECEIVER, BIND_TRANSMITTER, SUBMIT_SM, DELIVER_SM, UNBIND = 0x01, 0x02, 0x04, 0x05, 0x06
ENQUIRE_LINK, RESPONSE = 0x15, 0x8000_0000


@dataclass(frozen=True)
class Answer:
    """Answer a submit_sm, after `delay` seconds."""

    status: int = 0
    message_id: str | None = None
    """None: the next number."""
    delay: float = 0
    command: int = SUBMIT_SM | RESPONSE


class Reset:
    """Read the submit_sm, then reset the connection."""


class Silence:
    """Read the submit_sm, and say nothing."""


class Leave:
    """Unbind, and close, instead of an answer."""


Reaction = Answer | Reset | Silence | Leave


class Smsc:
    """The server. `script` is a list of reactions to submit_sm, of which the last stays."""

    def __init__(self) -> None:
        self.script: list[Reaction] | Callable[[smpp34.SubmitSm], Reaction] = [Answer()]
        self.bind_status = 0
        self.answers_enquiries = True
        self.binds: list[tuple[int, list[bytes]]] = []
        self.submits: list[smpp34.SubmitSm] = []
        self.most_at_once = 0
        self.unbinds = 0
        self.enquiries = 0
        self._now = 0
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._answered: dict[int, asyncio.Future[int]] = {}
        self.bound: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        await self.start(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    async def start(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening and drop every connection."""
        self._server.close()
        self.drop()

    def drop(self) -> None:
        for writer in self.bound:
            reset(writer)
        self.bound = []
        for task in self._tasks:
            task.cancel()

    async def deliver(self, *args: Any, **fields: Any) -> int:
        """Send a deliver_sm by the last bind; return the command_status of the answer."""
        number = 1000 + len(self._answered)
        answer = self._answered[number] = asyncio.get_running_loop().create_future()
        self.bound[-1].write(smpp34.DeliverSm(*args, sequence_number=number, **fields).encode())
        return await asyncio.wait_for(answer, 5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readexactly(16)
                length, command, status, number = HEADER.unpack(head)
                body = await reader.readexactly(length - 16)
                self._take(writer, command, status, number, head + body)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    def _take(
        self, writer: asyncio.StreamWriter, command: int, status: int, number: int, pdu: bytes
    ) -> None:
        if command in {BIND_RECEIVER, BIND_TRANSMITTER}:
            self.binds.append((command, pdu[16:].split(b"\0")[:3]))
            write(writer, command | RESPONSE, self.bind_status, number, b"smsc\0")
            if not self.bind_status:
                self.bound.append(writer)
        elif command == SUBMIT_SM:
            task = asyncio.create_task(self._submit(writer, number, pdu))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif command == DELIVER_SM | RESPONSE:
            self._answered[number].set_result(status)
        elif command == UNBIND:
            self.unbinds += 1
            write(writer, command | RESPONSE, 0, number)
            writer.close()
        elif command == ENQUIRE_LINK:
            self.enquiries += 1
            if self.answers_enquiries:
                write(writer, command | RESPONSE, 0, number)

    async def _submit(self, writer: asyncio.StreamWriter, number: int, pdu: bytes) -> None:
        submitted = smpp34.decode(pdu)
        assert isinstance(submitted, smpp34.SubmitSm)
        self.submits.append(submitted)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        reaction = self._next(submitted)
        if isinstance(reaction, Reset):
            reset(writer)
        elif isinstance(reaction, Leave):
            write(writer, UNBIND, 0, 9)
            writer.close()
        elif isinstance(reaction, Answer):
            await asyncio.sleep(reaction.delay)
            self._now -= 1
            named = reaction.message_id
            told = str(next(self._ids)) if named is None and not reaction.status else named or ""
            write(writer, reaction.command, reaction.status, number, told.encode() + b"\0")

    def _next(self, submitted: smpp34.SubmitSm) -> Reaction:
        if callable(self.script):
            return self.script(submitted)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


def write(
    writer: asyncio.StreamWriter, command: int, status: int, number: int, body: bytes = b""
) -> None:
    writer.write(HEADER.pack(16 + len(body), command, status, number) + body)


def reset(writer: asyncio.StreamWriter) -> None:
    # Lingering for 0 seconds turns the close into a TCP reset.
    if writer.is_closing():
        return
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
