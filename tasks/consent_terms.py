"""What single people bring, in columns: how long their consent lasts, and when a cap is free again.

Here: arithmetic of dates that differ from person to person. Not here: which basis is enough where
and which caps apply (tasks.judgement), the order of the steps (tasks.consent).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.rules import Period, Rule, rules
from tasks.judgement import EXPIRED, NO_CONSENT, VALID, Terms, bits

Ints = npt.NDArray[np.int64]

NEVER = np.iinfo(np.int64).max
"""Later than every instant. Instants are microseconds of Unix time."""
UNKNOWN = np.iinfo(np.int64).min
"""The instant of what has no date, as pandas stores it."""


def instants(column: Any) -> Ints:
    """A column of UTC instants in microseconds of Unix time, `UNKNOWN` where missing."""
    times = pd.DatetimeIndex(pd.to_datetime(column, utc=True)).as_unit("us")
    return np.asarray(times.asi8, np.int64)


def column(times: Ints) -> Any:
    """Instants as an array of `datetime64[us, UTC]`; those that are no date are missing."""
    known = np.where((times == NEVER) | (times == UNKNOWN), UNKNOWN, times)
    return pd.DatetimeIndex(known.view("datetime64[us]")).tz_localize("UTC").array


def distinct(*columns: Any) -> tuple[Ints, list[Any]]:
    """For each row its place among the distinct rows of some columns, and those rows."""
    size = len(columns[0])
    combined, kinds = np.zeros(size, np.int64), 1
    for each in columns:
        codes, uniques = pd.factorize(each)
        if kinds * max(len(uniques), 1) > NEVER:
            combined, kinds = pd.factorize(combined)[0], size
        combined, kinds = combined * len(uniques) + codes, kinds * len(uniques)
    at, found = pd.factorize(combined)
    first = np.zeros(len(found), np.int64)
    first[at[::-1]] = np.arange(size)[::-1]
    values = [pd.Series(each).iloc[first].tolist() for each in columns]
    return at.astype(np.int64), list(zip(*values, strict=True))


def later(times: Ints, period: Period) -> Ints:
    """Known instants and a length of time, as people count it: 31 August and P6M is 28 February."""
    dates = pd.DatetimeIndex(times.view("datetime64[us]")) + period.offset
    return np.asarray(dates.as_unit("us").asi8, np.int64)


@dataclass(frozen=True)
class Given:
    """Consents of rows, several to a row: of the ledger, and what the audience itself says."""

    row: Ints
    """Position of the row."""
    basis: pd.Series
    occurred: Ints
    active: Ints
    """Of the person's last opt-in or purchase."""
    ends: Ints | None = None
    """Of what was accepted before: when it ends. None: the terms of the place say."""


@dataclass(frozen=True)
class Consents:
    """What they come to, one entry for each row."""

    state: Ints
    """NO_CONSENT, EXPIRED or VALID."""
    ends: Ints
    """Of the valid one that lasts longest; NEVER where it does not end."""
    rule: Ints
    """The row by which it ends, or is not enough: its place in `names`."""
    names: list[str]
    bases: Ints
    """`bits` of the valid ones."""


def weigh(
    given: Sequence[Given],
    size: int,
    at: int,
    place: Ints,
    terms: Callable[[int, str], Terms],
) -> Consents:
    """Judge all consents of all rows. `terms` answers for the number of a place and a basis."""
    # In the order of their names, so that a tie is decided alike in every audience.
    names = ["", *sorted(row.id for row in rules().rows if row.step == "consent_basis")]
    parts = [_judged(each, at, place, terms, names) for each in given if len(each.row)]
    row, state, ends, rule, bases = (
        np.concatenate([part[n] for part in parts]) if parts else np.zeros(0, np.int64)
        for n in range(5)
    )
    # The last of each row's: valid before expired, then the longest.
    order = np.lexsort((rule, ends, state, row))
    # Rows count from 0: one before them all ends the last.
    best = order[np.diff(row[order], append=-1) != 0]
    found = Consents(
        np.full(size, NO_CONSENT, np.int64),
        np.full(size, NEVER, np.int64),
        np.zeros(size, np.int64),
        names,
        np.zeros(size, np.int64),
    )
    found.state[row[best]] = state[best]
    found.ends[row[best]] = ends[best]
    found.rule[row[best]] = rule[best]
    valid = state == VALID
    np.bitwise_or.at(found.bases, row[valid], bases[valid])
    return found


def _judged(
    given: Given, at: int, place: Ints, terms: Callable[[int, str], Terms], names: list[str]
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Of each consent its row, state, end, rule and bit."""
    basis, bases = pd.factorize(given.basis.fillna("").astype("str"))
    bit = np.array([bits([name]) for name in bases], np.int64).take(basis)
    if given.ends is not None:
        state = np.where(given.ends > at, VALID, EXPIRED)
        return given.row, state, given.ends, np.zeros(len(state), np.int64), bit
    pair, pairs = pd.factorize(place[given.row] * len(bases) + basis)
    asked = [terms(each // len(bases), str(bases[each % len(bases)])) for each in pairs.tolist()]

    def codes(found: Iterable[str]) -> Ints:
        return np.array([names.index(name) for name in found], np.int64).take(pair)

    rule = codes(each.refused for each in asked)
    undated = (rule == 0) & (given.occurred == UNKNOWN)
    rule = np.where(undated, codes(each.dated for each in asked), rule)
    ends, ended_by = np.full(len(pair), NEVER, np.int64), np.zeros(len(pair), np.int64)
    for limit in {limit[:2]: None for each in asked for limit in each.limits}:
        period, by_activity = limit
        says = codes(
            # Of several rows that say the same, the first stands for all.
            next((by for *what, by in each.limits if tuple(what) == limit), "")
            for each in asked
        )
        start = given.active if by_activity else given.occurred
        rule = np.where((rule == 0) & (start == UNKNOWN), says, rule)
        limited = np.flatnonzero((says > 0) & (start != UNKNOWN))
        end = later(start[limited], period)
        sooner = end < ends[limited]
        ends[limited[sooner]] = end[sooner]
        ended_by[limited[sooner]] = says[limited[sooner]]
    state = np.where(rule > 0, NO_CONSENT, np.where(ends > at, VALID, EXPIRED))
    return given.row, state, ends, np.where(rule > 0, rule, ended_by), bit


# ------------------------------------------------------------------ caps


def free_from(
    keys: pd.Series,
    capped: Sequence[tuple[Rule, npt.NDArray[np.bool_]]],
    prior: pd.DataFrame | None,
    subject: str,
    at: int,
) -> tuple[Ints, Ints]:
    """When each row is under all its caps, not before `at`, and the cap that is free last.

    `capped` holds each cap with the rows it applies to; the one that is free last is named by its
    position there, -1 where all are free. `prior` has the columns number_key, subject and sent_at.
    A send without a subject counts for every subject, and every send for no subject.
    """
    free, by = np.full(len(keys), at, np.int64), np.full(len(keys), -1, np.int64)
    if prior is None or prior.empty:
        return free, by
    sent, known = instants(prior["sent_at"]), prior["number_key"].notna().to_numpy(bool)
    same = prior["subject"].fillna("").isin([subject, ""]).to_numpy(bool) | (subject == "")
    for n, (rule, applies) in enumerate(capped):
        if rule.cap is None:
            continue
        until = later(sent, rule.cap.per)
        counts = (until > at) & (same | (rule.cap.scope == "all")) & known
        sends = pd.DataFrame({"key": prior["number_key"][counts], "until": until[counts]})
        latest = sends.sort_values("until", ascending=False)
        # When that many remain, minus one: the oldest of the last so many must go.
        last = latest[latest.groupby("key").cumcount() == rule.cap.max - 1]
        where = pd.Index(last["key"]).get_indexer(pd.Index(keys))
        frees = np.append(last["until"].to_numpy(np.int64), at)[where]
        longer = applies & (frees > free)
        free, by = np.where(longer, frees, free), np.where(longer, n, by)
    return free, by
