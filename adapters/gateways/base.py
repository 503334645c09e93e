"""What a gateway adapter is: the words that the sending protocol and every adapter share.

Here: the messages going out, the answers, the reports coming back, and what a gateway declares of
itself. Not here: policy (retry, pace, consent), storage, and any one gateway's wire format.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Literal, Protocol, runtime_checkable
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from data.errors import SmsError


class GatewayError(SmsError):
    """A gateway cannot be used as it is configured."""


class ErrorClass(StrEnum):
    """What a refusal means for the message and the run."""

    RETRY = "retry"
    """Not accepted now; the same request may be made again later."""
    RECIPIENT = "recipient"
    """This recipient will never get it."""
    OPTOUT = "optout"
    """The recipient has opted out at the gateway; the consent ledger is told."""
    CONTENT = "content"
    """The text or the sender is not allowed."""
    ACCOUNT = "account"
    """The account cannot send; the run stops."""


UNREACHABLE = "unreachable"
"""Error code of a refusal because no connection came about: nothing was sent."""


class Status(StrEnum):
    """Delivery status, the common set. Order and finality: `data.deliveries.RANK`."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    SENT = "sent"
    UNKNOWN = "unknown"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    EXPIRED = "expired"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message (MT) as an adapter gets it. `id` is our reference, stored before this exists."""

    id: str
    to: str
    text: str
    sender: str
    encoding: str
    segments: int
    deadline: datetime | None = None
    submission: str = ""
    """Reference of the window that it leaves in, stored before this exists. Together with the
    recipient it names one message: for gateways that take one reference for a whole request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one message at submission.

    `refused` only where the gateway documents that it did not take the message, or where no
    connection came about. Everything unclear is `unknown`, and is never sent again blindly.
    """

    id: str
    outcome: Literal["accepted", "refused", "unknown"]
    gateway_message_id: str | None = None
    error_class: ErrorClass | None = None
    error_code: str | None = None
    error_text: str = ""
    retry_after: float | None = None
    """Seconds the gateway asked us to wait."""
    segments: int | None = None
    price: Decimal | None = None
    currency: str | None = None
    parts: "tuple[Report, ...]" = ()
    """What the answer says of single parts of a long message: the gateway's id of each that was
    taken (`ACCEPTED`), a final status of each that was not. They are stored with the answer."""


@dataclass(frozen=True, slots=True)
class Report:
    """One delivery report (DLR), from a callback or a poll.

    It is matched by `reference`; else by `submission` and `recipient`; else by
    `gateway_message_id`; else by `batch_id` and `recipient`. Recipients are E.164, with +.
    """

    status: Status
    reference: str | None = None
    gateway_message_id: str | None = None
    recipient: str | None = None
    submission: str | None = None
    """Our reference of the window (`Outgoing.submission`)."""
    batch_id: str | None = None
    """The gateway's id of a whole request, where its messages have none of their own."""
    part: str | None = None
    """Which part of a long message it speaks of, where each part has reports of its own: the
    gateway's id of the part. The message is delivered when all of its `segments` are."""
    error_code: str | None = None
    error_class: ErrorClass | None = None
    occurred_at: datetime | None = None
    price: Decimal | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """One inbound message (MO)."""

    gateway_message_id: str
    sender: str
    recipient: str
    text: str


@dataclass(frozen=True, slots=True)
class Callback:
    """An HTTP request from a gateway, as it came."""

    method: str
    url: str
    """As the gateway called it: public address, path and query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    kind: Literal["report", "reply"] = "report"
    """What the address called is for: delivery reports, or replies."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A message whose submission got no clear answer."""

    id: str
    to: str
    text: str
    sender: str
    submitted_after: datetime
    """No request for it was made before this instant."""
    lease_until: datetime
    """No request for it was started after this instant."""
    submission: str = ""
    """The window it left in; as in `Outgoing`."""
    known: frozenset[str] = frozenset()
    """Ids at the gateway that belong to other messages to this number."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look-up says of a suspect. No finding at all means: still in doubt."""

    id: str
    outcome: Literal["accepted", "absent"]
    gateway_message_id: str | None = None


class Recovery(StrEnum):
    """What a crashed sender can find out (see each adapter's file for the gateway's own words)."""

    RESEND = "resend"
    """The same message id may be sent again within `resend_window`: the gateway takes it once."""
    BY_REFERENCE = "by_reference"
    BY_NUMBER = "by_number"
    """A look-up by number and time: proves acceptance, never absence."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a gateway can do. The planner and the feature matrix read nothing else."""

    batch: Literal["single", "same_text", "variables", "distinct"] = "single"
    """What one request may carry: one message; one text from one sender to many numbers; many
    texts from one sender with one deadline, no number twice; any messages."""
    max_batch: int = 1
    """Messages in one request, at most."""
    reference: Literal["field", "callback_url", "submission", "none"] = "none"
    """How our reference comes back in reports: the message's own, in a field or in the query of
    its callback address; that of the window, together with the recipient; not at all."""
    recovery: Recovery = Recovery.NONE
    absence_after: timedelta | None = None
    """By reference: after how long a look-up that finds nothing proves absence; None: never."""
    resend_window: timedelta | None = None
    rate_unit: Literal["messages", "segments"] = "messages"
    polls: bool = False
    callbacks: Literal["signed", "token", "bind"] = "signed"
    """How a callback proves that it is the gateway's: a signature over it; a token that only the
    gateway was told, in its address; it comes over a connection that we opened and logged in on."""
    inbound: bool = False
    """Whether replies (MO) are read."""
    opt_outs: tuple[Literal["answer", "report"], ...] = ()
    """Where the gateway says that a recipient has opted out there; the consent ledger is told."""
    parts: bool = False
    """Whether each part of a long message has reports of its own."""
    validity: bool = False
    price: Literal["answer", "report", "poll", "none"] = "none"
    max_text: int = 1600
    report_reply: str = ""
    """Body of the answer to a delivery report, where the gateway reads it."""
    inbound_reply: str = ""
    """Body of the answer to a reply (MO), where the gateway reads it."""


class GatewaySettings(BaseModel):
    """Settings that every gateway has; an adapter adds its `kind`, address and credentials."""

    # The error of a missing field would show the others, credentials included. What is copied often
    # comes with a space or a line break around it.
    model_config = ConfigDict(hide_input_in_errors=True, str_strip_whitespace=True)

    sender: str = Field("", description="Number or name that messages come from")
    rate: float = Field(
        10, gt=0, description="Messages a second that this account and sender may send"
    )

    @field_validator("*")
    @classmethod
    def _is_one_line(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what no line has: a request with a line break in its login cannot be made."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        # A private key is a PEM text, which has lines.
        if isinstance(text, str) and info.field_name != "private_key" and not text.isprintable():
            raise ValueError("has a line break or another character that cannot be seen")
        return value

    @field_validator("base_url", check_fields=False)
    @classmethod
    def _has_no_login(cls, value: str) -> str:
        """Refuse credentials in an address, which errors show; take trailing slashes away."""
        if "@" in urlsplit(value).netloc:
            raise ValueError("is an address with a login: credentials belong into their own fields")
        return value.rstrip("/")


@runtime_checkable
class Gateway(Protocol):
    """One gateway. Made from its settings; used by one event loop at a time."""

    capabilities: ClassVar[Capabilities]

    inbound_url: str
    """Where the gateway is to hand over replies (MO); empty: they come over a bind."""

    async def __aenter__(self) -> "Gateway": ...

    async def __aexit__(self, *_: object) -> None: ...

    async def submit(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Submit a group within `capabilities.max_batch`; one answer for each, in any order.

        Raises nothing for what the gateway or the network does: that is what answers are for.
        """
        ...

    async def check(self, sender: str | None = None) -> list[str]:
        """Verify credentials (and the sender where it can be) without sending; [] = all well.

        Each problem is one line that names the setting and the mend.
        """
        ...

    async def recover(self, suspects: Sequence[Suspect]) -> list[Finding]:
        """Ask the gateway about messages in doubt; leave out those it cannot answer for."""
        ...

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Fetch the present status of messages; leave out those it cannot answer for."""
        ...

    def verify(self, callback: Callback) -> bool:
        """Whether this callback was signed by the gateway (on the raw body, constant time)."""
        ...

    def parse(self, callback: Callback) -> tuple[list[Report], list[Inbound]]:
        """Read a verified callback. Raises `CallbackError` on what is not one."""
        ...


@runtime_checkable
class Listener(Protocol):
    """A gateway whose reports and replies come over a connection that we hold open.

    An adapter has this beside `Gateway`, with `capabilities.callbacks` "bind". `sms web` keeps one
    `listen` of each such gateway running.
    """

    bind_problem: str
    """Why nothing can be received at this moment; empty while it can."""

    async def listen(
        self, store: Callable[[Sequence[Report], Sequence[Inbound], str], Awaitable[bool]]
    ) -> None:
        """Receive until cancelled, reconnecting by itself.

        `store` keeps reports, replies and the raw payload; what it returns False for was not
        stored, and must not be acknowledged.
        """
        ...


class CallbackError(SmsError):
    """A callback that cannot be read."""


@dataclass(frozen=True)
class Addresses:
    """Where callbacks of a gateway arrive on the receiver, and how our reference travels there."""

    gateway: str
    receiver_url: str

    def reports(self, message_id: str) -> str:
        """Return the address for one message's delivery reports."""
        return f"{self.receiver_url}/gateways/{self.gateway}/reports?ref={message_id}"

    def reports_of(self, submission: str) -> str:
        """Return the address for the delivery reports of a request with several messages."""
        return f"{self.receiver_url}/gateways/{self.gateway}/reports?sub={submission}"

    @property
    def inbound(self) -> str:
        """The address for replies; an operator enters it at the gateway."""
        return f"{self.receiver_url}/gateways/{self.gateway}/inbound"


@dataclass(frozen=True)
class Timeouts:
    """Limits on one request, in seconds."""

    request: float = 10
    connect: float = field(default=5)
