"""What goes wrong in the sandbox: by the recipient's number, always, and by order of a test.

Numbers decide refusals and delivery; ordered rules decide what happens to requests and reports.
Not here: carrying any of it out (app.py, reports.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from adapters.sandbox.journal import Message


class Why(StrEnum):
    """Why a submission is not taken, or what ended a message; each gateway has its own code."""

    INVALID = "invalid"
    """No telephone number."""
    LANDLINE = "landline"
    """No mobile number."""
    UNREACHABLE = "unreachable"
    """The handset is off or out of reach."""
    UNKNOWN_NUMBER = "unknown_number"
    OPTED_OUT = "opted_out"
    CONTENT = "content"
    """This text or sender is not allowed."""
    ACCOUNT = "account"
    """The account may not send: no credit, or suspended."""
    THROTTLED = "throttled"
    """Too fast; later."""
    DUPLICATE = "duplicate"
    """A message with this client-chosen id was taken before."""
    OTHER = "other"


OF_THE_REQUEST = frozenset({Why.ACCOUNT, Why.THROTTLED})
"""What is said of a whole request, never of one message of it."""

# Twilio's numbers for test credentials, https://www.twilio.com/docs/iam/test-credentials; taken
# over for every dialect. Its senders are in twilio.py.
MAGIC_TO = {
    "+15005550001": Why.INVALID,
    "+15005550002": Why.UNREACHABLE,
    "+15005550003": Why.OTHER,
    "+15005550004": Why.OPTED_OUT,
    "+15005550009": Why.LANDLINE,
}

# Ours, by the last four digits: those of Twilio's code for it, where it has one.
REFUSED_ENDINGS = {"1610": Why.OPTED_OUT, "1611": Why.CONTENT, "1614": Why.LANDLINE}
REPORT_ENDINGS: dict[str, tuple[str, Why | None]] = {
    "2610": ("undelivered", Why.OPTED_OUT),
    "3000": ("sent", None),
    "3003": ("undelivered", Why.UNREACHABLE),
    "3005": ("undelivered", Why.UNKNOWN_NUMBER),
    "3006": ("undelivered", Why.LANDLINE),
    "3008": ("failed", Why.OTHER),
}
# Of 1,000 other numbers: the first 40 by hash, which is 4 %.
_UNDELIVERED_BELOW = (
    (18, Why.UNREACHABLE),
    (29, Why.UNKNOWN_NUMBER),
    (37, Why.LANDLINE),
    (40, Why.OTHER),
)


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of messages to a number. A final status `sent` means that none ever comes."""

    status: str
    why: Why | None
    sent_after: float
    """Seconds from acceptance."""
    final_after: float

    def status_at(self, message: Message, now: float) -> str:
        """Return what a look-up shows: `queued`, `sent`, or the final status."""
        # Strictly after, so that the answer to the submission itself always says queued.
        if now > self.final_at(message):
            return self.status
        return "sent" if now > self.sent_at(message) else "queued"

    def sent_at(self, message: Message) -> float:
        """Return when the message was or will be sent."""
        return message.time + (0 if message.hastened else self.sent_after)

    def final_at(self, message: Message) -> float:
        """Return when it had or will have its final status."""
        return message.time + (0 if message.hastened else self.final_after)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Deterministic from the number alone, so that a test knows what to expect."""

    kind: Literal["realistic", "delivered"] = "realistic"
    report_delay: tuple[float, float] = (0.2, 2.0)
    """Shortest and longest time to the final status, in seconds; spread by a hash."""

    def refusal(self, to: str) -> Why | None:
        """Return why a valid submission is refused, or None."""
        return MAGIC_TO.get(to) or REFUSED_ENDINGS.get(to[-4:])

    def fate(self, to: str) -> Fate:
        """Return what becomes of an accepted message."""
        bucket = crc32(to.encode())
        shortest, longest = self.report_delay
        final_after = shortest + (longest - shortest) * ((bucket >> 12) % 1000) / 1000
        status, why = REPORT_ENDINGS.get(to[-4:], ("delivered", None))
        if self.kind == "realistic" and to[-4:] not in REPORT_ENDINGS:
            place = bucket % 1000
            for below, cause in _UNDELIVERED_BELOW:
                if place < below:
                    status, why = "undelivered", cause
                    break
        # Sent soon even where reports are set far off: look-ups by date need a date.
        return Fate(status, why, min(final_after / 2, 1.0), final_after)


Misbehaviour = Literal[
    "late", "double", "shuffled", "never", "before_answer", "contradict", "part_fails"
]


class Rule(BaseModel):
    """One fault to order on submissions or look-ups; see README.md."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["status", "reset", "close", "slow", "refuse", "reports", "lookups"]
    code: int = Field(503, ge=200, le=599)
    body: str | dict[str, Any] | None = None
    retry_after: float | None = None
    accepted: bool = False
    seconds: float = Field(5, ge=0)
    why: Why | None = None
    reports: Misbehaviour | None = None
    share: float = Field(1, ge=0, le=1)
    times: int | None = Field(None, ge=0)
    to: str = ""
    seen: int = Field(0, description="Submissions that matched; counted here")
    fired: int = Field(0, description="Times it was carried out; counted here")

    @field_validator("why", mode="before")
    @classmethod
    def _of_the_recipient(cls, why: object) -> object:
        return Why.INVALID if why == "recipient" else why

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "reports") != (self.reports is not None):
            raise ValueError('`reports` says how reports misbehave, and belongs to kind "reports"')
        if (self.kind == "refuse") != (self.why is not None):
            raise ValueError('`why` says what a refusal is for, and belongs to kind "refuse"')
        return self

    @property
    def ends(self) -> bool:
        """Whether it ends a whole request."""
        return self.kind in ("status", "reset", "close") or self.why in OF_THE_REQUEST

    def fires(self, *recipients: str) -> bool:
        """Whether it strikes this request or message: evenly spaced, so that a share is exact."""
        if self.to and not any(to.startswith(self.to) for to in recipients):
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        self.seen += 1
        # The small part keeps 0.1 × 30 from falling short of 3.
        due = math.floor(self.seen * self.share + 1e-9)
        if due == math.floor((self.seen - 1) * self.share + 1e-9):
            return False
        self.fired += 1
        return True


@dataclass(slots=True)
class Ordered:
    """What the rules ordered for one request; its messages by their place in it."""

    wait: float = 0
    ending: Rule | None = None
    refused: dict[int, Why] = field(default_factory=dict)
    reports: dict[int, dict[str, Rule]] = field(default_factory=dict)


NOTHING = Ordered()
RULES = TypeAdapter(list[Rule])


class Faults:
    """The rules in force. They are replaced together, never changed one by one."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def draw(self, recipients: Sequence[str]) -> Ordered:
        """Return what strikes a submission; the first rule that ends a request wins."""
        ordered = Ordered()
        for rule in self.rules:
            if rule.kind == "lookups":
                continue
            if rule.ends:
                if ordered.ending is None and rule.fires(*recipients):
                    ordered.ending = rule
            elif rule.kind == "slow":
                ordered.wait += rule.seconds if rule.fires(*recipients) else 0
            else:
                _draw_each(rule, recipients, ordered)
        return ordered

    def draw_look_up(self) -> Rule | None:
        """Return the rule that strikes this look-up, if there is one."""
        rules = (rule for rule in self.rules if rule.kind == "lookups")
        return next((rule for rule in rules if rule.fires("")), None)


def _draw_each(rule: Rule, recipients: Sequence[str], ordered: Ordered) -> None:
    for place, to in enumerate(recipients):
        if not rule.fires(to):
            continue
        if rule.why is not None:
            ordered.refused.setdefault(place, rule.why)
        elif rule.reports is not None:
            ordered.reports.setdefault(place, {})[rule.reports] = rule
