"""A route: which gateways send to which countries, in what shares, and which stand in for them.

It is saved like a gateway, so that a campaign names either. Here: how it is written. Not here: who
is sent by which gateway, and when one is taken out (`tasks/routing`).
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

_COUNTRIES = re.compile(r"\*|[A-Z]{2}(?:[ ,]+[A-Z]{2})*")
_SHARE = re.compile(r"([a-z0-9][a-z0-9-]*)(?:[ ]+(\d+)[ ]*%?)?")
_EVERYWHERE = "*"


@dataclass(frozen=True, slots=True)
class Leg:
    """One rule of a route."""

    countries: tuple[str, ...]
    """Codes as in ISO 3166; none: all that no leg before it names."""
    shares: Mapping[str, int]
    """Gateways, and the parts of the messages that they send."""
    fallbacks: tuple[str, ...] = ()
    """Gateways that stand in, the first one first."""

    @property
    def gateways(self) -> tuple[str, ...]:
        """All of them, in the order in which they stand in for each other."""
        by_share = sorted(self.shares, key=lambda name: -self.shares[name])
        return tuple(dict.fromkeys([*by_share, *self.fallbacks]))

    def stored(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**asdict(self), "shares": dict(self.shares)}


class RouteSettings(BaseModel):
    """A route over saved gateways."""

    kind: Literal["route"] = "route"
    rules: str = Field(
        description="One rule a line (or between semicolons): countries, a colon, gateways with"
        " their shares, and after each > one that stands in. `US CA: plivo 70, twilio 30 > kannel`"
        " and `*: twilio` for all other countries. Who has no rule gets no message."
    )

    @field_validator("rules")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        read_rules(value)
        return value

    @property
    def legs(self) -> list[Leg]:
        """The rules, read."""
        return read_rules(self.rules)


def read_rules(rules: str) -> list[Leg]:
    """Read the rules of a route. Raises ValueError, one line that names the rule at fault."""
    lines = [line.strip() for line in re.split(r"[;\n]", rules) if line.strip()]
    legs = [_leg(number, line) for number, line in enumerate(lines, 1)]
    if not legs:
        raise ValueError("a route needs a rule: `*: NAME` sends everything by one gateway")
    seen: set[str] = set()
    for number, leg in enumerate(legs, 1):
        named = set(leg.countries) or {_EVERYWHERE}
        if _EVERYWHERE in seen:
            raise ValueError(f"rule {number} comes after the one for *, and would never be used")
        if twice := sorted(named & seen):
            raise ValueError(f"rule {number}: {twice[0]} has a rule already")
        seen |= named
    return legs


def _leg(number: int, line: str) -> Leg:
    where, colon, rest = line.partition(":")
    if not colon or not _COUNTRIES.fullmatch(where := where.strip()):
        raise ValueError(
            f"rule {number} “{line}”: begin it with countries and a colon, `US CA:` or `*:`"
        )
    first, *fallbacks = (part.strip() for part in rest.split(">"))
    shares: dict[str, int] = {}
    for part in first.split(","):
        found = _SHARE.fullmatch(part.strip())
        if not found or found[1] in shares:
            raise ValueError(f"rule {number} “{line}”: write gateways as `plivo 70, twilio 30`")
        shares[found[1]] = int(found[2] or 1)
    for name in fallbacks:
        found = _SHARE.fullmatch(name)
        if not found or found[2]:
            raise ValueError(f"rule {number} “{line}”: after > write the name of one gateway")
    if not any(shares.values()):
        raise ValueError(f"rule {number} “{line}”: no gateway has a share")
    countries = () if where == _EVERYWHERE else tuple(re.split("[ ,]+", where))
    return Leg(countries, shares, tuple(fallbacks))
