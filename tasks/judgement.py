"""The judge: one situation against the rules, step by step; the first row that stops it decides.

Here: the order of the steps, and what a row of each step means. Not here: columns
(tasks.consent), how long consent lasts (tasks.consent_terms), hours in time zones (tasks.windows),
what the ledger says (data.consent_standing).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from data.consent_ledger import ConsentError
from data.rules import BASES, PURPOSES, Period, Rule, Windows, rules
from tasks.purpose import SERVICE, UNSPACED, is_promotional
from tasks.ruled_hours import RuledHours, hours_of, why_closed
from tasks.windows import Hours, open_span, zones_known

NO_CONSENT, EXPIRED, VALID = 0, 1, 2
"""What a person's consents come to: none that the place accepts, only ended ones, or enough."""

EXPRESS = ("express", "express_written")
_OUTCOMES = {
    "invalid_number": "invalid",
    "deactivated": "suppressed",
    "opted_out": "suppressed",
    "audience_opt_out": "suppressed",
}


@dataclass(frozen=True)
class Campaigning:
    """What a campaign brings to the judgement of its recipients."""

    window: Windows | None = None
    """Its own hours, inside those of the rules."""
    subject: str = ""
    """What it is about, for caps on one subject; "" is taken for every subject."""
    flags: frozenset[str] = frozenset()
    """Kinds of content; one that promotes (tasks.purpose) makes any purpose marketing."""
    text: str | None = None
    """The template, which must say how to opt out; None: not looked at."""
    moratoria: tuple[Rule, ...] = ()
    """Besides those of the rules."""


class Person(NamedTuple):
    """All that decides whether somebody may be written to at any hour."""

    country: str
    subdivisions: str
    """Joined by commas; `?` among them is an address that nobody can read."""
    valid: bool
    line_type: str
    reassigned: bool
    deactivated: bool
    opted_out: bool
    opted_out_of_any: bool
    says_no: bool
    """The audience's own no."""
    held: bool
    """A reply of theirs waits for a person."""
    listed: bool
    """In a do-not-contact register."""
    age_verified: bool
    sender: str
    """"": not looked at."""
    consent: int
    """NO_CONSENT, EXPIRED or VALID."""
    consent_rule: str
    """The row by which it is not enough; "": there is none at all."""
    bases: int
    """The bases of the consents that are valid, as `bits` of them."""
    confirmation: str
    """The reason why an opt-out is not to be confirmed."""


class Block(NamedTuple):
    """A message that is not sent, and the row that says so."""

    reason: str
    rule: str

    @property
    def outcome(self) -> str:
        """invalid, suppressed or blocked."""
        return _OUTCOMES.get(self.reason, "blocked")


class Slot(NamedTuple):
    """The first common opening: it may have begun."""

    opens_at: datetime
    closes_at: datetime | None
    """None: no hours apply."""
    reason: str
    """Why not before; "" where it may begin at once."""
    rule: str


class Terms(NamedTuple):
    """What a place makes of consent of one basis."""

    refused: str
    """The row to which it is not enough."""
    dated: str
    """The row that asks for its date."""
    limits: tuple[tuple[Period, bool, str], ...]
    """How long it lasts, whether from the last activity instead of its date, and by which row."""


def bits(bases: Iterable[str]) -> int:
    """Bases of consent as one number."""
    return sum(1 << BASES.index(basis) for basis in set(bases) if basis in BASES)


class Judge:
    """Applies the rules as of `at` to single situations. Raises `ConsentError` for no purpose.

    `assumed` takes any country without rows of its own for one that accepts every basis of consent
    and has no hours: for cases that say so.
    """

    def __init__(
        self,
        purpose: str,
        at: datetime,
        not_after: datetime | None,
        campaign: Campaigning,
        *,
        assumed: bool = False,
    ) -> None:
        if purpose not in PURPOSES:
            raise ConsentError(f"{purpose!r} is no purpose: use one of {', '.join(PURPOSES)}")
        self.stated_purpose = purpose
        self.purpose = "marketing" if any(map(is_promotional, campaign.flags)) else purpose
        """As it is judged."""
        self.at, self.not_after, self.campaign, self._assumed = at, not_after, campaign, assumed
        self._hours: dict[tuple[str, str], RuledHours] = {}
        self.consulted: dict[str, Rule] = {}
        """Every row that had a say so far, by id, in order."""

    def rows(self, step: str, country: str, subdivisions: str = "") -> tuple[Rule, ...]:
        """Return the rows of a step that are in force at a place."""
        return rules().applying(step, self.purpose, country, subdivisions.split(","), at=self.at)

    def consult(self, step: str, country: str, subdivisions: str = "") -> tuple[Rule, ...]:
        """Return the rows of a step that are in force at a place, and note that they were asked."""
        found = self.rows(step, country, subdivisions)
        self.consulted |= {row.id: row for row in found}
        return found

    def caps(self, country: str, subdivisions: str) -> tuple[Rule, ...]:
        """Return the frequency caps of a place."""
        return self.consult("frequency", country, subdivisions)

    def ended_by(self, country: str, subdivisions: str) -> str:
        """Return a row of a place by which consent ends, where nothing says which one it was."""
        found = self.rows("consent_basis", country, subdivisions)
        ends = [row.id for row in found if row.expiry or row.inactivity]
        return (*ends, *(row.id for row in found), "consent_basis")[0]

    def whether(self, person: Person) -> Block | None:
        """Return what blocks at any hour; None where nothing does."""
        for step, check in _CHECKS:
            found = self.consult(step, person.country, person.subdivisions)
            if block := check(self, person, found):
                return block
        return None

    def assumes(self, country: str) -> bool:
        """Whether the case says what the rules do not know of a country."""
        return self._assumed and not rules().knows(country, self.purpose, at=self.at)

    def moratoria(self, country: str, subdivisions: str) -> tuple[Rule, ...]:
        """Return the moratoria of a place that are in force or yet to come."""
        local = subdivisions.split(",")
        found = [
            row
            for row in rules().matching("moratorium", self.purpose, country, local)
            if row in self._in_force("moratorium", country, local, row.effective_from)
        ]
        found += [
            row
            for row in self.campaign.moratoria
            if self.purpose in row.purposes
            and (country in row.countries or "*" in row.countries)
            and (row.subdivision is None or row.subdivision in local)
        ]
        return tuple(found)

    def _in_force(
        self, step: str, country: str, local: list[str], begins: datetime | None
    ) -> tuple[Rule, ...]:
        """The rows of a step at `at`, or where that is later, when something begins."""
        at = self.at if begins is None else max(begins, self.at)
        return rules().applying(step, self.purpose, country, local, at=at)

    def terms(self, country: str, subdivisions: str, basis: str) -> Terms:
        """Return what the rows of a place make of consent of one basis."""
        refused, dated, limits = "", "", []
        if self.assumes(country):
            return Terms("", "", ())
        for row in self.rows("consent_basis", country, subdivisions):
            if not row.accepts(basis):
                refused = refused or row.id
            expiry = row.expiry.get(basis) or row.expiry.get("*")
            if row.dated:
                dated = dated or row.id
            limits += [(expiry, False, row.id)] if expiry else []
            limits += [(row.inactivity, True, row.id)] if row.inactivity else []
        return Terms(refused, dated, tuple(limits))

    # -------------------------------------------------------------- when

    def when(self, place: tuple[str, str], zones: str, start: datetime) -> Slot | Block:
        """Return the first opening at or after `start` that every zone and every row shares."""
        country, subdivisions = place
        legal = self._legal(country, subdivisions)
        own = () if self.campaign.window is None else (Hours(self.campaign.window),)
        hours = (*(each for _, each in legal), *own)
        unknown = self.rows("zone_unknown", country)[0]
        if (hours or self.purpose == "marketing") and not zones_known(zones):
            self.consulted[unknown.id] = unknown
            return Block("zone_unknown", unknown.id)
        if not hours:
            return Slot(start, None, "", "")
        self.consulted |= {row.id: row for row, _ in legal}
        campaign = self.consult("campaign_window", country)[0].id if own else ""
        span = open_span(zones, start, hours)
        if span is None:
            alone = tuple(each for _, each in legal)
            by_campaign = not alone or (own and open_span(zones, start, alone))
            return Block("no_common_window", campaign if by_campaign else legal[0][0].id)
        if span.opens_at <= start:
            return Slot(*span, "", "")
        return Slot(*span, *why_closed(zones, start, legal, campaign))

    def _legal(self, country: str, subdivisions: str) -> RuledHours:
        place = country, subdivisions
        if place not in self._hours:
            assumed = self.assumes(country)
            self._hours[place] = () if assumed else hours_of(self.purpose, *place, self.at)
        return self._hours[place]


# ------------------------------------------------------------------ the steps

_Rows = tuple[Rule, ...]
_Check = Callable[[Judge, Person, _Rows], Block | None]


def _where(reason: str, holds: Callable[[Person], bool]) -> _Check:
    """A step whose rows all say the same."""
    return lambda _, person, rows: Block(reason, rows[0].id) if rows and holds(person) else None


def _has(person: Person, bases: Iterable[str]) -> bool:
    """Whether a valid consent of theirs has one of some bases."""
    return bool(person.bases & bits(bases)) or ("*" in bases and person.consent == VALID)


def _line_type(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    for row in rows:
        if person.line_type in (*row.line_types, "", "unknown"):
            return Block("line_type", row.id)
    return None


def _moratorium(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    for row in judge.moratoria(person.country, person.subdivisions):
        if row.in_force(judge.at) and (row.overrides_consent or not _has(person, EXPRESS)):
            judge.consulted[row.id] = row
            return Block("moratorium", row.id)
    return None


def _unknown_place(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    if not rows or judge.assumes(person.country):
        return None
    if not rules().knows(person.country, judge.purpose, at=judge.at):
        return Block("unknown_country", rows[0].id)
    local = person.subdivisions.split(",")
    if rules().divides(person.country, judge.purpose) and ("" in local or "?" in local):
        return Block("unknown_subdivision", rows[0].id)
    return None


def _consent(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    if not rows or person.consent == VALID:
        return None
    if person.consent == EXPIRED:
        ended_by = judge.ended_by(person.country, person.subdivisions)
        return Block("consent_expired", person.consent_rule or ended_by)
    return Block("no_consent", person.consent_rule or rows[0].id)


def _registry(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    for row in rows:
        if person.listed and not _has(person, row.bases):
            return Block("registry_listed", row.id)
    return None


def _opt_out_text(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    text = judge.campaign.text
    for row in rows:
        if text is not None and not any(_says(text, word) for word in row.keywords):
            return Block("opt_out_text", row.id)
    return None


def _says(text: str, word: str) -> bool:
    # A word, but STOP36179 is how French texts name the number to answer to, and some scripts do
    # not part words.
    text, word = (unicodedata.normalize("NFKC", each).casefold() for each in (text, word))
    before = "" if re.match(f"[{UNSPACED}]", word) else rf"(?<![^\W{UNSPACED}])"
    behind = "" if re.search(f"[{UNSPACED}]$", word) else rf"(?![^\W\d_{UNSPACED}])"
    return re.search(before + re.escape(word) + behind, text) is not None


_CONTENT = {
    "prohibited": "content_prohibited",
    "registration": "registration_required",
    "age_gate": "age_gate",
}


def _content(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    for flag in sorted(judge.campaign.flags):
        if is_promotional(flag):
            continue
        named = [row for row in rows if flag in row.flags]
        if not named and judge.purpose in SERVICE and not _is_known(flag):
            return _unknown_content(judge, person)
        for row in named or [row for row in rows if "*" in row.flags]:
            reason = _CONTENT.get(row.effect or "", "")
            if reason and not (row.effect == "age_gate" and person.age_verified):
                return Block(reason, row.id)
    return None


def _is_known(flag: str) -> bool:
    return any(flag in row.flags for row in rules().rows)


def _unknown_content(judge: Judge, person: Person) -> Block:
    """What marketing may not say because nobody has looked at it, a service message may not."""
    local = person.subdivisions.split(",")
    found = rules().applying("content", "marketing", person.country, local, at=judge.at)
    asked = {row.id: row for row in found if "*" in row.flags}
    judge.consulted |= asked
    return Block("content_prohibited", next(iter(asked), "content"))


def _sender(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    for row in rows:
        if person.sender and not re.fullmatch(row.sender or "", person.sender):
            return Block("sender_id", row.id)
    return None


def _confirmation(judge: Judge, person: Person, rows: _Rows) -> Block | None:
    return Block(person.confirmation, rows[0].id) if rows and person.confirmation else None


_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("number_validity", _where("invalid_number", lambda person: not person.valid)),
    ("line_type", _line_type),
    ("reassigned", _where("reassigned", lambda person: person.reassigned)),
    ("deactivated", _where("deactivated", lambda person: person.deactivated)),
    ("moratorium", _moratorium),
    ("opt_out", _where("opted_out", lambda person: person.opted_out)),
    ("revoke_all", _where("opted_out", lambda person: person.opted_out_of_any)),
    ("audience_opt_out", _where("audience_opt_out", lambda person: person.says_no)),
    ("reply_review", _where("reply_review", lambda person: person.held)),
    ("unknown_place", _unknown_place),
    ("consent_basis", _consent),
    ("registry", _registry),
    ("opt_out_text", _opt_out_text),
    ("content", _content),
    ("sender", _sender),
    ("confirmation", _confirmation),
)
"""In the order of `data.rules.STEPS`; frequency and hours come after them (tasks.consent)."""
