"""Consent: who may be sent this purpose at this time, who later, who not, and by which rule.

Here: the order of the checks, judged once for each distinct case in an audience, and the
import into the consent ledger. Not here: single cases (tasks.consent_cases), the rules
(data.rules), hours (tasks.windows), what the ledger says (data.consent_ledger), the re-check at
the claim (data.ledger).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from data import consent_ledger, deferral, ledger
from data.consent_ledger import ConsentError
from data.database import writing
from data.rules import PURPOSES, RULES, Rule, Windows
from tasks import phones
from tasks.windows import intersection, open_span, zones_known

AUDIENCE_BASIS = "express"
"""The basis of consent that a row of the audience itself claims (opt_in is yes)."""


_Case = TypeVar("_Case")


class Person(NamedTuple):
    """What decides whether a message may be sent at any hour."""

    region: str
    valid: bool
    line_type: str
    opted_out: bool
    says_no: bool
    basis: str | None
    """None: no opt-in anywhere."""


class Place(NamedTuple):
    """What decides when it may be sent."""

    region: str
    zones: str


@dataclass(frozen=True)
class _Verdict:
    verdict: str
    outcome: str = ""
    reason: str = "ok"
    rule: str = ""
    opens_at: datetime | None = None
    closes_at: datetime | None = None


_SEND = _Verdict("send")


def evaluate(
    frame: pd.DataFrame,
    *,
    purpose: str,
    at: datetime,
    not_after: datetime | None,
    standing: pd.DataFrame | None,
    window: Windows | None = None,
) -> pd.DataFrame:
    """Judge every row as of `at`; the result has the index of `frame`.

    In: e164, valid (bool), line_type, region (ISO country), zones (comma-joined, empty where
    unknown), number_key, opt_in (yes, no or missing) and opt_in_at (UTC or missing) of the
    audience; `standing` as from `data.consent_ledger.standing`; `window` is the campaign's own.

    Out: verdict (send, defer, block), outcome (empty, invalid, suppressed, blocked), reason (ok,
    invalid_number, line_type, opted_out, audience_opt_out, no_consent, zone_unknown, quiet_hours,
    campaign_window, no_common_window, deadline), rule (the id of the row that stopped or deferred
    it), opens_at (UTC, of a deferred one), closes_at (UTC, where hours apply; not to be sent from
    then on without another look). Raises `ConsentError` for a purpose that does not exist.
    """
    judge = Judge(purpose, at, not_after, window)
    people, person_at = distinct(Person, personal_columns(frame, standing))
    places, place_at = distinct(Place, [frame["region"].fillna(""), frame["zones"].fillna("")])
    blocks = [judge.whether(person) for person in people]
    passed = np.array([block is None for block in blocks], dtype=bool)[person_at]
    verdicts = [block or _SEND for block in blocks] + [judge.when(place) for place in places]
    which = np.where(passed, len(blocks) + place_at, person_at)
    columns = {
        name: _spread([getattr(verdict, name) for verdict in verdicts], which)
        for name in ("verdict", "outcome", "reason", "rule")
    }
    for name in ("opens_at", "closes_at"):
        instants = pd.to_datetime([getattr(verdict, name) for verdict in verdicts], utc=True)
        columns[name] = pd.array(instants, dtype="datetime64[us, UTC]").take(which)
    return pd.DataFrame(columns, index=frame.index)


def _spread(values: list[str], which: npt.NDArray[np.int64]) -> Any:
    return pd.array(values, dtype="str").take(which)


# ------------------------------------------------------------------ from rows to cases


def distinct(
    kind: Callable[..., _Case], columns: list[pd.Series]
) -> tuple[list[_Case], npt.NDArray[np.int64]]:
    """The distinct rows of some columns, and for each row its place among them."""
    combined = np.zeros(len(columns[0]), dtype=np.int64)
    values: list[list[Any]] = []
    for column in columns:
        codes, uniques = pd.factorize(column, use_na_sentinel=False)
        combined = combined * len(uniques) + codes
        values.append([None if pd.isna(value) else value for value in uniques.tolist()])
    at, distinct = pd.factorize(combined)
    return [kind(*_fields(int(code), values)) for code in distinct], at.astype(np.int64)


def _fields(code: int, values: list[list[Any]]) -> list[Any]:
    fields = []
    for uniques in reversed(values):
        code, place = divmod(code, len(uniques))
        fields.append(uniques[place])
    return fields[::-1]


def personal_columns(frame: pd.DataFrame, standing: pd.DataFrame | None) -> list[pd.Series]:
    opted_out, basis = _ledger_columns(frame, standing)
    return [
        frame["region"].fillna(""),
        frame["valid"].astype(bool),
        frame["line_type"].fillna(""),
        opted_out,
        frame["opt_in"].eq("no"),
        basis.mask(basis.isna() & frame["opt_in"].eq("yes"), AUDIENCE_BASIS),
    ]


def _ledger_columns(
    frame: pd.DataFrame, standing: pd.DataFrame | None
) -> tuple[pd.Series, pd.Series]:
    """For each row whether it opted out, and the basis of its opt-in (missing without one)."""
    if standing is None or standing.empty:
        return pd.Series(False, index=frame.index), pd.Series(np.nan, frame.index, dtype="str")
    at = pd.Index(standing["number_key"]).get_indexer(pd.Index(frame["number_key"]))
    opted_out = standing["opted_out"].to_numpy(bool)[at] & (at >= 0)
    basis = standing["basis"].astype("str").array.take(at, allow_fill=True)
    return pd.Series(opted_out, index=frame.index), pd.Series(basis, index=frame.index)


# ------------------------------------------------------------------ one case


class Judge:
    """Applies the rules to single cases. The first rule that blocks decides; hours defer."""

    def __init__(
        self, purpose: str, at: datetime, not_after: datetime | None, campaign: Windows | None
    ) -> None:
        if purpose not in PURPOSES:
            raise ConsentError(f"{purpose!r} is no purpose: use one of {', '.join(PURPOSES)}")
        self.purpose, self.at, self.not_after, self.campaign = purpose, at, not_after, campaign
        self.consulted: list[Rule] = []
        """Every rule that had a say so far, in order."""

    def whether(self, person: Person) -> _Verdict | None:
        """What blocks at any hour; None where nothing does."""
        region = person.region
        for rule in self._rules("number_validity", region):
            if not person.valid:
                return _Verdict("block", "invalid", "invalid_number", rule.id)
        for rule in self._rules("line_type", region):
            if person.line_type in rule.line_types:
                return _Verdict("block", "blocked", "line_type", rule.id)
        for rule in self._rules("opt_out", region):
            if person.opted_out:
                return _Verdict("block", "suppressed", "opted_out", rule.id)
        for rule in self._rules("audience_opt_out", region):
            if person.says_no:
                return _Verdict("block", "suppressed", "audience_opt_out", rule.id)
        for rule in self._rules("consent_basis", region):
            if person.basis is None or not rule.accepts(person.basis):
                return _Verdict("block", "blocked", "no_consent", rule.id)
        return None

    def when(self, place: Place) -> _Verdict:
        """Send now, send later, or not at all because there is no such time."""
        windows, rule, reason = self._windows(place)
        opens_at, closes_at = self.at, None
        if windows is not None and rule is not None:
            for unknown in self._rules("zone_unknown", place.region):
                if not zones_known(place.zones):
                    return _Verdict("block", "blocked", "zone_unknown", unknown.id)
            span = open_span(place.zones, self.at, windows)
            if span is None:
                return _Verdict("block", "blocked", "no_common_window", rule.id)
            opens_at, closes_at = span
        for deadline in self._rules("deadline", place.region):
            if self.not_after is not None and opens_at >= self.not_after:
                return _Verdict("block", "blocked", "deadline", deadline.id)
        if opens_at <= self.at or rule is None:
            return _Verdict("send", closes_at=closes_at)
        return _Verdict("defer", "", reason, rule.id, opens_at, closes_at=closes_at)

    def _windows(self, place: Place) -> tuple[Windows | None, Rule | None, str]:
        """The hours that apply, and the rule and reason to name where they are closed."""
        windows, rule = None, None
        for rule in self._rules("sending_window", place.region):
            windows = _narrowed(windows, rule.windows)
        if self.campaign is None:
            return windows, rule, "quiet_hours"
        for narrower in self._rules("campaign_window", place.region):
            if windows is None or self._open(place.zones, windows):
                return _narrowed(windows, self.campaign), narrower, "campaign_window"
        return _narrowed(windows, self.campaign), rule, "quiet_hours"

    def _open(self, zones: str, windows: Windows) -> bool:
        span = open_span(zones, self.at, windows) if zones_known(zones) else None
        return span is not None and span.opens_at <= self.at

    def _rules(self, step: str, region: str) -> tuple[Rule, ...]:
        found = RULES.applying(step, region, self.purpose)
        self.consulted.extend(found)
        return found


def _narrowed(windows: Windows | None, other: Windows | None) -> Windows | None:
    if windows is None or other is None:
        return windows or other
    return intersection(windows, other)


def hours(
    country: str, zones: str, *, purpose: str, at: datetime, not_after: datetime | None
) -> deferral.Opening:
    """Ask again when somebody may be written to whose hours ended before their turn came."""
    verdict = Judge(purpose, at, not_after, None).when(Place(country, zones))
    return deferral.Opening(
        state={"send": ledger.QUEUED, "defer": ledger.DEFERRED}.get(
            verdict.verdict, verdict.outcome
        ),
        reason="" if verdict.verdict == "send" else verdict.reason,
        rule=verdict.rule,
        opens_at=verdict.opens_at,
        closes_at=verdict.closes_at,
    )


# ------------------------------------------------------------------ sms consent import


@dataclass
class Imported:
    """What became of a file's records: read = recorded + the number of rejects."""

    read: int
    recorded: int
    rejects: pd.DataFrame
    """row, column, reason"""


def import_consent(frames: Iterable[pd.DataFrame], *, default_country: str, name: str) -> Imported:
    """Add a file's opt-ins and opt-outs to the ledger, frame by frame.

    `frames` hold texts, indexed by record number, with the columns of
    `data.consent_ledger.read_import` and optionally country; `name` is the source of records that
    name none. A record of an unusable number is rejected. Importing a file twice changes no
    verdict. Raises `ConsentError` where a column is missing.
    """
    read, recorded, rejects = 0, 0, []
    for frame in frames:
        events, faults = consent_ledger.read_import(frame)
        country: pd.Series | str = default_country
        if "country" in frame:
            country = frame["country"].loc[events.index].fillna(default_country)
        found = phones.normalise(events["recipient"], country)
        bad = pd.DataFrame(
            {
                "row": events.index[~found["valid"]],
                "column": "recipient",
                "reason": "no valid number of its country; write it as +12015550123",
            }
        )
        events = events.assign(
            recipient=found["e164"], source=events["source"].where(events["source"] != "", name)
        )[found["valid"]]
        with writing() as connection:
            consent_ledger.append(connection, events)
        read, recorded = read + len(frame), recorded + len(events)
        rejects += [faults, bad]
    columns = ["row", "column", "reason"]
    told = pd.concat(rejects) if rejects else pd.DataFrame(columns=pd.Index(columns))
    return Imported(read, recorded, told.sort_values("row", ignore_index=True))
