"""The pace of a lane (a gateway and sender): one ledger row, shared by every sender of it.

The row holds the rate in force and when the next message may leave. Not here: who sets the rate
(`flows.watch`, from the Prefect concurrency limit) and the spacing inside a window
(`tasks.pacing`).
"""

from dataclasses import dataclass

from sqlalchemy import select, text, update
from sqlmodel import col

from data.database import clock, reading, writing
from data.tables import PaceLane

HEADROOM = 0.015
"""Part of the rate that is left unused. Messages that leave some milliseconds late then never make
a second of the gateway's clock fuller than its rate: this much of a second is how late they may be
(`tasks.pacing`)."""
HELD_WAIT = 1.0
"""Seconds until it is worth asking again about a lane whose rate is 0."""
HELD_MOST = 30.0
"""Seconds that a gateway that throttles holds a lane at once, at most."""
_LONGEST = 20
"""Segments of a message, and some more: the widest gap between two reservations."""
WINDOW = 1.0
"""Seconds of the rate that are reserved at once, at most."""
HORIZON = 0.4
"""Seconds ahead that may be reserved: enough to claim a window while the one before it leaves. More
would be in the way of a sender that is late, and of a new rate."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Sending time on a lane, or how long to wait before asking again."""

    wait: float
    """Seconds from now until the first slot, or until it is worth asking again."""
    spacing: float = 0
    """Seconds between one message (or segment) and the next; 0: nothing was reserved."""
    end: float = 0
    """When the last slot ends, by the database's clock: names the reservation."""

    @property
    def reserved(self) -> bool:
        """Whether there are slots; otherwise the lane is full for the moment, or held."""
        return self.spacing > 0


def lane_of(gateway: str, sender: str) -> str:
    """Name the lane of a gateway and sender."""
    return f"{gateway}|{sender}"


def set_rate(lane: str, rate: float) -> None:
    """Set how many messages (or segments) a second may leave by a lane; 0 holds it."""
    with writing() as connection:
        # What can be reserved already ends before that: a slow lane need not sit its gap out.
        soon = clock(connection).timestamp() + HORIZON + WINDOW
        connection.execute(_SET_RATE, {"lane": lane, "rate": rate, "soon": soon})


_SET_RATE = text(
    """
    INSERT INTO pace_lane (lane, next_at, rate) VALUES (:lane, 0, :rate)
    ON CONFLICT (lane) DO UPDATE SET
        rate = excluded.rate,
        next_at = CASE WHEN pace_lane.next_at > :soon THEN :soon ELSE pace_lane.next_at END
    WHERE pace_lane.rate <> excluded.rate
    """
)


def rate_of(lane: str) -> float:
    """Return the rate in force of a lane; 0 where none was ever set."""
    with reading() as connection:
        found = connection.execute(
            select(col(PaceLane.rate)).where(col(PaceLane.lane) == lane)
        ).scalar_one_or_none()
    return float(found or 0)


def reserve(lane: str, units: float) -> Slots:
    """Reserve slots for so many messages (or segments) on a lane.

    Nothing is reserved further ahead than HORIZON. Idle time is not saved up, so a lane never opens
    with a burst. Times are the database's, so that hosts with different clocks share a lane.
    """
    mine = col(PaceLane.lane) == lane
    with writing() as connection:
        found = connection.execute(
            select(col(PaceLane.next_at), col(PaceLane.rate)).where(mine).with_for_update()
        ).one_or_none()
        if found is None or found.rate <= 0:
            return Slots(HELD_WAIT)
        now = clock(connection).timestamp()
        # Further ahead than can be right: the clock was set back.
        ahead = found.next_at - now > HELD_MOST + _LONGEST / found.rate
        start = now if ahead else max(found.next_at, now)
        if start > now + HORIZON:
            return Slots(start - now - HORIZON)
        spacing = 1 / (found.rate * (1 - HEADROOM))
        end = start + units * spacing
        connection.execute(update(PaceLane).where(mine).values(next_at=end))
    return Slots(start - now, spacing, end)


def extend(lane: str, end: float, seconds: float) -> float | None:
    """Move the end of a reservation, whose sender is late, by so much; return the new end.

    None: another sender has reserved what follows, so slots that have passed are lost.
    """
    with writing() as connection:
        moved = connection.execute(
            update(PaceLane)
            .where(col(PaceLane.lane) == lane, col(PaceLane.next_at) == end)
            .values(next_at=end + seconds)
        )
    return end + seconds if moved.rowcount else None


def hold(lane: str, seconds: float) -> None:
    """Let nothing leave by a lane for so long: its gateway has asked us to wait."""
    with writing() as connection:
        until = clock(connection).timestamp() + min(seconds, HELD_MOST)
        connection.execute(
            update(PaceLane)
            .where(col(PaceLane.lane) == lane, col(PaceLane.next_at) < until)
            .values(next_at=until)
        )
