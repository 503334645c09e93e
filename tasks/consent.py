"""Consent: who may be sent this purpose at this time, who later, who not, and by which rule.

Here: the columns of an audience, judged once for each distinct situation in it. Not here: one
situation (tasks.judgement), dates of single people (tasks.consent_terms), single cases
(tasks.consent_cases), rules (data.rules), what the ledger says (data.consent_standing), the
re-check at the claim (data.recheck).
"""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.consent_ledger import Standing
from tasks.consent_terms import (
    NEVER,
    UNKNOWN,
    Consents,
    Given,
    Ints,
    column,
    distinct,
    instants,
    weigh,
)
from tasks.consent_times import SEND, Waiting, micros, place_in_time
from tasks.judgement import Campaigning, Judge, Person

__all__ = ["Campaigning", "evaluate", "judged"]

AUDIENCE_BASES = {"marketing": "express_written"}
"""What the audience's yes rests on where the campaign says nothing; else express."""

CONFIRMED_WITHIN = timedelta(minutes=5)
"""How late an opt-out may be confirmed: 47 CFR 64.1200(a)(12)."""

_NOBODY = Standing(
    pd.DataFrame(
        {
            "number_key": pd.Series(dtype="str"),
            "opted_out": pd.Series(dtype=bool),
            "opted_out_of_any": pd.Series(dtype=bool),
            "opt_out_at": pd.Series(dtype="datetime64[us, UTC]"),
            "deactivated": pd.Series(dtype=bool),
            "registry": pd.Series(dtype="str"),
        }
    ),
    pd.DataFrame(
        {
            "number_key": pd.Series(dtype="str"),
            "basis": pd.Series(dtype="str"),
            "occurred_at": pd.Series(dtype="datetime64[us, UTC]"),
            "last_active": pd.Series(dtype="datetime64[us, UTC]"),
        }
    ),
)

_PARTS = ("verdict", "outcome", "reason", "rule")


def evaluate(
    frame: pd.DataFrame,
    *,
    purpose: str,
    at: datetime,
    not_after: datetime | None,
    standing: Standing | None,
    campaign: Campaigning | None = None,
    prior: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Judge every row as of `at`; the result has the index of `frame`.

    In, of each number: e164, valid (bool), line_type, region (ISO country), subdivisions and zones
    (comma-joined, "" where unknown), number_key; where an audience speaks: opt_in (yes, no or
    missing) and opt_in_at (UTC or missing); where there are such columns basis (what its yes rests
    on), age_verified (yes, no or missing), sender, reassigned and held (bool: the number has a new
    owner, a reply waits for a person) and confirmations_sent (a number, since the opt-out). With
    a column consent_ends_at the rows were accepted before: their consent lasts until then (missing:
    for ever), and what the ledger has besides. `standing` is of `campaign`'s purpose as it is
    judged (`Judge.purpose`); `prior` holds number_key, subject and sent_at (UTC) of what counts for
    caps.

    Out: verdict (send, defer, block), outcome (empty, invalid, suppressed, blocked), reason (ok,
    or why), rule (the id of the row that stopped or deferred it), opens_at (UTC, of a deferred
    one), closes_at (UTC; not to be sent from then on without another look), consent_ends_at (UTC,
    where its consent ends), caps (`,id,id,`: all that apply; "" of a blocked one). Raises
    `ConsentError` for a purpose that does not exist.
    """
    return judged(frame, Judge(purpose, at, not_after, campaign or Campaigning()), standing, prior)


def judged(
    frame: pd.DataFrame, judge: Judge, standing: Standing | None, prior: pd.DataFrame | None
) -> pd.DataFrame:
    """Do what `evaluate` does with a judge of one's own, which knows afterwards what it asked."""
    at = micros(judge.at)
    places: list[tuple[str, str]]
    place, places = distinct(_text(frame, "region"), _text(frame, "subdivisions"))
    ledger = standing or _NOBODY
    keys = pd.Index(ledger.people["number_key"])
    person = keys.get_indexer(pd.Index(frame["number_key"]))
    consents = weigh(
        [_recorded(ledger, keys, person), _claimed(frame, judge, ledger.people, person)],
        len(frame),
        at,
        place,
        lambda number, basis: judge.terms(*places[number], basis),
    )
    situation, people = distinct(*_person_columns(frame, judge, ledger.people, person, consents))
    blocks = [judge.whether(Person(*each)) for each in people]
    passed = np.flatnonzero(np.array([each is None for each in blocks], bool)[situation])
    rule = np.array(consents.names, object).take(consents.rule[passed])
    waiting = Waiting(
        frame["number_key"].iloc[passed],
        _text(frame, "zones").iloc[passed],
        place[passed],
        places,
        consents.ends[passed],
        rule,
        consents.bases[passed],
    )
    timed = place_in_time(judge, waiting, prior)
    told = [("block", each.outcome, *each) if each else SEND for each in blocks]
    which = situation.copy()
    which[passed] = len(told) + timed.which
    told += timed.told
    found = {
        name: pd.array([each[n] for each in told], dtype="str").take(which)
        for n, name in enumerate(_PARTS)
    }
    times = {
        "opens_at": timed.opens_at,
        "closes_at": timed.closes_at,
        "consent_ends_at": np.where(timed.is_blocked, NEVER, waiting.consent_ends),
    }
    for name, known in times.items():
        whole = np.full(len(frame), NEVER, np.int64)
        whole[passed] = known
        found[name] = column(whole)
    caps = np.full(len(frame), len(places), np.int64)
    caps[passed] = waiting.place
    found["caps"] = pd.array([*timed.caps, ""], dtype="str").take(caps)
    return pd.DataFrame(found, index=frame.index)


# ------------------------------------------------------------------ what is known of each row


def _text(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame:
        return pd.Series("", index=frame.index, dtype="str")
    return frame[name].astype("str").fillna("")


def _flag(frame: pd.DataFrame, name: str) -> npt.NDArray[np.bool_]:
    if name not in frame:
        return np.zeros(len(frame), bool)
    return frame[name].fillna(False).to_numpy(bool)


def _recorded(ledger: Standing, keys: pd.Index, person: Ints) -> Given:
    """The ledger's consents, once for each row of the number."""
    told = ledger.consents
    rows = pd.DataFrame({"person": person, "row": np.arange(len(person))})
    found = rows[person >= 0].merge(
        pd.DataFrame(
            {
                "person": keys.get_indexer(pd.Index(told["number_key"])),
                "basis": told["basis"].array,
                "occurred": instants(told["occurred_at"]),
                "active": instants(told["last_active"]),
            }
        ),
        on="person",
    )
    row, occurred, active = (found[name].to_numpy(np.int64) for name in _CONSENT_NUMBERS)
    return Given(row, found["basis"], occurred, active)


_CONSENT_NUMBERS = ("row", "occurred", "active")


def _claimed(frame: pd.DataFrame, judge: Judge, people: pd.DataFrame, person: Ints) -> Given:
    """What the audience itself says, or what was accepted before."""
    stated = _text(frame, "basis")
    basis = stated.where(stated != "", AUDIENCE_BASES.get(judge.stated_purpose, "express"))
    if "consent_ends_at" in frame:
        ends = instants(frame["consent_ends_at"])
        ends = np.where(ends == UNKNOWN, NEVER, ends)
        return Given(np.arange(len(frame)), basis, ends, ends, ends)
    if "opt_in" not in frame:
        return Given(np.empty(0, np.int64), basis.iloc[:0], *[np.empty(0, np.int64)] * 2)
    says = _text(frame, "opt_in")
    # A list of customers is one of people who gave the number for it.
    yes = says.eq("yes") if judge.purpose == "marketing" else says.isin(["yes", ""])
    # Nobody has agreed tomorrow: a clock or a zone is wrong.
    since = np.minimum(instants(frame["opt_in_at"]), micros(judge.at))
    if "revoked_at" in people:
        revoked = _of(instants(people["revoked_at"]), person, UNKNOWN)
        yes &= (revoked == UNKNOWN) | (since > revoked)
    row = np.flatnonzero(yes.to_numpy(bool))
    return Given(row, basis.iloc[row], since[row], since[row])


def _of(values: Any, person: Ints, missing: Any) -> Any:
    """Values of people for each row; `missing` where the ledger does not know the number."""
    return np.append(values, np.array([missing], values.dtype))[person]


def _person_columns(
    frame: pd.DataFrame,
    judge: Judge,
    people: pd.DataFrame,
    person: Ints,
    consents: Consents,
) -> list[Any]:
    """The columns of `Person`."""

    def known(name: str) -> Any:
        return _of(people[name].to_numpy(bool), person, False)

    listed = _of(people["registry"].eq("listed").to_numpy(bool), person, False)
    of_any = known("opted_out_of_any")
    confirmation = pd.Series("", index=frame.index, dtype="str")
    if judge.purpose == "optout_confirmation":
        since = _of(instants(people["opt_out_at"]), person, UNKNOWN)
        fresh = (since != UNKNOWN) & (since >= micros(judge.at - CONFIRMED_WITHIN))
        sent = _flag(frame, "confirmations_sent")
        confirmation = (
            confirmation.mask(~fresh, "confirmation_too_late")
            .mask(sent, "confirmation_already_sent")
            .mask(~(of_any | known("opted_out")), "nothing_to_confirm")
        )
    return [
        _text(frame, "region"),
        _text(frame, "subdivisions"),
        _flag(frame, "valid"),
        _text(frame, "line_type"),
        _flag(frame, "reassigned"),
        known("deactivated"),
        known("opted_out"),
        of_any,
        _text(frame, "opt_in").eq("no").to_numpy(bool),
        _flag(frame, "held"),
        listed,
        _text(frame, "age_verified").eq("yes").to_numpy(bool),
        _text(frame, "sender"),
        consents.state,
        pd.array(consents.names, dtype="str").take(consents.rule),
        consents.bases,
        confirmation,
    ]
