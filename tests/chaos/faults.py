"""The menu of faults of the bare trials: what may go wrong, where, and with which details.

Here: kinds, and drawing one's moment and details by chance. Not here: striking (`bare.py`), and
which trial gets which kinds (`plan.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

SQLITE, POSTGRESQL = "sqlite", "postgresql"
LEASE = 1.6
"""Seconds of a claim in a trial; a frozen sender sleeps longer."""
REQUEST_TIMEOUT = 0.5
BUSY = 0.3
"""Seconds that a sender of a trial waits for SQLite's lock, instead of half a minute."""
AN_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one trial."""

    kind: str
    at: float
    """Seconds after the first claim."""
    lasts: float = 0
    """Seconds until it is mended; 0: it is over at once, or its mending is the recovery."""
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say it in a line, for a report."""
        details = " ".join(f"{name}={value}" for name, value in self.details.items())
        lasting = f" for {self.lasts:.2f} s" if self.lasts else ""
        return f"{self.kind} at {self.at:.2f} s{lasting} {details}".rstrip()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault, and how to draw one."""

    name: str
    draw: Callable[[Random, float], tuple[float, float, dict[str, Any]]]
    """From chance and the seconds that sending takes undisturbed: moment, duration, details."""
    databases: tuple[str, ...] = (SQLITE, POSTGRESQL)
    ends_the_run: bool = False
    """At most one of those in a trial: they contradict each other."""
    claims_are_lost: bool = False
    """Whether what is `sending` while it lasts may rightly come to be in doubt."""
    leases_fail: bool = False
    """Whether a gateway that proves absence by the end of the lease can be misled by it: the one
    case that the documentation names as not excluded."""

    def fault(self, chance: Random, span: float) -> Fault:
        """Draw a fault of this kind."""
        return Fault(self.name, *self.draw(chance, span))


def _drawn(
    moment: tuple[float, float] = (0.0, 0.8),
    lasts: tuple[float, float] = (0.0, 0.0),
    **choices: tuple[Any, ...],
) -> Callable[[Random, float], tuple[float, float, dict[str, Any]]]:
    """Moments are parts of the sending time, durations seconds, details one of their choices."""

    def draw(chance: Random, span: float) -> tuple[float, float, dict[str, Any]]:
        at = span * chance.uniform(*moment)
        seconds = chance.uniform(*lasts)
        details = {name: chance.choice(options) for name, options in choices.items()}
        return round(at, 3), round(seconds, 3), details

    return draw


_SHARES = (0.3, 0.5, 1.0)
_ANYHOW: dict[str, Any] = {"accepted": (True, False), "share": _SHARES}
_A_WHILE = (0.2, 0.8)
_FROM_THE_START = (0.0, 0.0)

BARE: tuple[Kind, ...] = (
    Kind("sender killed", _drawn(), claims_are_lost=True),
    Kind("receiver killed", _drawn(lasts=(0.05, 0.4))),
    Kind("gateway killed", _drawn(lasts=(0.05, 0.4))),
    Kind("reconciler killed", _drawn()),
    Kind(
        "sender frozen beyond its lease",
        _drawn(lasts=(LEASE + 0.2, LEASE + 0.6)),
        claims_are_lost=True,
        leases_fail=True,
    ),
    Kind(
        "clock set in the sender",
        _drawn(seconds=(AN_HOUR, -AN_HOUR)),
        claims_are_lost=True,
        leases_fail=True,
    ),
    Kind("second sender beside", _drawn()),
    Kind("paused and resumed", _drawn(lasts=(0.2, 0.6)), ends_the_run=True),
    Kind("cancelled", _drawn(), ends_the_run=True),
    Kind("opt-outs", _drawn(moment=(0.0, 0.3), share=(0.1, 0.3))),
    Kind("gateway resets", _drawn(lasts=_A_WHILE, **_ANYHOW)),
    Kind("gateway closes", _drawn(lasts=_A_WHILE, **_ANYHOW)),
    Kind("gateway hangs", _drawn(lasts=_A_WHILE, **_ANYHOW)),
    Kind("gateway throttles", _drawn(lasts=_A_WHILE, retry_after=(None, 0, 1), share=_SHARES)),
    Kind("gateway fails", _drawn(lasts=_A_WHILE, code=(500, 502, 503), **_ANYHOW)),
    Kind("gateway answers garbage", _drawn(lasts=_A_WHILE, code=(200, 201), **_ANYHOW)),
    Kind("reports doubled", _drawn(_FROM_THE_START, share=_SHARES)),
    Kind("reports shuffled", _drawn(_FROM_THE_START, share=_SHARES)),
    Kind("reports late", _drawn(_FROM_THE_START, seconds=(0.7, 1.4), share=_SHARES)),
    Kind("reports never", _drawn(_FROM_THE_START, share=_SHARES)),
    Kind("reports before the answer", _drawn(_FROM_THE_START, share=_SHARES)),
    Kind("reports contradict", _drawn(_FROM_THE_START, share=_SHARES)),
    Kind("database restarted", _drawn(lasts=(0.05, 0.5)), (POSTGRESQL,), claims_are_lost=True),
    Kind("database connections cut", _drawn(), (POSTGRESQL,), claims_are_lost=True),
    Kind("disk full", _drawn(lasts=(0.3, 0.8)), (SQLITE,), claims_are_lost=True),
    Kind("database locked", _drawn(lasts=(0.4, 0.9)), (SQLITE,), claims_are_lost=True),
)


NO_LOOK_UPS = [{"kind": "lookups", "code": 503}]
"""The sandbox's rules while it cannot be asked about anything."""


def rules(fault: Fault) -> list[dict[str, Any]]:
    """Return the rules that the sandbox is to follow while a fault lasts; none: not its fault."""
    how = {name: value for name, value in fault.details.items() if value is not None}
    match fault.kind:
        case "gateway resets":
            return [{"kind": "reset", **how}]
        case "gateway closes":
            return [{"kind": "close", **how}]
        case "gateway hangs":
            slow = {"kind": "slow", "seconds": 2 * REQUEST_TIMEOUT, "share": how["share"]}
            return [slow, {"kind": "close", **how}]
        case "gateway throttles":
            return [{"kind": "status", "code": 429, **how}]
        case "gateway fails":
            return [{"kind": "status", **how}]
        case "gateway answers garbage":
            return [{"kind": "status", "body": "<html>Good morning</html>", **how}]
        case "reports before the answer":
            return [{"kind": "reports", "reports": "before_answer", **how}]
        case "reports doubled":
            return [{"kind": "reports", "reports": "double", **how}]
        case "reports contradict":
            return [{"kind": "reports", "reports": "contradict", **how}]
        case "reports shuffled" | "reports late" | "reports never":
            return [{"kind": "reports", "reports": fault.kind.removeprefix("reports "), **how}]
    return []
