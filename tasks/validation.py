"""Whether a record of the audience can be worked with: the Great Expectations suite and its sums.

Belongs here: running data/expectations/audience.json on a partition, quarantining the records that
fail it, and the report. Not here: whether a number exists (phones.py) or may be texted (consent).
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import SmsError
from data.settings import PROJECT
from tasks.audience import alpha2_codes, arrow_text

SUITE = PROJECT / "data" / "expectations" / "audience.json"
TEMPLATES = PROJECT / "data" / "templates"

# Values stay out of the results: they are telephone numbers. Rows are complete, and right with
# `mostly` too, where an expectation succeeds and still lists the records that break it.
_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": ["row"],
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}
# C0 and C1 without tab and line breaks, which quoted CSV fields rightly hold. C1 comes from text
# that was cp1252 and was read as Latin-1.
_CONTROL_BYTES = [*range(9), 11, 12, *range(14, 32), 0x7F, 0xC2]
_CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x{9F}]"
_HELPERS = ["opt_in_at_reading"]  # of the canonical columns, for the suite alone


class ValidationSetupError(SmsError):
    """The suite cannot be read, or one of its expectations cannot be run."""


class TooManyBadRows(SmsError):  # noqa: N818 - the name says it all
    """More of the audience is invalid than the campaign allows."""


class Rule(TypedDict):
    """One expectation over the records it has seen; `checked` leaves out empty values."""

    reason: str
    column: str
    words: str
    checked: int
    failing: int


class Results(TypedDict):
    """What a validation leaves behind: counts only, fit for JSON."""

    records: int
    good: int
    rejects: dict[str, int]
    rules: list[Rule]


@dataclass(frozen=True)
class Validated:
    """A partition in two: every record is in `good` or is one row of `rejects`.

    `good`: the frame without helper columns, same index. `rejects`: `row` (int64), `column`,
    `reason` (the first that applies, in the order of the suite), `detail` (other reasons, or NaN).
    """

    good: pd.DataFrame
    rejects: pd.DataFrame
    results: Results


class Validator:
    """The suite, ready to run. Make one a run: importing Great Expectations takes five seconds.

    Safe to share between threads. Raises `ValidationSetupError`.
    """

    def __init__(self, suite: Path = SUITE) -> None:
        self._suite = suite
        self._expectations = _read(suite)
        self._checks, self._batches = _great_expectations(suite, self._expectations)
        self._known = {"country": alpha2_codes(), "timezone": _timezones()}
        self._lock = threading.Lock()

    def validate(self, frame: pd.DataFrame, raw: pd.DataFrame | None = None) -> Validated:
        """Split a partition into good records and rejects.

        `frame`: from `tasks.audience.canonical`, its index the unique record numbers. `raw`: the
        source's own columns of the same records; they are searched for control characters, and
        the suite may name them.
        """
        looked_at = self._looked_at(frame, raw)
        found = self._run(looked_at, frame)
        quarantine = _Quarantine(frame.index)
        rules: list[Rule] = []
        for expectation in self._expectations:
            result = found[expectation.reason]
            rows = _rows(result)
            named = looked_at[expectation.checks] if expectation.column == "*" else None
            quarantine.add(rows, expectation, named)
            rules.append(
                {
                    "reason": expectation.reason,
                    "column": expectation.column,
                    "words": expectation.words,
                    "checked": result["element_count"] - result.get("missing_count", 0),
                    "failing": len(rows),
                }
            )
        rejects = quarantine.rejects()
        good = frame.drop(columns=_HELPERS, errors="ignore")[~quarantine.bad]
        results: Results = {
            "records": len(frame),
            "good": len(good),
            "rejects": {str(k): int(n) for k, n in rejects["reason"].value_counts().items()},
            "rules": rules,
        }
        return Validated(good, rejects, results)

    def _run(self, looked_at: pd.DataFrame, frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
        """Run the suite and return each expectation's result by its reason."""
        from great_expectations.exceptions.exceptions import SuiteParameterError

        parameters = {
            "countries": self._known_among(frame, "country"),
            "timezones": self._known_among(frame, "timezone"),
            "now": pd.Timestamp.now("UTC"),
        }
        try:
            with self._lock:  # the batch definition holds one frame at a time
                report = self._batches.get_batch({"dataframe": looked_at}).validate(
                    self._checks, result_format=_RESULT_FORMAT, expectation_parameters=parameters
                )
        except SuiteParameterError as error:
            raise ValidationSetupError(
                f"{self._suite}: {error}: there are {', '.join(parameters)}"
            ) from error
        found = {each.expectation_config.meta["reason"]: each.result for each in report.results}
        for reason, result in found.items():
            # Its exception is not told: the text may hold a value of the audience.
            if "unexpected_count" not in result:
                raise ValidationSetupError(
                    f"{self._suite}: {reason} could not be run on this audience:"
                    " check its kwargs against the type of its column"
                )
        return found

    def _known_among(self, frame: pd.DataFrame, name: str) -> list[str]:
        """Return the values of a column that exist in the world.

        Not the whole world: Great Expectations copies the list a thousand times (0.2 s).
        """
        return sorted(self._known[name].intersection(frame[name].dropna().unique()))

    def _looked_at(self, frame: pd.DataFrame, raw: pd.DataFrame | None) -> pd.DataFrame:
        """Return the columns that the suite names and no more: each check copies the frame."""
        frames = [frame] if raw is None else [frame, raw]
        columns: dict[str, Any] = {"row": frame.index}
        for expectation in self._expectations:
            name = expectation.checks
            if name == "control_characters":
                columns[name] = _control_characters(frames)
            elif (source := next((each for each in frames if name in each), None)) is not None:
                columns[name] = source[name]
            else:
                raise ValidationSetupError(
                    f"{self._suite}: {expectation.reason} checks the column {name!r}, which this"
                    " audience does not have: add it to the audience or remove the rule"
                )
        return pd.DataFrame(columns, index=frame.index)


@dataclass(frozen=True)
class _Expectation:
    """An entry of the suite file: the column it looks at (`checks`) and blames (`column`)."""

    reason: str
    column: str
    words: str
    checks: str
    configuration: dict[str, Any]


def _read(suite: Path) -> list[_Expectation]:
    try:
        entries = json.loads(suite.read_text(encoding="utf-8"))["expectations"]
    except OSError as error:
        raise ValidationSetupError(f"{suite}: cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ValidationSetupError(
            f"{suite}: line {error.lineno}, column {error.colno} is not JSON: {error.msg}"
        ) from error
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValidationSetupError(f"{suite}: holds no list of expectations") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValidationSetupError(f"{suite}: holds no list of expectations")
    return [_expectation(suite, number, entry) for number, entry in enumerate(entries, start=1)]


def _expectation(suite: Path, number: int, entry: dict[str, Any]) -> _Expectation:
    where = f"{suite}: expectation {number} ({entry.get('type')})"
    meta = entry.get("meta") or {}
    for key in ("reason", "column", "words"):
        if not isinstance(meta.get(key), str) or not meta[key].strip():
            raise ValidationSetupError(f"{where} has no {key} in its meta: give it one")
    checks = (entry.get("kwargs") or {}).get("column")
    if not isinstance(checks, str):
        raise ValidationSetupError(f"{where} names no column in its kwargs: a rule judges one")
    return _Expectation(meta["reason"], meta["column"], meta["words"], checks, entry)


def _great_expectations(suite: Path, expectations: list[_Expectation]) -> tuple[Any, Any]:
    """Import the library and return the suite and the definition that batches are made from."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read at import
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation import ColumnMapExpectation
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    checks = []
    seen: set[str] = set()
    for expectation in expectations:
        where = f"{suite}: {expectation.reason}"
        try:
            check = ExpectationConfiguration(**expectation.configuration).to_domain_obj()
        except (GreatExpectationsError, ValueError, TypeError) as error:
            why = " ".join(str(error).split())
            raise ValidationSetupError(f"{where} is no valid expectation: {why}") from error
        if not isinstance(check, ColumnMapExpectation):
            raise ValidationSetupError(f"{where} judges a whole column and cannot name bad records")
        if expectation.reason in seen:
            raise ValidationSetupError(f"{where} is the reason of two expectations: rename one")
        seen.add(expectation.reason)
        checks.append(check)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("audience").add_dataframe_asset("partition")
    batches = asset.add_batch_definition_whole_dataframe("all")
    return gx.ExpectationSuite(name="audience", expectations=checks), batches


def _timezones() -> frozenset[str]:
    """Return the IANA names of the tzdata package; the system's own list can be a year old."""
    return frozenset((files("tzdata") / "zones").read_text(encoding="utf-8").split())


def _rows(result: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """Return the record numbers an expectation lists; without values they come in one entry."""
    listed = [np.atleast_1d(entry["row"]) for entry in result.get("unexpected_index_list") or []]
    return np.concatenate(listed).astype(np.int64) if listed else np.empty(0, np.int64)


def _control_characters(frames: list[pd.DataFrame]) -> "pd.Series[str]":
    """Return for each record the first text column with a control character in it, or NaN."""
    found = np.full(len(frames[0]), None, dtype=object)
    for frame in reversed(frames):
        for name in reversed(frame.columns):
            if frame[name].dtype != "str":
                continue
            text = arrow_text(frame[name])
            if _may_hold_control_characters(text):
                hit = pc.match_substring_regex(text, _CONTROL)
                found[pc.fill_null(hit, False).to_numpy(zero_copy_only=False)] = name
    return pd.Series(found, index=frames[0].index, dtype="str")


def _may_hold_control_characters(text: pa.LargeStringArray) -> bool:
    """Look at a column's bytes all at once: it spares nearly every column the search by record."""
    buffer = text.buffers()[2]
    if buffer is None:
        return False
    seen = np.bincount(np.frombuffer(buffer, np.uint8), minlength=256) > 0
    # 0xC2 leads C1 in UTF-8, and also « and £: then the search by record decides.
    return bool(seen[_CONTROL_BYTES].any())


class _Quarantine:
    """The bad records of a partition as they are found, each with its first reason."""

    def __init__(self, index: pd.Index) -> None:
        self._index = index
        self.bad = np.zeros(len(index), dtype=bool)
        self._column = np.full(len(index), None, dtype=object)
        self._reason = self._column.copy()
        self._others = np.full(len(index), "", dtype=object)

    def add(
        self,
        rows: npt.NDArray[np.int64],
        expectation: _Expectation,
        columns: "pd.Series[str] | None",
    ) -> None:
        """Note the rows that break an expectation; `columns` names the column to blame for each."""
        at = self._index.get_indexer(pd.Index(rows))
        again, first = at[self.bad[at]], at[~self.bad[at]]
        self._others[again] += f", {expectation.reason}"
        self._reason[first] = expectation.reason
        self._column[first] = expectation.column if columns is None else columns.iloc[first]
        self.bad[first] = True

    def rejects(self) -> pd.DataFrame:
        bad = self.bad
        others = pd.Series(self._others[bad], dtype="str").str.removeprefix(", ")
        return pd.DataFrame(
            {
                "row": self._index[bad].astype("int64"),
                "column": pd.Series(self._column[bad], dtype="str"),
                "reason": pd.Series(self._reason[bad], dtype="str"),
                "detail": others.mask(others == ""),
            }
        )


# ------------------------------------------------------------------ sums over the partitions


@dataclass
class Totals:
    """The validation of a whole audience, added up partition by partition, in one thread."""

    records: int = 0
    good: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    rules: dict[str, Rule] = field(default_factory=dict)

    def add(self, results: Results) -> None:
        """Add the results of a partition."""
        self.records += results["records"]
        self.good += results["good"]
        self.rejects.update(results["rejects"])
        for rule in results["rules"]:
            total = self.rules.setdefault(rule["reason"], {**rule, "checked": 0, "failing": 0})
            total["checked"] += rule["checked"]
            total["failing"] += rule["failing"]

    def add_unreadable(self, rejects: pd.DataFrame) -> None:
        """Add the records that the source could not read: `Partition.rejects`, with a `reason`."""
        self.records += len(rejects)
        self.rejects.update(rejects["reason"].tolist())

    @property
    def share_bad(self) -> float:
        """The share of all records that were rejected, 0 to 1."""
        return self.rejects.total() / self.records if self.records else 0.0


def check_share(totals: Totals, limit: float) -> None:
    """Raise `TooManyBadRows` where more than `limit` (0 to 1) of the records were rejected."""
    if totals.share_bad <= limit:
        return
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in totals.rejects.most_common())
    raise TooManyBadRows(
        f"{totals.rejects.total():,} of {totals.records:,} records ({totals.share_bad:.1%}) are"
        f" invalid, more than max_invalid_share {limit:g} allows ({reasons}):"
        " mend the audience, or raise max_invalid_share"
    )


def render_report(totals: Totals, run: Mapping[str, str]) -> str:
    """Return the validation as one HTML page that needs no network and no script.

    `run`: captions and values for its head, such as campaign and source; no personal data.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    # Reasons of other steps (ragged_row, invalid_number) have no rule, and no words here.
    return environment.get_template("validation.html").render(
        run=run,
        totals=totals,
        words={reason: rule["words"] for reason, rule in totals.rules.items()},
    )
