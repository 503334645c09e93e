"""What the sandbox has accepted: a file of JSON lines, and the same in memory for look-ups.

A line is on disk (in the kernel, past a kill -9; not past a power cut) before the message is
answered. Not here: what becomes of a message (faults.py) and how it looks on the wire (a dialect).
"""

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import orjson

TWILIO = "twilio"
"""The kind that lines without one are of."""


@dataclass(slots=True, eq=False)
class Message:
    """One accepted message."""

    sid: str
    """The gateway's id of it, or the sender's where that is who chooses."""
    to: str
    sender: str
    """Empty where a pool of senders was to choose."""
    body: str
    reference: str
    """The sender's own reference; for Twilio the callback address, which carries it."""
    time: float
    """When it was accepted, in seconds since the epoch."""
    kind: str = TWILIO
    """The dialect that took it."""
    callback: str = ""
    """Where its reports go; empty: nowhere."""
    batch: str = ""
    """The gateway's id of the request, where it gives one."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """What only its dialect needs to know of it."""
    hastened: bool = False
    """Whether it was final as soon as it was accepted."""
    reported: bool = False
    """Whether its last report was handed over or given up."""
    index: int = 0
    previous: "Message | None" = None
    """The message before it to the same number: a list a number would cost more memory."""


class Journal:
    """The messages of one sandbox. Opening it reads back what the file holds.

    A last line cut off by a crash was never answered, and is cut from the file. `of` gives the
    same journal with one dialect's messages in sight.
    """

    def __init__(self, path: Path) -> None:
        self._kind = ""
        self._ordered: list[Message] = []
        self._by_sid: dict[str, Message] = {}
        self._last_to: dict[str, Message] = {}
        self._indexes = _indexes()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, _whole_lines(path))
        for line in _lines(path):
            if "body" in line:
                self._add(_message(line))
            elif line["last"]:
                self._by_sid[line["sid"]].reported = True

    def of(self, kind: str) -> Self:
        """Return this journal as one dialect sees it."""
        seen = copy.copy(self)  # the lists and the file stay shared
        seen._kind, seen._indexes = kind, _indexes()
        return seen

    def accept(self, messages: Sequence[Message]) -> None:
        """Write the messages of one request down, with one write."""
        self._append(b"".join(map(_line, messages)))
        for message in messages:
            self._add(message)

    def record_report(
        self,
        message: Message,
        status: str,
        why: str | None,
        *,
        handed_over: bool,
        last: bool,
        part: int = 0,
    ) -> None:
        """Write down that a report was handed over or given up; `last`: no other is owed."""
        message.reported = message.reported or last
        line: dict[str, object] = {
            "sid": message.sid,
            "status": status,
            "why": why,
            "handed_over": handed_over,
            "last": last,
            "time": time.time(),
        }
        if part:
            line["part"] = part
        self._append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def find(self, sid: str) -> Message | None:
        """Return one message."""
        found = self._by_sid.get(sid)
        return found if found is not None and self._sees(found) else None

    def of_batch(self, batch: str) -> Sequence[Message]:
        """Return the messages of one request, in its order, by the gateway's id of it."""
        return self._indexes[0].find(batch, self._ordered, self._sees)

    def of_reference(self, reference: str) -> Sequence[Message]:
        """Return the messages with this reference of the sender's, the oldest first."""
        return self._indexes[1].find(reference, self._ordered, self._sees)

    def newest_first(
        self, to: str | None = None, after: Message | None = None
    ) -> Iterator[Message]:
        """Yield the messages (to a number), from the newest or from the one past `after`."""
        every = self._every_newest(after) if to is None else self._newest_to(to, after)
        return filter(self._sees, every)

    def _every_newest(self, after: Message | None) -> Iterator[Message]:
        start = len(self._ordered) if after is None else after.index
        for position in range(start - 1, -1, -1):
            yield self._ordered[position]

    def _newest_to(self, to: str, after: Message | None) -> Iterator[Message]:
        message = self._last_to.get(to) if after is None else after.previous
        while message is not None:
            yield message
            message = message.previous

    def _sees(self, message: Message) -> bool:
        return not self._kind or message.kind == self._kind

    def unreported(self) -> Iterator[Message]:
        """Yield the messages whose reports are still owed."""
        return (m for m in self._ordered if m.callback and not m.reported)

    def recipients_with_duplicates(self) -> int:
        """Count the numbers that were sent the same text more than once, by whatever gateway."""
        return sum(
            1 for last in self._last_to.values() if last.previous is not None and _repeats(last)
        )

    def __len__(self) -> int:
        return len(self._ordered)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _add(self, message: Message) -> None:
        message.index = len(self._ordered)
        message.previous = self._last_to.get(message.to)
        self._ordered.append(message)
        self._by_sid[message.sid] = message
        self._last_to[message.to] = message

    def _append(self, data: bytes) -> None:
        if os.write(self._fd, data) != len(data):
            raise OSError("the sandbox journal was written short: its disk is full")


class _Index:
    """Messages by a value that few look-ups ask for: made when asked, and then kept up."""

    def __init__(self, key: Callable[[Message], str]) -> None:
        self._key = key
        self._found: dict[str, list[Message]] = {}
        self._read = 0

    def find(
        self, value: str, ordered: Sequence[Message], sees: Callable[[Message], bool]
    ) -> Sequence[Message]:
        for message in ordered[self._read :]:
            if (key := self._key(message)) and sees(message):
                self._found.setdefault(key, []).append(message)
        self._read = len(ordered)
        return self._found.get(value, ())


def _indexes() -> tuple[_Index, _Index]:
    return _Index(attrgetter("batch")), _Index(attrgetter("reference"))


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the accepted messages in order: `sid, to, from, body, reference, time` (seconds).

    Also `kind`, `callback`, `batch` and `extra`, each where it is not Twilio's or empty.
    """
    return [line for line in _lines(path) if "body" in line]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield orjson.loads(line)


def _whole_lines(path: Path) -> int:
    """Return the size of the file up to the end of its last whole line."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while end:
            start = max(end - 65_536, 0)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def fields(message: Message) -> dict[str, object]:
    """Return a message as its line has it."""
    line: dict[str, object] = {
        "sid": message.sid,
        "to": message.to,
        "from": message.sender,
        "body": message.body,
        "reference": message.reference,
        "time": message.time,
    }
    if message.kind != TWILIO:
        line["kind"] = message.kind
    if message.callback != message.reference:
        line["callback"] = message.callback
    if message.batch:
        line["batch"] = message.batch
    if message.extra:
        line["extra"] = message.extra
    if message.hastened:
        line["hastened"] = True
    return line


def _line(message: Message) -> bytes:
    return orjson.dumps(fields(message), option=orjson.OPT_APPEND_NEWLINE)


def _message(line: dict[str, Any]) -> Message:
    return Message(
        line["sid"],
        line["to"],
        line["from"],
        line["body"],
        line["reference"],
        line["time"],
        line.get("kind", TWILIO),
        line.get("callback", line["reference"]),
        line.get("batch", ""),
        line.get("extra", {}),
        line.get("hastened", False),
    )


def _repeats(message: Message) -> bool:
    bodies = set()
    link: Message | None = message
    while link is not None:
        if link.body in bodies:
            return True
        bodies.add(link.body)
        link = link.previous
    return False
