"""What one gateway's wire format is to the sandbox: the words between the server and a dialect.

A dialect reads requests and writes answers, reports and look-ups as that gateway does, from its
public documents. It shares no code with the adapters, so that a mistake in one shows in the other.
Not here: serving, the journal, what becomes of a message (faults.py) and when (reports.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from adapters.sandbox.faults import Fate, Outcomes, Why
from adapters.sandbox.journal import Journal, Message


@dataclass(slots=True)
class Request:
    """An HTTP request, whole."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    query_string: str = ""
    """As it came, still escaped: for names that repeat, and for other character sets."""


@dataclass(slots=True)
class Reply:
    """An HTTP answer: a text as it is (text/plain, unless `headers` says another type), anything
    else as JSON."""

    status: int
    content: object = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Submission:
    """One message that a request asks for; of several in one request there are several."""

    to: str
    """E.164 with +, however the gateway writes it."""
    sender: str
    body: str
    callback: str = ""
    """Where its delivery reports are wanted; empty: nowhere."""
    reference: str = ""
    """The sender's own reference, wherever the gateway takes it (a field, or the callback)."""
    id: str = ""
    """Where the sender chooses it; else empty, and the dialect's `new_id` makes one."""
    batch: str = ""
    """The gateway's id of the request, where it gives one."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """What only this dialect needs to know of it again."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A submission that is not taken."""

    submission: Submission
    why: Why


@dataclass(frozen=True, slots=True)
class Post:
    """A callback to make: signed, complete."""

    method: str
    url: str
    body: bytes
    headers: Mapping[str, str]


class Dialect(Protocol):
    """One gateway's wire format. Holds its credentials, and nothing that changes."""

    kind: ClassVar[str]
    """The adapter's kind: `plivo`."""
    parts: ClassVar[bool]
    """Whether each segment of a long message has an id and reports of its own."""

    def settings(self, base_url: str) -> dict[str, str]:
        """Return the fields that `sms gateway add NAME KIND --set …` needs, a sender included."""
        ...

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        """What a request is; None: another gateway's, or nobody's.

        By method and path alone: the server remembers the places of submissions.
        """
        ...

    def login(self, request: Request) -> Reply | None:
        """Return the gateway's answer to wrong credentials; None where they are right."""
        ...

    def read(self, request: Request) -> list[Submission] | Reply:
        """Return what a request asks for, or the answer that refuses it as malformed.

        A parameter that the sandbox does not know is refused, so that mistakes of a sender show.
        """
        ...

    def new_id(self) -> str:
        """Return an id as this gateway makes them, for a submission without one."""
        ...

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        """Return the answer to a submission, from what became of each message, in order."""
        ...

    def failure(self, status: int, why: Why | None) -> Reply:
        """Return the gateway's own words for a request that fails as a whole.

        With `why` THROTTLED or ACCOUNT: in its own way (`status` is 0 then, and the dialect
        chooses). Else an error with this HTTP status.
        """
        ...

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        """Return the signed callbacks of one delivery report; none where the gateway sends none.

        `status` is sent, delivered, undelivered, failed, expired or rejected. `part` counts
        segments from 0; it is always 0 where `parts` is False.
        """
        ...

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        """Answer about what was accepted before, and about the account.

        `journal` shows this dialect's messages only. `outcomes.fate(message.to)` knows what
        becomes of each: `status_at(message, now)`, `why`, `sent_at(message)`, `final_at(message)`.
        """
        ...

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        """Return the signed callback of a reply (MO)."""
        ...


__all__ = [
    "Dialect",
    "Fate",
    "Journal",
    "Message",
    "Outcomes",
    "Post",
    "Refused",
    "Reply",
    "Request",
    "Submission",
    "Why",
]
