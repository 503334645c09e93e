"""Reading a file of consent: texts into events for the ledger, and what is wrong with the others.

Not here: opening the file (adapters.sources), making E.164 of its numbers and recording
(tasks.consent_import).
"""

import json
import re

import pandas as pd

from data.consent_ledger import ALL_SCOPES, IMPORT, SCOPES, TYPES, ConsentError
from data.database import now
from data.rules import BASES

_OFFSET = r".*(?:[Zz]|[+-]\d\d:?\d\d)"
_TYPES = dict.fromkeys(
    ("unsubscribed", "unsubscribe", "opted_out", "optout", "stop"), "opt_out"
) | dict.fromkeys(("subscribed", "subscribe", "opted_in", "optin"), "opt_in")
_STOPS = ["opt_out", "deactivated"]
_NAMES = {
    "recipient": ("recipient", "phone"),
    "type": ("type",),
    "occurred_at": ("occurred_at",),
    "scope": ("scope", "purpose"),
    "basis": ("basis",),
    "source": ("source",),
    "method": ("method",),
    "wording_version": ("wording_version",),
    "wording": ("wording",),
}
_EVIDENCE = (
    "evidence",
    "reference",
    "contact_id",
    "optout_offered_at_collection",
    "similar_products",
    "own_products",
    "result",
    "status",
    "channel",
    "channels",
    "names_sms",
    "covers_sms",
    "includes_sms",
)


def read_import(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a frame of texts, indexed by record number, into events and rejects.

    Columns: recipient or phone, type (one of `TYPES`, or a word for an opt-in or an opt-out such as
    subscribed or unsubscribed), and optionally occurred_at (ISO 8601 with a zone), scope or
    purpose, basis, source, method, wording_version, wording; and for the evidence evidence (a JSON
    object, or a text), reference, contact_id, result (of a registry check: clear or listed), status
    (of a deactivation), channel, channels, names_sms, covers_sms and includes_sms (what was agreed
    to), and what a soft opt-in needs: optout_offered_at_collection, similar_products and
    own_products (yes or no). Returns the events for `append` (same index; `recipient` as it came,
    to be normalised by the caller) and the rejects (row, column, reason).

    What an opt-out or a deactivation says badly is read as more, never dropped: a date that cannot
    be read or is still to come as unknown, a scope as `*`; the words are kept in its evidence.
    Anything else without a scope is for marketing. Raises `ConsentError` where a column is missing.
    """
    columns, present = _import_columns(frame)
    stops = columns["type"].isin(_STOPS)
    scope = columns["scope"].replace({"all": ALL_SCOPES})
    scope = scope.mask(scope.eq(""), pd.Series("marketing", index=scope.index).mask(stops, "*"))
    scope_good = scope.isin([ALL_SCOPES, *SCOPES])
    said = columns["occurred_at"]
    zoned = said.str.fullmatch(_OFFSET)
    instant = pd.to_datetime(said.where(zoned), format="ISO8601", utc=True, errors="coerce")
    instant = instant.astype("datetime64[us, UTC]")
    instant = instant.mask(instant > pd.Timestamp(now()))
    date_bad = said.ne("") & instant.isna()
    faults = {
        "recipient": (columns["recipient"].eq(""), "the number is missing"),
        "type": (~columns["type"].isin(TYPES), "use one of " + ", ".join(TYPES)),
        "scope": (~scope_good & ~stops, "use *, " + ", ".join(SCOPES)),
        "basis": (~columns["basis"].isin(["", *BASES]) & ~stops, "use " + ", ".join(BASES)),
        "occurred_at": (
            date_bad & ~stops,
            "use a past instant with its zone, as 2026-03-01T12:00:00Z",
        ),
    }
    rejects = pd.concat(
        [
            pd.DataFrame({"row": frame.index[bad], "column": column, "reason": reason})
            for column, (bad, reason) in faults.items()
        ]
    ).drop_duplicates("row")
    method = columns["method"].str.lower()
    unread = stops & (date_bad | ~scope_good)
    events = pd.DataFrame(
        {
            "type": columns["type"],
            "recipient": columns["recipient"],
            "scope": scope.where(scope_good, ALL_SCOPES),
            "basis": columns["basis"],
            "occurred_at": instant,
            "source": columns["source"],
            "method": (IMPORT + ":" + method).where(method.ne(""), IMPORT),
            "wording_version": columns["wording_version"],
            "wording": columns["wording"],
            "evidence": _evidence(frame, present, columns, unread),
        }
    )
    return events[~frame.index.isin(rejects["row"])], rejects.reset_index(drop=True)


def _import_columns(frame: pd.DataFrame) -> tuple[dict[str, pd.Series], dict[str, str]]:
    """The known columns as stripped text under their own names, empty where absent; all names."""
    present = {re.sub(r"\s", "", str(name)).lower(): str(name) for name in frame.columns}
    columns = {}
    for column, names in _NAMES.items():
        found = next((present[name] for name in names if name in present), None)
        if found is None and column in ("recipient", "type"):
            raise ConsentError(
                f"the consent file has no column {' or '.join(names)}; "
                "it needs recipient and type (opt_in or opt_out)"
            )
        if found is None:
            columns[column] = pd.Series("", index=frame.index, dtype="str")
        else:
            columns[column] = _stripped(frame[found])
    for column in ("type", "scope", "basis"):
        columns[column] = columns[column].str.lower()
    spelled = columns["type"].str.replace(r"[\s-]+", "_", regex=True)
    columns["type"] = spelled.replace(_TYPES)
    return columns, present


def _stripped(column: pd.Series) -> pd.Series:
    return column.fillna("").astype("str").str.strip()


def _evidence(
    frame: pd.DataFrame,
    present: dict[str, str],
    columns: dict[str, pd.Series],
    unread: pd.Series,
) -> pd.Series:
    """What each record brings as evidence, as JSON text."""
    told = {name: _stripped(frame[present[name]]) for name in _EVIDENCE if name in present}
    for name in ("occurred_at", "scope"):
        told[f"unread_{name}"] = columns[name].where(unread, "")
    evidence = pd.Series("{}", index=frame.index, dtype="str")
    given = pd.DataFrame(told)
    some = (given != "").any(axis=1)
    names = list(told)
    written = [_as_json(names, row) for row in given[some].itertuples(index=False, name=None)]
    evidence.loc[some] = pd.Series(written, index=evidence.index[some], dtype="str")
    return evidence


def _as_json(names: list[str], values: tuple[str, ...]) -> str:
    told: dict[str, object] = {
        name: value for name, value in zip(names, values, strict=True) if value
    }
    try:
        details = json.loads(str(told.get("evidence", "")))
    except ValueError:
        details = None
    if isinstance(details, dict):
        told = details | {name: value for name, value in told.items() if name != "evidence"}
    return json.dumps(told)
