"""The shape of a rule: which fields a row has, what they may hold, and what they mean.

Here: one row, and lengths of time and windows in it. Not here: reading the files
(data.rule_files), or which rows apply to whom (data.rules).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, get_args

import pandas as pd
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Purpose = Literal["marketing", "transactional", "alert", "otp", "emergency", "optout_confirmation"]
"""The last one is the product's own: the one answer to a STOP."""
PURPOSES: tuple[str, ...] = get_args(Purpose)

Step = Literal[
    "number_validity",
    "line_type",
    "reassigned",
    "deactivated",
    "moratorium",
    "opt_out",
    "revoke_all",
    "audience_opt_out",
    "reply_review",
    "unknown_place",
    "consent_basis",
    "registry",
    "opt_out_text",
    "content",
    "sender",
    "confirmation",
    "frequency",
    "zone_unknown",
    "sending_window",
    "campaign_window",
    "deadline",
]
"""What a row is about, in the order in which a recipient is judged."""
STEPS: tuple[str, ...] = get_args(Step)

BASES = (
    "express_written",
    "express",
    "soft_opt_in",
    "inferred",
    "deemed",
    "implied_purchase",
    "implied_inquiry",
    "user_initiated",
    "dlt_consent",
    "dnc_clear",
    "iys_onay",
)
"""On what consent may rest."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Windows = tuple[tuple[tuple[int, int], ...], ...]
"""Seven weekdays from Monday, each with its half-open windows in minutes of local wall time from
that day's midnight. An end above 1440 lies on the next day; the window belongs to its start day."""

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_PERIOD = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?")
_DAY = 24 * 60


def parse_windows(days: object) -> Windows:
    """Return the windows of `{"mon": [["09:00", "20:00"]], …}`; a weekday not named is closed.

    An end at or before its start crosses midnight. Raises ValueError, in words.
    """
    if not isinstance(days, Mapping):
        raise ValueError("windows are lists by weekday: mon, tue, wed, thu, fri, sat, sun")
    unknown = set(days) - set(WEEKDAYS)
    if unknown:
        raise ValueError(f"{sorted(map(str, unknown))[0]!r} is no weekday: use {WEEKDAYS}")
    return tuple(tuple(_window(pair) for pair in days.get(day, [])) for day in WEEKDAYS)


def daily_window(start: str, end: str) -> Windows:
    """Return the windows of a time that is the same on every weekday."""
    return parse_windows({day: [[start, end]] for day in WEEKDAYS})


def _window(pair: object) -> tuple[int, int]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError('a window is a pair as ["09:00", "20:00"]')
    start, end = (_minutes(clock) for clock in pair)
    if start == _DAY:
        raise ValueError("a window that starts at 24:00 starts at 00:00 of the next weekday")
    return start, end if end > start else end + _DAY


def _minutes(clock: object) -> int:
    if not isinstance(clock, str) or not _CLOCK.fullmatch(clock):
        raise ValueError(f'{clock!r} is no local time: write it as "09:00" (00:00 to 24:00)')
    return int(clock[:2]) * 60 + int(clock[3:])


class Period(BaseModel):
    """A length of time as people count it: six months from 31 August end on 28 February."""

    model_config = ConfigDict(frozen=True)

    months: int = 0
    minutes: int = 0

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ISO 8601, such as `P6M`, `P21D` or `PT24H`. Raises ValueError, in words."""
        match = _PERIOD.fullmatch(text) if isinstance(text, str) else None
        if match is None or not any(match.groups()):
            raise ValueError(f'{text!r} is no length of time: write it as "P6M", "P21D", "PT24H"')
        years, months, days, hours, minutes = (int(part or 0) for part in match.groups())
        return cls(months=12 * years + months, minutes=(days * 24 + hours) * 60 + minutes)

    @property
    def offset(self) -> pd.DateOffset:
        """What to add to an instant or a column of them, and to take from it."""
        return pd.DateOffset(months=self.months, minutes=self.minutes)


IsoPeriod = Annotated[Period, BeforeValidator(Period.parse)]


def _instant(text: object) -> datetime:
    """A date is its first moment in UTC."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    if found is None:
        raise ValueError(f'{text!r} is no date: write it as "2026-01-01" or "2026-01-01T12:00:00Z"')
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


Instant = Annotated[datetime, BeforeValidator(_instant)]


class Cap(BaseModel):
    """At most so many messages to one number within a rolling length of time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max: int = Field(ge=1)
    per: IsoPeriod
    scope: Literal["same_subject", "all"]


class Rule(BaseModel):
    """One row. Which of the fields below `profile` it has depends on its step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_/*-]*$")
    step: Step
    says: str = Field(min_length=10, description="The rule in words, for people")
    source: str = Field(min_length=10, description="The page, law or decision it follows from")
    confidence: Literal["high", "medium", "low"]
    countries: tuple[Annotated[str, Field(pattern=r"^(\*|[A-Z]{2})$")], ...] = Field(
        min_length=1, description="ISO 3166-1, or * for all others"
    )
    subdivision: str | None = Field(
        None, pattern=r"^[A-Z0-9]{1,3}$", description="ISO 3166-2 without the country, such as FL"
    )
    purposes: tuple[Purpose, ...] = Field(min_length=1)
    effective_from: Instant | None = None
    effective_to: Instant | None = None
    profile: Literal["standard", "strict"] = Field(
        "standard", description="strict: holds in the strict profile only, beside the others"
    )
    overrides: str | None = Field(None, description="In a company's file: the row it replaces")

    windows: Annotated[Windows, BeforeValidator(parse_windows)] | None = None
    holidays: str | None = Field(
        None, pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$", description="Closed on this calendar's days"
    )
    bases: tuple[str, ...] = Field((), description="Bases of consent that are enough")
    expiry: dict[str, IsoPeriod] = Field(
        default_factory=dict, description="By basis: how long consent lasts from when it was given"
    )
    inactivity: IsoPeriod | None = Field(
        None, description="How long any consent lasts from the person's last opt-in or purchase"
    )
    dated: bool = Field(False, description="Consent without a date is not enough")
    cap: Cap | None = None
    line_types: tuple[str, ...] = Field((), description="Line types that are stopped")
    flags: tuple[str, ...] = Field((), description="Kinds of content, * for all others")
    effect: Literal["prohibited", "age_gate", "registration", "allowed"] | None = None
    sender: str | None = Field(None, description="Regular expression that a sender must match")
    keywords: tuple[str, ...] = Field(
        (), description="The text must hold one of these words, in any case"
    )
    overrides_consent: bool = Field(True, description="moratorium: stops people who agreed as well")

    @field_validator("bases", "expiry")
    @classmethod
    def _known_bases(cls, bases: Any) -> Any:
        for basis in bases:
            if basis not in (*BASES, "*"):
                raise ValueError(f"{basis!r} is no basis of consent: use {', '.join(BASES)}, or *")
        return bases

    @field_validator("sender")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _fields_of_its_step(self) -> Self:
        for step, fields in _FIELDS.items():
            for field, needed in fields.items():
                has = getattr(self, field) != type(self).model_fields[field].get_default(
                    call_default_factory=True
                )
                if self.step == step and needed and not has:
                    raise ValueError(f"a {self.step} row needs {field}")
                if self.step != step and has and field not in _FIELDS.get(self.step, {}):
                    raise ValueError(f"a {self.step} row has no {field}")
        if self.subdivision and (len(self.countries) != 1 or "*" in self.countries):
            raise ValueError("a row of a subdivision has one country")
        return self

    def in_force(self, at: datetime) -> bool:
        """Whether its dates include an instant."""
        begun = self.effective_from is None or self.effective_from <= at
        return begun and (self.effective_to is None or at < self.effective_to)

    def accepts(self, basis: str) -> bool:
        """Whether consent of this basis is enough."""
        return "*" in self.bases or basis in self.bases


_FIELDS: dict[str, dict[str, bool]] = {
    # step: its own fields, and whether a row must have them
    "sending_window": {"windows": True, "holidays": False},
    "consent_basis": {"bases": False, "expiry": False, "inactivity": False, "dated": False},
    "registry": {"bases": False},
    "line_type": {"line_types": True},
    "frequency": {"cap": True},
    "content": {"flags": True, "effect": True},
    "sender": {"sender": True},
    "opt_out_text": {"keywords": True},
    "moratorium": {"overrides_consent": False},
}
