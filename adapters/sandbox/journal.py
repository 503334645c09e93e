"""What the sandbox has accepted: a file of JSON lines, and the same in memory for look-ups.

A line is on disk (in the kernel, past a kill -9; not past a power cut) before the message is
answered. Not here: what becomes of a message (faults.py) and how it looks on the wire (twilio.py).
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(slots=True, eq=False)
class Message:
    """One accepted message."""

    sid: str
    to: str
    sender: str
    """Empty where a messaging service was to choose."""
    body: str
    reference: str
    """The status callback address, which carries the sender's own reference; may be empty."""
    time: float
    """When it was accepted, in seconds since the epoch."""
    service: str = ""
    hastened: bool = False
    """Whether it was final as soon as it was accepted."""
    reported: bool = False
    """Whether its last report was handed over or given up."""
    index: int = 0
    previous: "Message | None" = None
    """The message before it to the same number: a list a number would cost more memory."""


class Journal:
    """The messages of one sandbox. Opening it reads back what the file holds.

    A last line cut off by a crash was never answered, and is cut from the file.
    """

    def __init__(self, path: Path) -> None:
        self._ordered: list[Message] = []
        self._by_sid: dict[str, Message] = {}
        self._last_to: dict[str, Message] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, _whole_lines(path))
        for line in _lines(path):
            if "body" in line:
                self._add(_message(line))
            elif line["last"]:
                self._by_sid[line["sid"]].reported = True

    def accept(
        self,
        *,
        to: str,
        sender: str,
        body: str,
        reference: str,
        service: str = "",
        hastened: bool = False,
    ) -> Message:
        """Write a message down and return it with its new id."""
        message = Message(
            f"SM{os.urandom(16).hex()}", to, sender, body, reference, time.time(), service, hastened
        )
        line: dict[str, object] = {
            "sid": message.sid,
            "to": to,
            "from": sender,
            "body": body,
            "reference": reference,
            "time": message.time,
        }
        if service:
            line["service"] = service
        if hastened:
            line["hastened"] = True
        self._append(line)
        self._add(message)
        return message

    def record_report(
        self,
        message: Message,
        status: str,
        error_code: int | None,
        *,
        handed_over: bool,
        last: bool,
    ) -> None:
        """Write down that a report was handed over or given up."""
        message.reported = message.reported or last
        self._append(
            {
                "sid": message.sid,
                "status": status,
                "error_code": error_code,
                "handed_over": handed_over,
                "last": last,
                "time": time.time(),
            }
        )

    def find(self, sid: str) -> Message | None:
        """Return one message."""
        return self._by_sid.get(sid)

    def newest_first(
        self, to: str | None = None, after: Message | None = None
    ) -> Iterator[Message]:
        """Yield the messages (to a number), from the newest or from the one past `after`."""
        if to is None:
            start = len(self._ordered) if after is None else after.index
            for position in range(start - 1, -1, -1):
                yield self._ordered[position]
            return
        message = self._last_to.get(to) if after is None else after.previous
        while message is not None:
            yield message
            message = message.previous

    def unreported(self) -> Iterator[Message]:
        """Yield the messages whose reports are still owed."""
        return (m for m in self._ordered if m.reference and not m.reported)

    def recipients_with_duplicates(self) -> int:
        """Count the numbers that were sent the same text more than once."""
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

    def _append(self, line: dict[str, object]) -> None:
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        if os.write(self._fd, data) != len(data):
            raise OSError("the sandbox journal was written short: its disk is full")


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the accepted messages in order: `sid, to, from, body, reference, time` (seconds)."""
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


def _message(line: dict[str, Any]) -> Message:
    return Message(
        line["sid"],
        line["to"],
        line["from"],
        line["body"],
        line["reference"],
        line["time"],
        line.get("service", ""),
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
