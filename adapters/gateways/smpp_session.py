"""One bound connection to an SMSC, and what its end proves (SMPP 3.4, issue 1.2; smpp.org).

Here: binding, requests and their answers, `enquire_link`, and the line between "never written" and
"no clear answer". Not here: what messages and reports look like (`smpp`, `smpp_delivery`), and
repeating anything: nothing is written twice.
"""

import asyncio
import itertools
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from adapters.gateways.base import Timeouts
from adapters.gateways.http import NoAnswerError, NotSentError

BIND_RECEIVER, BIND_TRANSMITTER = 0x01, 0x02
SUBMIT_SM, DELIVER_SM, UNBIND, ENQUIRE_LINK = 0x04, 0x05, 0x06, 0x15
RESPONSE, GENERIC_NACK = 0x8000_0000, 0x8000_0000
"""Set in the id of every response; alone it is the answer to what was no request at all."""
ROK, RINVCMDID, RINVBNDSTS, RX_T_APPN, RX_P_APPN = 0x00, 0x03, 0x04, 0x64, 0x65

ENQUIRE_EVERY = 30.0
"""Seconds without a word from the SMSC after which it is asked whether it is there."""
_GOODBYE = 2.0  # seconds between an unbind and the end of the connection
_HEADER = struct.Struct(">IIII")  # command_length, command_id, command_status, sequence_number
_LARGEST = 70_000  # octets; message_payload may have 64 KiB
_VERSION = 0x34

Deliver = Callable[[bytes], Awaitable[int]]
"""Takes a whole deliver_sm, and returns the command_status to answer it with."""


class BindRefusedError(NotSentError):
    """The SMSC does not take the login, or not now."""

    def __init__(self, told: str, status: int) -> None:
        super().__init__(told)
        self.status = status


@dataclass(frozen=True, slots=True)
class Login:
    """Where an SMSC is, and who we are there."""

    host: str
    port: int
    system_id: str
    password: str = field(repr=False)
    system_type: str = ""
    use_tls: bool = False

    @property
    def address(self) -> str:
        """The SMSC, for people."""
        return f"{self.host}:{self.port}"


class Session:
    """A bound connection; `bind` makes one."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        login: Login,
        timeouts: Timeouts,
        deliver: Deliver | None,
    ) -> None:
        self._takes = True
        self.ended = asyncio.Event()
        self._reader, self._writer = reader, writer
        self._address = login.address
        self._timeouts = timeouts
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._numbers = itertools.count(1)
        # By sequence_number: the command_id that answers it, and who waits.
        self._open: dict[int, tuple[int, asyncio.Future[tuple[int, bytes]]]] = {}
        self._delivering: set[asyncio.Task[None]] = set()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._keep())]

    @classmethod
    async def bind(
        cls, login: Login, command: int, timeouts: Timeouts, deliver: Deliver | None = None
    ) -> Self:
        """Connect and bind. Raises `BindRefusedError` and `NotSentError`."""
        try:
            async with asyncio.timeout(timeouts.connect):
                reader, writer = await asyncio.open_connection(
                    login.host,
                    login.port,
                    ssl=ssl.create_default_context() if login.use_tls else None,
                )
        except (OSError, TimeoutError, ValueError) as error:
            # ValueError: a host that is no name at all, for the look-up or for TLS.
            why = getattr(error, "strerror", None) or type(error).__name__
            raise NotSentError(f"no connection to the SMSC at {login.address}: {why}") from None
        session = cls(reader, writer, login, timeouts, deliver)
        texts = (login.system_id, login.password, login.system_type)
        body = b"".join(text.encode() + b"\0" for text in texts) + bytes([_VERSION, 0, 0, 0])
        try:
            status, _ = await session.request(
                command, body, session._loop.time() + timeouts.connect
            )
            if status != ROK:
                raise BindRefusedError(f"the SMSC at {login.address} refuses the bind", status)
        except NoAnswerError:
            session.end()
            raise NotSentError(f"the SMSC at {login.address} does not answer the bind") from None
        except BaseException:
            session.end()
            raise
        return session

    @property
    def usable(self) -> bool:
        """Whether requests may be written; once False it stays so."""
        return self._takes and not self._writer.transport.is_closing()

    async def request(self, command: int, body: bytes, until: float) -> tuple[int, bytes]:
        """Write a request once; return the command_status and the body of its answer.

        `until` is an instant of the loop's clock. Raises `NotSentError` where nothing was written,
        `NoAnswerError` where it was, and no answer came by then or can come any more, or one that
        says nothing.
        """
        if not self.usable:
            raise NotSentError(f"the bind at the SMSC {self._address} has ended")
        # 0x7FFFFFFF is the highest (5.1.4).
        number = next(self._numbers) % 0x7FFF_FFFF or 0x7FFF_FFFF
        answer: asyncio.Future[tuple[int, bytes]] = self._loop.create_future()
        self._open[number] = command | RESPONSE, answer
        self._write(command, ROK, number, body)
        try:
            async with asyncio.timeout_at(until):
                return await answer
        except TimeoutError:
            raise NoAnswerError(f"the SMSC at {self._address} did not answer in time") from None
        finally:
            # An answer that comes later is nobody's: what is unknown stays unknown.
            self._open.pop(number, None)

    async def close(self) -> None:
        """Unbind, where there is still somebody to tell, and close."""
        with suppress(NotSentError, NoAnswerError):
            await self.request(UNBIND, b"", self._loop.time() + _GOODBYE)
        self.end()

    def end(self) -> None:
        """Close; whoever waits for an answer is told that there will be none."""
        self._takes = False
        self._writer.close()
        for _, answer in self._open.values():
            if not answer.done():
                answer.set_exception(
                    NoAnswerError(f"the connection to the SMSC at {self._address} was lost")
                )
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self.ended.set()

    def _write(self, command: int, status: int, number: int, body: bytes = b"") -> None:
        self._writer.write(_HEADER.pack(16 + len(body), command, status, number) + body)

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(_HEADER.size)
                length, command, status, number = _HEADER.unpack(head)
                if not _HEADER.size <= length <= _LARGEST:
                    break  # no SMPP: where the next PDU begins is unknown
                body = await self._reader.readexactly(length - _HEADER.size)
                self._heard = self._loop.time()
                self._take(command, status, number, head, body)
        except (OSError, EOFError):
            pass  # the connection was lost, as `end` says
        finally:
            self.end()

    def _take(self, command: int, status: int, number: int, head: bytes, body: bytes) -> None:
        if command & RESPONSE:
            self._answered(command, status, number, body)
        elif command == DELIVER_SM and self._deliver is not None:
            # One at a time would mean one commit for each.
            task = asyncio.create_task(self._answer(self._deliver(head + body), number))
            self._delivering.add(task)
            task.add_done_callback(self._delivering.discard)
        elif command in {ENQUIRE_LINK, UNBIND}:
            self._write(command | RESPONSE, ROK, number)
            if command == UNBIND:
                # It takes nothing more, but what it has taken it may still answer.
                self._takes = False
                self._loop.call_later(_GOODBYE, self.end)
        elif command == DELIVER_SM:
            self._write(command | RESPONSE, RINVBNDSTS, number, b"\0")
        else:
            self._write(GENERIC_NACK, RINVCMDID, number)

    def _answered(self, command: int, status: int, number: int, body: bytes) -> None:
        expected, answer = self._open.get(number, (0, None))
        if answer is None or answer.done():
            return
        # A generic_nack is for errors (4.3): one that names none is no acceptance.
        if command == expected or (command == GENERIC_NACK and status != ROK):
            answer.set_result((status, body))
        else:
            told = f"the SMSC at {self._address} answered with 0x{command:08X}, which says nothing"
            answer.set_exception(NoAnswerError(told))

    async def _answer(self, deliver: Awaitable[int], number: int) -> None:
        status = await deliver
        if not self._writer.is_closing():
            self._write(DELIVER_SM | RESPONSE, status, number, b"\0")

    async def _keep(self) -> None:
        """End the session when the SMSC no longer answers, which TCP alone notices after hours."""
        while True:
            await asyncio.sleep(self._heard + ENQUIRE_EVERY - self._loop.time())
            if self._loop.time() - self._heard < ENQUIRE_EVERY:
                continue
            try:
                await self.request(ENQUIRE_LINK, b"", self._loop.time() + self._timeouts.request)
            except (NotSentError, NoAnswerError):
                self.end()
                return
