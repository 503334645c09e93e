"""The consent rules in force: which rows apply to whom, where and when.

Here: the rows of the product and of a company together, found by step, purpose and place. Not
here: the shape of a row (data.rule_rows), reading the files (data.rule_files), what a row decides
for a recipient (tasks.consent). How to add a row: `data/rules/README.md`.
"""

import hashlib
from collections.abc import Collection, Iterable
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from data.geography import country_codes, subdivision_codes
from data.rule_files import RulesError, read_rows
from data.rule_rows import (
    BASES,
    PURPOSES,
    STEPS,
    WEEKDAYS,
    Cap,
    Period,
    Purpose,
    Rule,
    Step,
    Windows,
    daily_window,
    parse_windows,
)
from data.settings import settings

__all__ = [
    "BASES",
    "PURPOSES",
    "STEPS",
    "WEEKDAYS",
    "Cap",
    "Period",
    "Purpose",
    "Rule",
    "Rules",
    "RulesError",
    "Step",
    "Windows",
    "daily_window",
    "parse_windows",
    "rules",
]

# Every step must have a row of country * for every purpose, so that deleting a line cannot switch a
# check off; except these.
_SERVICE = ("transactional", "alert", "otp", "emergency", "optout_confirmation")
_NOT_ASKED: dict[str, tuple[str, ...]] = {
    "moratorium": PURPOSES,
    "opt_out": ("emergency", "optout_confirmation"),
    "revoke_all": PURPOSES,
    "audience_opt_out": ("emergency", "optout_confirmation"),
    "reply_review": _SERVICE,
    "unknown_place": _SERVICE,
    "consent_basis": _SERVICE,
    "registry": _SERVICE,
    "opt_out_text": _SERVICE,
    "content": _SERVICE,
    "sender": PURPOSES,
    "confirmation": tuple(set(PURPOSES) - {"optout_confirmation"}),
    "frequency": PURPOSES,
    "sending_window": _SERVICE,
}


class _Place(NamedTuple):
    """The rows of a step that concern a purpose at a place, whatever their dates."""

    own: tuple[Rule, ...]
    """The product's, of the country."""
    general: tuple[Rule, ...]
    """The product's, of country `*`; they hold while none of `own` does."""
    more: tuple[Rule, ...]
    """What comes on top: of the subdivisions, of the strict profile, of the company."""
    overriding: tuple[Rule, ...]
    """The company's that take the place of another."""


class Rules:
    """The rows of every `*.yaml` in a folder and of a company's own file or folder.

    Read when first needed; whatever reads them raises `RulesError` with the file and the key or
    the line at fault.
    """

    def __init__(
        self, folder: Path, company: Path | None = None, profile: str = "standard"
    ) -> None:
        self._folder = folder
        self._company = company
        self._profile = profile
        self._places: dict[tuple[str, str, str, frozenset[str]], _Place] = {}

    @cached_property
    def _files(self) -> dict[Path, bytes]:
        """Contents of the files of rules and of holidays; the company's come last."""
        paths = [*sorted(self._folder.glob("*.yaml")), *sorted(self._folder.glob("*.csv"))]
        company = self._company
        if company is not None and company.is_dir():
            found = [*sorted(company.glob("*.yaml")), *sorted(company.glob("*.csv"))]
            if not found:
                raise RulesError(
                    f"{company}: this folder holds no rules; put a *.yaml there, or clear SMS_RULES"
                )
            paths += found
        elif company is not None:
            paths.append(company)
        try:
            return {path: path.read_bytes() for path in paths}
        except OSError as error:
            raise RulesError(f"{error.filename}: cannot be read: {error.strerror}") from None

    def _is_company(self, path: Path) -> bool:
        return self._company is not None and self._company in (path, path.parent)

    @cached_property
    def version(self) -> str:
        """SHA-256 of profile and files, names and contents; it changes when any rule does."""
        digest = hashlib.sha256(self._profile.encode())
        for path, content in self._files.items():
            digest.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    @cached_property
    def _read(self) -> dict[Path, list[Rule]]:
        found = {
            path: [_row(path, row) for row in read_rows(path, content)]
            for path, content in self._files.items()
            if path.suffix != ".csv"
        }
        own = {row.id: row for path in found if not self._is_company(path) for row in found[path]}
        ids: set[str] = set()
        for path, rows in found.items():
            for row in rows:
                if row.id in ids:
                    raise RulesError(f"{path}: the rule id {row.id} is used twice; rename one")
                ids.add(row.id)
                _check_override(path, row, own if self._is_company(path) else None)
            if self._is_company(path):
                _check_calendars(path, rows)
        self._check_complete(own.values())
        return found

    @cached_property
    def rows(self) -> tuple[Rule, ...]:
        """Every row of the profile, in the order of the files, overridden ones included."""
        rows = (row for rows in self._read.values() for row in rows)
        return tuple(row for row in rows if row.profile in ("standard", self._profile))

    @cached_property
    def _company_ids(self) -> frozenset[str]:
        own = [rows for path, rows in self._read.items() if self._is_company(path)]
        return frozenset(row.id for rows in own for row in rows)

    def _check_complete(self, rows: Iterable[Rule]) -> None:
        covered = {
            (row.step, purpose)
            for row in rows
            if "*" in row.countries and row.profile == "standard"
            for purpose in row.purposes
        }
        for step, purpose in product(STEPS, PURPOSES):
            if (step, purpose) not in covered and purpose not in _NOT_ASKED.get(step, ()):
                raise RulesError(
                    f"{self._folder}: no rule of step {step} and country * covers {purpose}; "
                    "restore it in base.yaml"
                )

    def matching(
        self, step: str, purpose: str, country: str, subdivisions: Collection[str] = ()
    ) -> tuple[Rule, ...]:
        """Return the rows of a step that may ever apply at a place, whatever their dates.

        Those of the country (else those of country `*`), those of every subdivision given, those
        of the company; overridden ones and those that override them both.
        """
        place = self._place(step, purpose, country, subdivisions)
        return (*(place.own or place.general), *place.more, *place.overriding)

    def applying(
        self,
        step: str,
        purpose: str,
        country: str,
        subdivisions: Collection[str] = (),
        *,
        at: datetime,
    ) -> tuple[Rule, ...]:
        """Return the rows of a step that are in force at a place at an instant; all must allow.

        While a country's own rows are not in force yet, those of country `*` are. A company's row
        takes the place of the one it overrides where, when and for what it applies itself.
        """
        place = self._place(step, purpose, country, subdivisions)
        national = _in_force(place.own, at) or _in_force(place.general, at)
        found = (*national, *_in_force(place.more, at))
        overriding = _in_force(place.overriding, at)
        if not overriding:
            return found
        ids = {row.id for row in found}
        instead = tuple(row for row in overriding if row.overrides in ids)
        replaced = {row.overrides for row in instead}
        return (*(row for row in found if row.id not in replaced), *instead)

    def _place(
        self, step: str, purpose: str, country: str, subdivisions: Collection[str]
    ) -> _Place:
        key = (step, purpose, country, frozenset(subdivisions))
        if key not in self._places:
            self._places[key] = self._found(*key)
        return self._places[key]

    def _found(self, step: str, purpose: str, country: str, subdivisions: frozenset[str]) -> _Place:
        own: list[Rule] = []
        general: list[Rule] = []
        more: list[Rule] = []
        overriding: list[Rule] = []
        for row in self.rows:
            named, everywhere = country in row.countries, "*" in row.countries
            concerns = row.subdivision is None or row.subdivision in subdivisions
            if row.step != step or purpose not in row.purposes or not concerns:
                continue
            if row.overrides and (named or everywhere):
                overriding.append(row)
            elif row.id in self._company_ids or row.profile == "strict":
                more += [row] if named or everywhere else []
            elif named:
                (own if row.subdivision is None else more).append(row)
            elif everywhere:
                # What one country forbids to speak of does not allow what all others forbid.
                (more if step == "content" else general).append(row)
        return _Place(tuple(own), tuple(general), tuple(more), tuple(overriding))

    def by_id(self, name: str) -> Rule | None:
        """Return a row by its id."""
        return next((row for row in self.rows if row.id == name), None)

    def knows(self, country: str, purpose: str, *, at: datetime) -> bool:
        """Whether the country has a row of its own on consent for this purpose, now in force."""
        found = self.applying("consent_basis", purpose, country, at=at)
        return any(country in row.countries for row in found)

    def divides(self, country: str, purpose: str) -> bool:
        """Whether any subdivision of the country has rules of its own for this purpose."""
        return any(
            row.subdivision and country in row.countries and purpose in row.purposes
            for row in self.rows
        )


def _in_force(rows: tuple[Rule, ...], at: datetime) -> tuple[Rule, ...]:
    return tuple(row for row in rows if row.in_force(at))


def _row(path: Path, row: object) -> Rule:
    name = str(row.get("id", "row without id")) if isinstance(row, dict) else "row"
    try:
        rule = Rule.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, (name, *first["loc"])))
        raise RulesError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}") from None
    for country in rule.countries:
        if country not in ("*", *country_codes()):
            raise RulesError(f"{path}: {name}.countries: {country} is no country of ISO 3166-1")
    known = subdivision_codes(rule.countries[0])
    if rule.subdivision and known and rule.subdivision not in known:
        raise RulesError(
            f"{path}: {name}.subdivision: {rule.subdivision} is no subdivision of "
            f"{rule.countries[0]} (data/subdivisions.csv)"
        )
    return rule


def _check_override(path: Path, row: Rule, targets: dict[str, Rule] | None) -> None:
    """Refuse what may not be overridden; `targets`: the product's rows, None in its own files."""
    if row.overrides is None:
        return
    place = f"{path}: {row.id}.overrides"
    if targets is None:
        raise RulesError(
            f"{place}: only a company's own file (SMS_RULES) may override; change the rule itself"
        )
    target = targets.get(row.overrides)
    if target is None:
        raise RulesError(f"{place}: the product has no rule {row.overrides}")
    if target.step != row.step:
        raise RulesError(f"{place}: {target.id} is of step {target.step}, this row of {row.step}")


def _check_calendars(path: Path, rows: list[Rule]) -> None:
    calendars = [(row.id, row.holidays) for row in rows if row.holidays]
    if not calendars:
        return
    # Half a second, which every process would pay; the product's own calendars are tested.
    from holidays import country_holidays

    for name, calendar in calendars:
        country, _, subdivision = calendar.partition("-")
        try:
            country_holidays(country, subdiv=subdivision or None)
        except NotImplementedError:
            raise RulesError(
                f"{path}: {name}.holidays: the holidays package knows no calendar {calendar}"
            ) from None


def rules() -> Rules:
    """Return the rules in force here: those of the product, and the company's own (SMS_RULES)."""
    return _made(settings().rules, settings().rules_profile)


@lru_cache(maxsize=8)
def _made(company: Path | None, profile: str) -> Rules:
    return Rules(Path(__file__).with_name("rules"), company, profile)
