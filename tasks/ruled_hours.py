"""Hours as the rules have them: which rows apply to a place, when, and which of them is closed.

Not here: instants and zones (tasks.windows), what follows for a recipient (tasks.judgement).
"""

from datetime import datetime

from data.rules import Rule, rules
from tasks.windows import Hours, is_closed_day, open_span

RuledHours = tuple[tuple[Rule, Hours], ...]


def hours_of(purpose: str, country: str, subdivisions: str, at: datetime) -> RuledHours:
    """Return the rows with hours that apply to a place from `at` on, and how long.

    `subdivisions` are joined by commas. A row comes once for every change of the rows meanwhile.
    """
    local = subdivisions.split(",")
    rows = [
        *rules().matching("sending_window", purpose, country, local),
        *rules().matching("sending_window", purpose, "*"),
    ]
    dates = {each for row in rows for each in (row.effective_from, row.effective_to) if each}
    changes = sorted(each for each in dates if each > at)
    found = []
    for begins, ends in zip([at, *changes], [*changes, None], strict=True):
        for row in rules().applying("sending_window", purpose, country, local, at=begins):
            if row.windows is not None:
                since = None if begins == at else begins
                found.append((row, Hours(row.windows, row.holidays, since, ends)))
    return tuple(found)


def why_closed(zones: str, start: datetime, legal: RuledHours, campaign: str) -> tuple[str, str]:
    """Return why nothing is open at `start`, and by which row; `campaign` is that of its window."""
    shut = [row.id for row, hours in legal if not _is_open(zones, start, (hours,))]
    if not shut:
        return "campaign_window", campaign
    for row, hours in legal:
        if row.id in shut and is_closed_day(zones, start, (hours,)):
            return "day_not_allowed", row.id
    return "quiet_hours", shut[0]


def _is_open(zones: str, at: datetime, hours: tuple[Hours, ...]) -> bool:
    span = open_span(zones, at, hours)
    return span is not None and span.opens_at <= at
