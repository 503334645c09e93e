"""Statements on the consent ledger: adding events, and what they add up to for a purpose.

Here: the one meaning of "opted out" (twice: as SQL for the claim of a message, and on columns for
planning), and reading an import. Not here: rules and hours (data.rules, tasks.consent), making
E.164 of a file's numbers (tasks.phones), seals.
"""

import hashlib
import json
import re
from typing import Any

import pandas as pd
from sqlalchemy import Connection, exists, false, func, literal, select
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.elements import SQLCoreOperations
from sqlalchemy.types import JSON

from data.database import insert_frame, is_sqlite, now
from data.errors import SmsError
from data.identity import number_keys as keys_of
from data.rules import PURPOSES
from data.settings import settings
from data.tables import ConsentEvent

TYPES = ("opt_in", "opt_in_pending", "opt_out", "relationship", "registry_check", "deactivated")
ALL_SCOPES = "*"
IMPORT = "import"
"""How the method of an imported event begins: it is what a file says, not what a person did."""

_EVENTS = ConsentEvent.metadata.tables["consent_event"]
_FOLDED = ["id", "number_key", "type", "scope", "basis", "occurred_at", "method"]
_OFFSET = r".*(?:[Zz]|[+-]\d\d:?\d\d)"
_NAMES = {
    "recipient": ("recipient", "phone"),
    "type": ("type",),
    "occurred_at": ("occurred_at",),
    "scope": ("scope", "purpose"),
    "basis": ("basis",),
    "source": ("source",),
    "method": ("method",),
}


class ConsentError(SmsError):
    """Consent that cannot be recorded or judged as given."""


def append(connection: Connection, events: pd.DataFrame) -> None:
    """Add events to the ledger; nothing there is ever changed.

    Columns: type (one of `TYPES`), recipient (E.164), scope (a purpose, `*` where missing),
    basis, occurred_at (UTC, or missing where nobody knows), source, method (how the person said
    it; begins with `import` where a file says so), and optionally evidence (dicts or JSON text).
    An opt-in without a method is kept, but never lifts an opt-out. Raises `ConsentError`.
    """
    if events.empty:
        return
    _check(events)
    recorded_at = pd.Timestamp(now())
    rows = pd.DataFrame(
        {
            "type": events["type"].astype("str"),
            "number_key": keys_of(events["recipient"].tolist()),
            "recipient": events["recipient"].astype("str"),
            "scope": events["scope"].fillna(ALL_SCOPES).replace("", ALL_SCOPES).astype("str"),
            "basis": _text(events, "basis"),
            "occurred_at": pd.to_datetime(events["occurred_at"], utc=True).astype(
                "datetime64[us, UTC]"
            ),
            "source": _text(events, "source"),
            "method": _text(events, "method").str.lower(),
            "evidence": _evidence(events),
        }
    )
    # Nobody has done tomorrow what is recorded today, and a wrong clock must not make an opt-in
    # that beats every later STOP.
    late = rows["occurred_at"] > recorded_at
    rows["occurred_at"] = rows["occurred_at"].mask(late, recorded_at)
    rows["recorded_at"] = pd.Series(recorded_at, index=rows.index, dtype="datetime64[us, UTC]")
    rows["payload_digest"] = _digests(rows)
    insert_frame(connection, "consent_event", rows)


def _check(events: pd.DataFrame) -> None:
    checks = {
        "type": (events["type"].isin(TYPES), "use one of " + ", ".join(TYPES)),
        "recipient": (
            events["recipient"].astype("str").str.fullmatch(r"\+[1-9]\d{4,14}").fillna(False),
            "use an E.164 number",
        ),
        "scope": (
            events["scope"].isna() | events["scope"].isin(["", ALL_SCOPES, *PURPOSES]),
            "use * or one of " + ", ".join(PURPOSES),
        ),
    }
    for column, (good, hint) in checks.items():
        if not good.all():
            at = int((~good).to_numpy().argmax())
            raise ConsentError(f"consent event {at}: its {column} cannot be recorded; {hint}")


def _text(frame: pd.DataFrame, column: str) -> pd.Series:
    return frame[column].fillna("").astype("str")


def _evidence(events: pd.DataFrame) -> pd.Series:
    if "evidence" not in events:
        return pd.Series("{}", index=events.index, dtype="str")

    def written(value: Any) -> str:
        told = json.loads(value) if isinstance(value, str) and value else value
        # One spelling of the same evidence, so that its digest can be computed again.
        return json.dumps(told, sort_keys=True) if isinstance(told, dict) else "{}"

    return events["evidence"].map(written).astype("str")


def _digests(rows: pd.DataFrame) -> list[str]:
    """What the sealer will chain: the columns below, joined by NUL, instants in microseconds.

    Keyed, so that nobody can guess evidence that was erased; the number takes part as its
    fingerprint only.
    """
    base = hashlib.blake2b(digest_size=32, key=settings().key[:64], person=b"consent")

    def digest(values: tuple[str, ...]) -> str:
        state = base.copy()
        state.update("\0".join(values).encode())
        return state.hexdigest()

    occurred, recorded = (
        rows[name].astype("int64").astype("str").where(rows[name].notna(), "").tolist()
        for name in ("occurred_at", "recorded_at")
    )
    before = (rows[name].tolist() for name in ("type", "number_key", "scope", "basis"))
    after = (rows[name].tolist() for name in ("source", "method", "evidence"))
    # A keyed hash has no column operation.
    return [digest(row) for row in zip(*before, occurred, recorded, *after, strict=True)]


def _scopes(purpose: str) -> list[str]:
    if purpose not in PURPOSES:
        raise ConsentError(
            f"{purpose!r} is no purpose of a message: use one of " + ", ".join(PURPOSES)
        )
    return [ALL_SCOPES, purpose]


def opt_out_stands(number_key: SQLCoreOperations[str], purpose: str) -> ColumnElement[bool]:
    """Return the SQL condition that this number must not be sent this purpose.

    It holds where an opt-out of scope `*` or of the purpose has no opt-in of such a scope, made
    by the person, that occurred strictly later. Whatever has no date or the same date is decided
    for the opt-out, and an import lifts none. Emergency messages ignore opt-outs.
    """
    scopes = _scopes(purpose)
    if purpose == "emergency":
        return false()
    out, back = _EVENTS.alias("opted_out"), _EVENTS.alias("opted_in")
    lifted = exists(
        select(1)
        .where(
            back.c.number_key == out.c.number_key,
            back.c.type == "opt_in",
            back.c.scope.in_(scopes),
            back.c.method != "",
            back.c.method.not_like(f"{IMPORT}%"),
            # NULL on either side is not true: the opt-out stands.
            back.c.occurred_at > out.c.occurred_at,
        )
        .correlate_except(back)
    )
    return exists(
        select(1)
        .where(
            out.c.number_key == number_key,
            out.c.type == "opt_out",
            out.c.scope.in_(scopes),
            ~lifted,
        )
        .correlate_except(out)
    )


def standing(connection: Connection, number_keys: pd.Series, purpose: str) -> pd.DataFrame:
    """Return what the ledger says of many numbers, in one statement; columns as of `fold`."""
    # One bound value, whatever their count: databases limit the parameters of a statement.
    keys = literal(number_keys.dropna().unique().tolist(), JSON)
    each = func.json_each if is_sqlite(connection) else func.json_array_elements_text
    wanted = each(keys).table_valued("value")
    statement = select(*(_EVENTS.c[name] for name in _FOLDED)).where(
        _EVENTS.c.number_key.in_(select(wanted.c.value)),
        _EVENTS.c.type.in_(["opt_in", "opt_out"]),
    )
    rows = connection.execute(statement.order_by(_EVENTS.c.id)).all()
    return fold(pd.DataFrame(rows, columns=pd.Index(_FOLDED)), purpose)


def fold(events: pd.DataFrame, purpose: str) -> pd.DataFrame:
    """Return what events add up to for a purpose, whatever their order.

    In: id, number_key, type, scope, basis, occurred_at, method. Out, one row for each number that
    has an opt-in or opt-out of scope `*` or of the purpose: number_key, opted_out (bool; same
    meaning as `opt_out_stands`), opt_in_at (of the latest opt-in), basis (missing where there is
    no opt-in), event_ids (comma-joined).
    """
    spoke = events[
        events["scope"].isin(_scopes(purpose)) & events["type"].isin(["opt_in", "opt_out"])
    ]
    spoke = spoke.assign(
        occurred_at=pd.to_datetime(spoke["occurred_at"], utc=True).astype("datetime64[us, UTC]"),
        id=spoke["id"].astype("str"),
    )
    ins = spoke[spoke["type"] == "opt_in"]
    by_person = ins["method"].ne("") & ~ins["method"].str.startswith(IMPORT)
    back = ins[by_person].groupby("number_key")["occurred_at"].max()
    # No date is later than every date.
    never = pd.Timestamp.max.tz_localize("UTC").floor("us")
    outs = spoke[spoke["type"] == "opt_out"].fillna({"occurred_at": never})
    if purpose == "emergency":
        outs = outs.iloc[:0]
    gone = outs.groupby("number_key")["occurred_at"].max()
    latest = ins.sort_values(["occurred_at", "basis"], na_position="first").drop_duplicates(
        "number_key", keep="last"
    )
    folded = pd.DataFrame(index=pd.Index(spoke["number_key"].unique(), name="number_key"))
    folded["opted_out"] = folded.index.isin(gone[~(back.reindex(gone.index) > gone)].index)
    latest = latest.set_index("number_key")
    folded["opt_in_at"] = latest["occurred_at"].reindex(folded.index)
    folded["basis"] = latest["basis"].reindex(folded.index)
    folded["event_ids"] = _joined(spoke).reindex(folded.index)
    return folded.reset_index()


def _joined(events: pd.DataFrame) -> pd.Series:
    """The ids of each number's events. Most numbers have one, and joining groups is slow."""
    several = events["number_key"].duplicated(keep=False)
    alone = events[~several].set_index("number_key")["id"]
    joined = events[several].groupby("number_key")["id"].agg(",".join)
    ids: pd.Series = pd.concat([alone, joined])
    return ids


def read_import(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a frame of texts, indexed by record number, into events and rejects.

    Columns: recipient or phone, type (opt_in or opt_out), and optionally occurred_at (ISO 8601
    with a zone), scope or purpose, basis, source, method. Returns the events for `append` (same
    index; `recipient` as it came, to be normalised by the caller) and the rejects (row, column,
    reason). What an opt-out says badly is read as more, never dropped: a date that cannot be read
    as unknown, a scope as `*`; the words are kept in its evidence. An opt-in without a scope is
    for marketing. Raises `ConsentError` where a column is missing.
    """
    columns = _import_columns(frame)
    out = columns["type"].eq("opt_out")
    scope = columns["scope"].replace({"all": ALL_SCOPES})
    scope = scope.mask(scope.eq(""), pd.Series("marketing", index=scope.index).mask(out, "*"))
    scope_good = scope.isin([ALL_SCOPES, *PURPOSES])
    said = columns["occurred_at"]
    zoned = said.str.fullmatch(_OFFSET)
    instant = pd.to_datetime(said.where(zoned), format="ISO8601", utc=True, errors="coerce")
    instant = instant.astype("datetime64[us, UTC]")
    future = instant > pd.Timestamp(now())
    faults = {
        "recipient": (columns["recipient"].eq(""), "the number is missing"),
        "type": (~columns["type"].isin(["opt_in", "opt_out"]), "use opt_in or opt_out"),
        "scope": (~scope_good & ~out, "use *, " + ", ".join(PURPOSES)),
        "occurred_at": (
            (said.ne("") & instant.isna() | future) & ~out,
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
    unread = out & (said.ne("") & instant.isna() | ~scope_good)
    events = pd.DataFrame(
        {
            "type": columns["type"],
            "recipient": columns["recipient"],
            "scope": scope.where(scope_good, ALL_SCOPES),
            "basis": columns["basis"],
            "occurred_at": instant,
            "source": columns["source"],
            "method": (IMPORT + ":" + method).where(method.ne(""), IMPORT),
            "evidence": _unread(columns, unread),
        }
    )
    return events[~frame.index.isin(rejects["row"])], rejects.reset_index(drop=True)


def _import_columns(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The known columns as stripped text under their own names, empty where absent."""
    present = {re.sub(r"\s", "", str(name)).lower(): name for name in frame.columns}
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
            columns[column] = frame[found].fillna("").astype("str").str.strip()
    for column in ("type", "scope"):
        columns[column] = columns[column].str.lower()
    return columns


def _unread(columns: dict[str, pd.Series], unread: pd.Series) -> pd.Series:
    evidence = pd.Series("{}", index=unread.index, dtype="str")
    words = zip(columns["occurred_at"][unread], columns["scope"][unread], strict=True)
    kept = [json.dumps({"occurred_at": date, "scope": scope}) for date, scope in words]
    evidence.loc[unread] = pd.Series(kept, index=evidence.index[unread], dtype="str")
    return evidence
