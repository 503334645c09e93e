"""The numbering plans of the phonenumbers library, compiled into tables once per process.

Here: which automata and lengths belong to which region and calling code. Not here: how a written
number is read with them (`phones`), nor how patterns compile (`phone_automata`).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberType
from phonenumbers.phonenumberutil import is_number_type_geographical
from phonenumbers.tzdata import TIMEZONE_DATA

from tasks.phone_automata import (
    Automaton,
    Bank,
    Ints,
    longest_key_automaton,
    prefix_automaton,
    whole_automaton,
)
from tasks.phone_patterns import UnsupportedPatternError, last_capture, read_pattern, shortest

LONGEST_NATIONAL = 17
"""Digits that the library lets a national number have."""
MOST_DIGITS = 23
"""Digits that a written number may have to be read column-wise, prefixes included."""

UNFIT, POSSIBLE, TOO_LONG = 0, 1, 2
"""How a number of digits stands to a plan; UNFIT is too short, local only or between lengths."""

# The library asks in this order; fixed and mobile come last, because they may both match.
_SPECIAL_KINDS = (
    "premium_rate",
    "toll_free",
    "shared_cost",
    "voip",
    "personal_number",
    "pager",
    "uan",
    "voicemail",
)
_KINDS = ("general_desc", *_SPECIAL_KINDS, "fixed_line", "mobile")
_LEADING_DIGITS = len(_KINDS)
_TAGS_PER_REGION = len(_KINDS) + 1

LINE_TYPES = ("unknown", "fixed_line", "mobile", "fixed_line_or_mobile", *_SPECIAL_KINDS)
"""Lower-case names of `phonenumbers.PhoneNumberType`, by the low part of a verdict."""
LINE_TYPE_BITS = 4
"""A verdict is `plan << LINE_TYPE_BITS | line type`; plan 0 is no region."""

_NON_GEOGRAPHIC = "001"
_CODES = 1_000
_NO_CAPTURE = 1_000


class Plan(NamedTuple):
    """One region's numbering plan; several regions can share a calling code, the main one first."""

    calling_code: int
    region: str
    metadata: Any


@dataclass(frozen=True)
class ZoneTables:
    """Time zones by calling code and the digits behind it; names are sorted and comma-joined."""

    names: list[str]
    """Place 0 is the empty string: no zone is known."""
    behind_code: Ints
    """State of the bank behind the calling code, from which a national number leads to a name."""
    of_country: Ints
    """Name by calling code, for lines that say nothing about a place."""
    geographic: npt.NDArray[np.bool_]
    """Whether a line says something about a place, by calling code and line type."""


@dataclass(frozen=True)
class PlanTables:
    """Tables by plan (from 1; 0 is none, and says no to everything) and by calling code.

    `idd`, `national_prefix`, `general` and `classify` are roots of automata in `bank`; 0 matches
    nothing.
    """

    bank: Bank
    plans: list[Plan]
    """Plan n is at n - 1."""
    home: dict[str, int]
    """Plan by the region that a number is dialled from."""
    calling_code: Ints
    covered: npt.NDArray[np.bool_]
    """Whether all patterns of the plan's calling code compiled, by plan; plan 0 is."""
    idd: Ints
    national_prefix: Ints
    captures_from: Ints
    """Digits from which on a national prefix may have to be rewritten, not dropped, by plan."""
    general: Ints
    fit: npt.NDArray[np.int8]
    """UNFIT, POSSIBLE or TOO_LONG by plan and number of digits."""
    code_by_start: Ints
    """Calling code by the first three digits of an international number; 0 for none."""
    main_plan: Ints
    """Plan by calling code."""
    classify: Ints
    """By calling code; the automaton returns a row of `verdicts`."""
    verdicts: npt.NDArray[np.int16]
    """By that row and the length of the national number."""
    zones: ZoneTables

    def plan_number(self, calling_code: int, region: str) -> int:
        """The plan of a region under a calling code."""
        return next(
            number
            for number, plan in enumerate(self.plans, 1)
            if plan.calling_code == calling_code and plan.region == region
        )


@cache
def plan_tables() -> PlanTables:
    """Compile the metadata of the installed library: 0.4 s, once per process."""
    plans = [
        Plan(code, region, PhoneMetadata.metadata_for_region_or_calling_code(code, region))
        for code, regions in COUNTRY_CODE_TO_REGION_CODE.items()
        for region in regions
    ]
    judge = _Judge(plans)
    automata: dict[tuple[str, int], Automaton] = {}
    covered = np.ones(len(plans) + 1, np.bool_)
    main_plan = np.zeros(_CODES, np.int64)
    for code in COUNTRY_CODE_TO_REGION_CODE:
        numbers = [number for number, plan in enumerate(plans, 1) if plan.calling_code == code]
        main_plan[code] = numbers[0]
        try:
            automata |= {("classify", code): judge.automaton(numbers)}
            for number in numbers:
                automata |= _plan_automata(number, plans[number - 1].metadata)
        except UnsupportedPatternError:
            covered[numbers] = False
    zone_names, automata["zones", 0] = _zone_automaton()
    bank = Bank(list(automata.values()))
    roots = dict(zip(automata, bank.roots, strict=True))

    def column(kind: str, size: int) -> Ints:
        return np.array([roots.get((kind, place), 0) for place in range(size)], np.int64)

    return PlanTables(
        bank=bank,
        plans=plans,
        home={p.region: n for n, p in enumerate(plans, 1) if p.region != _NON_GEOGRAPHIC},
        calling_code=np.array([0, *(plan.calling_code for plan in plans)], np.int64),
        covered=covered,
        idd=column("idd", len(plans) + 1),
        national_prefix=column("national_prefix", len(plans) + 1),
        captures_from=np.array([_NO_CAPTURE, *(_captures_from(p.metadata) for p in plans)]),
        general=column("general", len(plans) + 1),
        fit=np.array([[UNFIT] * (MOST_DIGITS + 1), *(_fit(p.metadata) for p in plans)], np.int8),
        code_by_start=_code_by_start(),
        main_plan=main_plan,
        classify=column("classify", _CODES),
        verdicts=np.array(judge.verdicts, np.int16),
        zones=_zone_tables(bank, roots["zones", 0], zone_names),
    )


class _Judge:
    """Builds the automata that classify national numbers, and the verdicts they lead to."""

    def __init__(self, plans: list[Plan]) -> None:
        self.plans = plans
        self.verdicts: list[list[int]] = [[0] * (LONGEST_NATIONAL + 1)]

    def automaton(self, numbers: list[int]) -> Automaton:
        """One automaton for the plans that share a calling code, the main one first."""
        patterns = []
        for number in numbers:
            metadata = self.plans[number - 1].metadata
            for kind, name in enumerate(_KINDS):
                pattern = getattr(getattr(metadata, name), "national_number_pattern", None)
                if pattern:
                    patterns.append((pattern, number * _TAGS_PER_REGION + kind))
            if metadata.leading_digits is not None:
                pattern = rf"(?:{metadata.leading_digits})\d*"
                patterns.append((pattern, number * _TAGS_PER_REGION + _LEADING_DIGITS))
        rows: dict[frozenset[int], int] = {}

        def row(tags: frozenset[int]) -> int:
            if tags not in rows:
                rows[tags] = len(self.verdicts)
                lengths = range(LONGEST_NATIONAL + 1)
                self.verdicts.append([self._verdict(numbers, tags, length) for length in lengths])
            return rows[tags]

        return whole_automaton(patterns, row)

    def _verdict(self, numbers: list[int], tags: frozenset[int], length: int) -> int:
        for number in numbers:
            metadata = self.plans[number - 1].metadata
            matched = {
                name
                for kind, name in enumerate(_KINDS)
                if number * _TAGS_PER_REGION + kind in tags
                and _length_fits(getattr(metadata, name), length)
            }
            line_type = _line_type(matched, metadata.same_mobile_and_fixed_line_pattern)
            chosen = line_type != "unknown"
            if metadata.leading_digits is not None:
                chosen = number * _TAGS_PER_REGION + _LEADING_DIGITS in tags
            if chosen or len(numbers) == 1:
                return number << LINE_TYPE_BITS | LINE_TYPES.index(line_type)
        return 0


def _length_fits(description: Any, length: int) -> bool:
    return not description.possible_length or length in description.possible_length


def _line_type(matched: set[str], same_pattern: bool) -> str:
    if "general_desc" not in matched:
        return "unknown"
    for kind in _SPECIAL_KINDS:
        if kind in matched:
            return kind
    if "fixed_line" in matched:
        return "fixed_line_or_mobile" if same_pattern or "mobile" in matched else "fixed_line"
    return "mobile" if "mobile" in matched and not same_pattern else "unknown"


def _plan_automata(number: int, metadata: Any) -> dict[tuple[str, int], Automaton]:
    general = [(metadata.general_desc.national_number_pattern, 0)]
    automata = {("general", number): whole_automaton(general, len)}
    if metadata.international_prefix:
        automata["idd", number] = prefix_automaton(metadata.international_prefix)
    if metadata.national_prefix_for_parsing:
        prefix = prefix_automaton(metadata.national_prefix_for_parsing)
        automata["national_prefix", number] = prefix
    return automata


def _captures_from(metadata: Any) -> int:
    """A prefix this long may have filled the group that the plan's rewriting rule takes up."""
    if not metadata.national_prefix_for_parsing or not metadata.national_prefix_transform_rule:
        return _NO_CAPTURE
    try:
        group = last_capture(read_pattern(metadata.national_prefix_for_parsing))
    except UnsupportedPatternError:
        return 0
    return 0 if group is None else shortest(group)


def _fit(metadata: Any) -> list[int]:
    possible = metadata.general_desc.possible_length
    local = metadata.general_desc.possible_length_local_only

    def fit(length: int) -> int:
        if length in local:
            return UNFIT
        if length > possible[-1]:
            return TOO_LONG
        return POSSIBLE if length in possible else UNFIT

    return [fit(length) for length in range(MOST_DIGITS + 1)]


def _code_by_start() -> Ints:
    codes = np.zeros(_CODES, np.int64)
    for start in range(100, _CODES):
        for digits in (3, 2, 1):  # the library takes the shortest, so that comes last
            code = start // 10 ** (3 - digits)
            if code in COUNTRY_CODE_TO_REGION_CODE:
                codes[start] = code
    return codes


def _zone_automaton() -> tuple[list[str], Automaton]:
    joined = {digits: ",".join(sorted(zones)) for digits, zones in TIMEZONE_DATA.items()}
    names = ["", *sorted(set(joined.values()))]
    place = {name: number for number, name in enumerate(names)}
    keys = {digits: place[name] for digits, name in joined.items()}
    return names, longest_key_automaton(keys)


def _zone_tables(bank: Bank, root: int, names: list[str]) -> ZoneTables:
    behind_code = np.zeros(_CODES, np.int64)
    of_country = np.zeros(_CODES, np.int64)
    geographic = np.zeros((_CODES, len(LINE_TYPES)), np.bool_)
    for code in COUNTRY_CODE_TO_REGION_CODE:
        behind_code[code] = bank.start(root, str(code))
        zones = TIMEZONE_DATA.get(str(code)) or TIMEZONE_DATA.get(str(code)[:2])
        of_country[code] = names.index(",".join(sorted(zones))) if zones else 0
        for number, name in enumerate(LINE_TYPES):
            line_type = getattr(PhoneNumberType, name.upper())
            geographic[code, number] = is_number_type_geographical(line_type, code)
    return ZoneTables(names, behind_code, of_country, geographic)
