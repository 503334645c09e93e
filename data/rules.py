"""The consent rules: rows of YAML in `data/rules`, read, checked and found by step and country.

Here: the shape of a row, the traps of YAML, and which rows apply. Not here: what a row decides for
a recipient (tasks.consent), hours in time zones (tasks.windows), who opted out
(data.consent_ledger). How to add a row: `data/rules/README.md`.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from data.errors import SmsError

Purpose = Literal["marketing", "transactional", "alert", "otp", "emergency"]
PURPOSES: tuple[str, ...] = get_args(Purpose)

Step = Literal[
    "number_validity",
    "line_type",
    "opt_out",
    "audience_opt_out",
    "consent_basis",
    "zone_unknown",
    "sending_window",
    "campaign_window",
    "deadline",
]
"""What a row is about, in the order in which a recipient is judged."""
STEPS: tuple[str, ...] = get_args(Step)
# Every step must have a row for every purpose, so that deleting a line cannot switch a check off;
# except these.
_NOT_ASKED: dict[str, tuple[str, ...]] = {
    "opt_out": ("emergency",),
    "audience_opt_out": ("emergency",),
    "consent_basis": ("transactional", "alert", "otp", "emergency"),
    "sending_window": ("transactional", "alert", "otp", "emergency"),
}

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Windows = tuple[tuple[tuple[int, int], ...], ...]
"""Seven weekdays from Monday, each with its half-open windows in minutes of local wall time from
that day's midnight. An end above 1440 lies on the next day; the window belongs to its start day."""

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_DAY = 24 * 60


class RulesError(SmsError):
    """A file of rules that cannot be trusted. Nothing is sent by it."""


def parse_windows(days: object) -> Windows:
    """Return the windows of `{"mon": [["09:00", "20:00"]], …}`; a weekday not named is closed.

    An end at or before its start crosses midnight. Raises ValueError, in words.
    """
    if not isinstance(days, Mapping):
        raise ValueError("windows are lists by weekday: mon, tue, wed, thu, fri, sat, sun")
    unknown = set(days) - set(WEEKDAYS)
    if unknown:
        raise ValueError(f"{sorted(map(str, unknown))[0]!r} is no weekday: use {WEEKDAYS}")
    return tuple(tuple(_window(pair) for pair in days.get(day, [])) for day in WEEKDAYS)


def daily_window(start: str, end: str) -> Windows:
    """Return the windows of a time that is the same on every weekday."""
    return parse_windows({day: [[start, end]] for day in WEEKDAYS})


def _window(pair: object) -> tuple[int, int]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError('a window is a pair as ["09:00", "20:00"]')
    start, end = (_minutes(clock) for clock in pair)
    if start == _DAY:
        raise ValueError("a window that starts at 24:00 starts at 00:00 of the next weekday")
    return start, end if end > start else end + _DAY


def _minutes(clock: object) -> int:
    if not isinstance(clock, str) or not _CLOCK.fullmatch(clock):
        raise ValueError(f'{clock!r} is no local time: write it as "09:00" (00:00 to 24:00)')
    return int(clock[:2]) * 60 + int(clock[3:])


class Rule(BaseModel):
    """One row. Which of the last three fields it has depends on its step."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_/*-]*$")
    step: Step
    says: str = Field(min_length=10, description="The rule in words, for people")
    source: str = Field(min_length=10, description="The page, law or decision it follows from")
    confidence: Literal["high", "medium", "low"]
    country: str = Field(pattern=r"^(\*|[A-Z]{2})$", description="ISO 3166-1, or * for all others")
    purposes: list[Purpose] = Field(min_length=1)
    windows: Annotated[Windows, BeforeValidator(parse_windows)] | None = None
    bases: list[str] = Field(default_factory=list, description="Bases of consent; * is any")
    line_types: list[str] = Field(default_factory=list, description="Line types that are stopped")

    @model_validator(mode="after")
    def _fields_of_its_step(self) -> Self:
        needed = {"sending_window": "windows", "consent_basis": "bases", "line_type": "line_types"}
        for step, field in needed.items():
            if (self.step == step) != bool(getattr(self, field)):
                said = "needs" if self.step == step else "has no"
                raise ValueError(f"a {self.step} row {said} {field}")
        return self

    def accepts(self, basis: str) -> bool:
        """Whether consent of this basis is enough."""
        return "*" in self.bases or basis in self.bases


class Rules:
    """The rows of every `*.yaml` in a folder, read when first needed.

    Whatever reads them raises `RulesError` with the file, the line and the key at fault.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[tuple[str, str, str], tuple[Rule, ...]] = {}

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self._folder.glob("*.yaml"))}

    @cached_property
    def version(self) -> str:
        """SHA-256 of the files, names and contents; it changes when any rule does."""
        digest = hashlib.sha256()
        for name, content in self._files.items():
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    @cached_property
    def rows(self) -> tuple[Rule, ...]:
        """Every row, in the order of the files."""
        rows: list[Rule] = []
        for name, content in self._files.items():
            rows.extend(_read(self._folder / name, content))
        ids = [row.id for row in rows]
        twice = {name for name in ids if ids.count(name) > 1}
        if twice:
            raise RulesError(f"{self._folder}: the rule id {min(twice)} is used twice; rename one")
        self._check_complete(rows)
        return tuple(rows)

    def _check_complete(self, rows: list[Rule]) -> None:
        covered = {
            (row.step, purpose) for row in rows if row.country == "*" for purpose in row.purposes
        }
        for step, purpose in product(STEPS, PURPOSES):
            if (step, purpose) not in covered and purpose not in _NOT_ASKED.get(step, ()):
                raise RulesError(
                    f"{self._folder}: no rule of step {step} and country * covers {purpose}; "
                    "restore it in base.yaml"
                )

    def applying(self, step: str, country: str, purpose: str) -> tuple[Rule, ...]:
        """Return the rows of a step: the country's own, else those of country `*`."""
        key = (step, country, purpose)
        if key not in self._found:
            named = [row for row in self.rows if row.step == step and purpose in row.purposes]
            own = tuple(row for row in named if row.country == country)
            self._found[key] = own or tuple(row for row in named if row.country == "*")
        return self._found[key]


def _read(path: Path, content: bytes) -> Iterator[Rule]:
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        # ParserError and its siblings carry several lines of context; people need the place.
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise RulesError(f"{path}{line}: this is no readable YAML; mend the file") from None
    if node is None:
        raise RulesError(f"{path}: the file is empty; remove it or write its rules")
    document = _plain(path, "", node)
    if not isinstance(document, dict) or set(document) != {"rules"}:
        raise RulesError(f"{path}: the file needs one key, rules, with a list of rows")
    for row in document["rules"]:
        name = str(row.get("id", "row without id")) if isinstance(row, dict) else "row"
        try:
            yield Rule.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            raise RulesError(
                f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}"
            ) from None


def _plain(path: Path, key: str, node: yaml.Node) -> Any:
    """Turn a node into Python values, refusing what YAML 1.1 reads as something else."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, f"{key}[{at}]", child) for at, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for name_node, child in node.value:
            name = _plain(path, f"{key}.<key>", name_node)
            if name in mapping:
                line = name_node.start_mark.line + 1
                raise RulesError(f"{path}, line {line}: {name} is given twice; remove one")
            mapping[name] = _plain(path, f"{key}.{name}".lstrip("."), child)
        return mapping
    if not node.tag.endswith(":str"):
        # NO is false, ON is true, 10:00 is 600 and an empty value is null to YAML 1.1.
        raise RulesError(
            f"{path}, line {node.start_mark.line + 1}: {key}: {node.value or 'an empty value'} "
            f"without quotes is no text to YAML ({node.tag.rpartition(':')[2]}); "
            f'write "{node.value}"'
        )
    return node.value


RULES = Rules(Path(__file__).with_name("rules"))
