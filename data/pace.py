"""The reservation of sending time: one ledger row a lane, shared by every sender of it."""

from sqlalchemy import text

from data.database import writing

_RESERVE = text(
    """
    INSERT INTO pace_lane (lane, next_at) VALUES (:lane, :now + :span)
    ON CONFLICT (lane) DO UPDATE SET next_at =
        CASE WHEN pace_lane.next_at > :now THEN pace_lane.next_at ELSE :now END + :span
    RETURNING next_at
    """
)


def reserve(lane: str, messages: int, rate: float, now: float) -> float:
    """Reserve the time that `messages` take at `rate` a second; return when it begins (Unix time).

    Idle time is not saved up, so a lane never opens with a burst.
    """
    span = messages / rate
    with writing() as connection:
        ends: float = connection.execute(
            _RESERVE, {"lane": lane, "now": now, "span": span}
        ).scalar_one()
    return ends - span
