"""What goes wrong in the sandbox: by the recipient's number, always, and by order of a test.

Numbers decide refusals and delivery; ordered rules decide what happens to requests and reports.
Not here: carrying any of it out (app.py, reports.py).
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

# Twilio's own numbers for test credentials: https://www.twilio.com/docs/iam/test-credentials
MAGIC_TO = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
MAGIC_FROM = {"+15005550001": 21212, "+15005550007": 21606, "+15005550008": 21611}

# Ours, by the last four digits: those of the error code.
REFUSED_ENDINGS = {"1610": 21610, "1614": 21614}
REPORT_ENDINGS: dict[str, tuple[str, int | None]] = {
    "3000": ("sent", None),
    "3003": ("undelivered", 30003),
    "3005": ("undelivered", 30005),
    "3006": ("undelivered", 30006),
    "3008": ("failed", 30008),
}
# Of 1,000 other numbers: the first 40 by hash, which is 4 %.
_UNDELIVERED_BELOW = ((18, 30003), (29, 30005), (37, 30006), (40, 30008))


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of messages to a number. A final status `sent` means that none ever comes."""

    status: str
    error_code: int | None
    sent_after: float
    """Seconds from acceptance."""
    final_after: float


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Deterministic from the number alone, so that a test knows what to expect."""

    kind: Literal["realistic", "delivered"] = "realistic"
    report_delay: tuple[float, float] = (0.2, 2.0)
    """Shortest and longest time to the final status, in seconds; spread by a hash."""

    def refusal(self, to: str, sender: str) -> int | None:
        """Return the code with which a valid request is refused, or None."""
        return MAGIC_TO.get(to) or MAGIC_FROM.get(sender) or REFUSED_ENDINGS.get(to[-4:])

    def fate(self, to: str) -> Fate:
        """Return what becomes of an accepted message."""
        bucket = crc32(to.encode())
        shortest, longest = self.report_delay
        final_after = shortest + (longest - shortest) * ((bucket >> 12) % 1000) / 1000
        status, error_code = REPORT_ENDINGS.get(to[-4:], ("delivered", None))
        if self.kind == "realistic" and to[-4:] not in REPORT_ENDINGS:
            place = bucket % 1000
            for below, code in _UNDELIVERED_BELOW:
                if place < below:
                    status, error_code = "undelivered", code
                    break
        # Sent soon even where reports are set far off: look-ups by date need a date.
        return Fate(status, error_code, min(final_after / 2, 1.0), final_after)


class Rule(BaseModel):
    """One fault to order on submissions or look-ups; see README.md."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["status", "reset", "close", "slow", "reports", "lookups"]
    code: int = Field(503, ge=200, le=599)
    body: str | dict[str, Any] | None = None
    retry_after: float | None = None
    accepted: bool = False
    seconds: float = Field(5, ge=0)
    reports: (
        Literal["late", "double", "shuffled", "never", "before_answer", "contradict"] | None
    ) = None
    share: float = Field(1, ge=0, le=1)
    times: int | None = Field(None, ge=0)
    to: str = ""
    seen: int = Field(0, description="Submissions that matched; counted here")
    fired: int = Field(0, description="Times it was carried out; counted here")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "reports") != (self.reports is not None):
            raise ValueError('`reports` says how reports misbehave, and belongs to kind "reports"')
        return self

    def fires(self, to: str) -> bool:
        """Whether it strikes this submission: evenly spaced, so that a share is exact."""
        if not to.startswith(self.to) or (self.times is not None and self.fired >= self.times):
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
    """What the rules ordered for one submission."""

    wait: float = 0
    ending: Rule | None = None
    reports: dict[str, Rule] = field(default_factory=dict)


NOTHING = Ordered()
RULES = TypeAdapter(list[Rule])


class Faults:
    """The rules in force. They are replaced together, never changed one by one."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def draw(self, to: str) -> Ordered:
        """Return what strikes this submission; the first rule that ends a request wins."""
        if not self.rules:
            return NOTHING
        ordered = Ordered()
        for rule in self.rules:
            if rule.kind == "lookups":
                continue
            ends = rule.kind in ("status", "reset", "close")
            if (ends and ordered.ending is not None) or not rule.fires(to):
                continue
            if ends:
                ordered.ending = rule
            elif rule.kind == "slow":
                ordered.wait += rule.seconds
            elif rule.reports is not None:
                ordered.reports[rule.reports] = rule
        return ordered

    def draw_look_up(self) -> Rule | None:
        """Return the rule that strikes this look-up, if there is one."""
        rules = (rule for rule in self.rules if rule.kind == "lookups")
        return next((rule for rule in rules if rule.fires("")), None)
