"""When those whom nothing blocks may be written to: caps, hours, and what ends before they open.

Here: columns. Not here: the opening of one place (tasks.judgement), dates of single people
(tasks.consent_terms).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.consent_terms import NEVER, Ints, distinct, free_from
from tasks.judgement import EXPRESS, Block, Judge, Slot, bits

Told = tuple[str, str, str, str]
"""Verdict, outcome, reason and rule."""
SEND: Told = ("send", "", "ok", "")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(at: datetime) -> int:
    """An instant in microseconds of Unix time."""
    return (at - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Waiting:
    """Rows that nothing blocks."""

    number_key: pd.Series
    zones: pd.Series
    place: Ints
    """Position of country and subdivisions among `places`."""
    places: list[tuple[str, str]]
    consent_ends: Ints
    """NEVER where it does not end."""
    ended_by: npt.NDArray[np.object_]
    """The row by which it ends, where one says so."""
    bases: Ints


@dataclass
class Timed:
    """What becomes of them, entry for entry."""

    told: list[Told]
    which: Ints
    """Position in `told`."""
    opens_at: Ints
    """Of the deferred ones; else NEVER."""
    closes_at: Ints
    caps: list[str]
    """Of each place the ids of the caps that apply: `,id,id,`."""

    @property
    def is_blocked(self) -> npt.NDArray[np.bool_]:
        """Whether each has a verdict of block."""
        return np.array([each[0] == "block" for each in self.told], bool)[self.which]


def place_in_time(judge: Judge, waiting: Waiting, prior: pd.DataFrame | None) -> Timed:
    """Find the first instant at which each row may be written to.

    `prior` as of `consent_terms.free_from`.
    """
    at, place = micros(judge.at), waiting.place
    present = set(np.unique(place).tolist())
    caps = [judge.caps(*each) if n in present else () for n, each in enumerate(waiting.places)]
    rows = {row.id: row for found in caps for row in found}
    capped = [
        (row, np.array([row in found for found in caps], bool)[place]) for row in rows.values()
    ]
    start, cap = free_from(waiting.number_key, capped, prior, judge.campaign.subject, at)
    spot, spots = distinct(place, waiting.zones, start)
    slots = [judge.when(waiting.places[n], zones, _instant(begin)) for n, zones, begin in spots]
    opens = np.array([_opens(slot) for slot in slots], np.int64)[spot]
    closes = np.array([_closes(slot) for slot in slots], np.int64)[spot]
    timed = Timed(
        [_told(slot) for slot in slots], spot, opens, closes, [_joined(each) for each in caps]
    )
    late = start > at
    for n, (row, _) in enumerate(capped):
        _overrule(timed, late & (cap == n), ("defer", "", "frequency_cap", row.id))
    _stop(judge, waiting, timed)
    is_deferred = np.array([each[0] == "defer" for each in timed.told], bool)[timed.which]
    timed.opens_at = np.where(is_deferred, opens, NEVER)
    timed.closes_at = np.where(timed.is_blocked, NEVER, np.minimum(closes, waiting.consent_ends))
    return timed


def _instant(moment: int) -> datetime:
    return _EPOCH + timedelta(microseconds=moment)


def _opens(slot: Slot | Block) -> int:
    return NEVER if isinstance(slot, Block) else micros(slot.opens_at)


def _closes(slot: Slot | Block) -> int:
    return NEVER if isinstance(slot, Block) or slot.closes_at is None else micros(slot.closes_at)


def _told(slot: Slot | Block) -> Told:
    if isinstance(slot, Block):
        return ("block", slot.outcome, *slot)
    return ("defer", "", slot.reason, slot.rule) if slot.reason else SEND


def _joined(rows: Any) -> str:
    return f",{','.join(row.id for row in rows)}," if rows else ""


def _overrule(timed: Timed, which: npt.NDArray[np.bool_], told: Told) -> None:
    """Say something else of rows, unless they are blocked."""
    if which.any():
        timed.which = np.where(which & ~timed.is_blocked, len(timed.told), timed.which)
        timed.told.append(told)


def _stop(judge: Judge, waiting: Waiting, timed: Timed) -> None:
    """Block what opens only when a moratorium has begun, the consent or the time has run out."""
    opens, place = timed.opens_at, waiting.place
    for n in np.unique(place).tolist():
        for row in judge.moratoria(*waiting.places[n]):
            begins = -NEVER if row.effective_from is None else micros(row.effective_from)
            ends = NEVER if row.effective_to is None else micros(row.effective_to)
            stops = (place == n) & (opens >= begins) & (opens < ends)
            if not row.overrides_consent:
                stops &= (waiting.bases & bits(EXPRESS)) == 0
            if stops.any():
                judge.consulted[row.id] = row
            _overrule(timed, stops, ("block", "blocked", "moratorium", row.id))
    over = np.flatnonzero((waiting.consent_ends <= opens) & (opens < NEVER))
    if len(over):
        which, ended = distinct(place[over], waiting.ended_by[over])
        for n, (at, rule) in enumerate(ended):
            named = rule or judge.ended_by(*waiting.places[at])
            stops = np.zeros(len(place), bool)
            stops[over[which == n]] = True
            _overrule(timed, stops, ("block", "blocked", "consent_expired", named))
    if judge.not_after is not None:
        end = micros(judge.not_after)
        for n in np.unique(place).tolist():
            country = waiting.places[n][0]
            stops = (place == n) & (opens >= end) & (opens < NEVER)
            rule = judge.consult("deadline", country)[0].id
            _overrule(timed, stops, ("block", "blocked", "deadline", rule))
