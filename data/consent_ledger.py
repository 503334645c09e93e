"""The consent ledger: adding events. Nothing in it is ever changed; corrections are new events.

What events add up to is in data.consent_standing (its names are offered here too), reading a file
of them in data.consent_import, the seals in data.consent_chain, erasing in data.forgetting.
"""

import hashlib
import json
from typing import Any

import pandas as pd
from sqlalchemy import Connection

from data.consent_chain import evidence_digests, payload_digests
from data.consent_standing import (
    ALL_SCOPES,
    IMPORT,
    SCOPES,
    ConsentError,
    Standing,
    fold,
    is_import,
    opt_out_stands,
    standing,
)
from data.database import insert_frame, now
from data.identity import number_keys as keys_of

__all__ = [
    "ALL_SCOPES",
    "IMPORT",
    "SCOPES",
    "TYPES",
    "ConsentError",
    "Standing",
    "append",
    "fold",
    "is_import",
    "opt_out_stands",
    "standing",
]

TYPES = ("opt_in", "opt_in_pending", "opt_out", "relationship", "registry_check", "deactivated")


def append(connection: Connection, events: pd.DataFrame) -> None:
    """Add events to the ledger; nothing there is ever changed.

    Columns: type (one of `TYPES`), recipient (E.164), scope (a purpose, `*` where missing),
    basis, occurred_at (UTC, or missing where nobody knows), source, method (how the person said
    it; begins with `import` where a file says so, and is made to where source or method smell of
    bulk), and optionally evidence (dicts or JSON text), wording_version, and text_hash (SHA-256
    hex) or wording (the text that was shown, to be hashed). An opt-in without a method is kept,
    but never lifts an opt-out. Raises `ConsentError`.
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
            "method": _methods(events),
            "wording_version": _text(events, "wording_version"),
            "text_hash": _text_hashes(events),
            "evidence": _evidence(events),
        }
    )
    # Nobody has done tomorrow what is recorded today, and a wrong clock must not make an opt-in
    # that beats every later STOP.
    late = rows["occurred_at"] > recorded_at
    rows["occurred_at"] = rows["occurred_at"].mask(late, recorded_at)
    rows["recorded_at"] = pd.Series(recorded_at, index=rows.index, dtype="datetime64[us, UTC]")
    rows["evidence_digest"] = evidence_digests(rows)
    rows["payload_digest"] = payload_digests(rows)
    insert_frame(connection, "consent_event", rows)


def _check(events: pd.DataFrame) -> None:
    checks = {
        "type": (events["type"].isin(TYPES), "use one of " + ", ".join(TYPES)),
        "recipient": (
            events["recipient"].astype("str").str.fullmatch(r"\+[1-9]\d{4,14}").fillna(False),
            "use an E.164 number",
        ),
        "scope": (
            events["scope"].isna() | events["scope"].isin(["", ALL_SCOPES, *SCOPES]),
            "use * or one of " + ", ".join(SCOPES),
        ),
    }
    for column, (good, hint) in checks.items():
        if not good.all():
            at = int((~good).to_numpy().argmax())
            raise ConsentError(f"consent event {at}: its {column} cannot be recorded; {hint}")


def _text(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame:
        return pd.Series("", index=frame.index, dtype="str")
    # PostgreSQL stores no NUL, and a digest's columns are parted by it.
    return frame[column].fillna("").astype("str").str.replace("\0", "", regex=False)


def _methods(events: pd.DataFrame) -> pd.Series:
    said = pd.DataFrame(
        {"source": _text(events, "source"), "method": _text(events, "method").str.lower()}
    )
    # Files have few of them, and millions of rows.
    known = said.drop_duplicates()
    bulk = [is_import(*pair) for pair in known.itertuples(index=False)]
    smells = said.merge(known.assign(bulk=bulk), how="left")["bulk"].to_numpy(bool)
    marked = f"{IMPORT}:" + said["method"]
    return said["method"].mask(smells & ~said["method"].str.startswith(IMPORT), marked)


def _text_hashes(events: pd.DataFrame) -> pd.Series:
    given = _text(events, "text_hash").str.lower()
    shown = _text(events, "wording")
    hashes = {
        wording: hashlib.sha256(wording.encode()).hexdigest()
        for wording in shown[shown != ""].unique()
    }
    return given.mask(given.eq("") & shown.ne(""), shown.map(hashes))


def _evidence(events: pd.DataFrame) -> pd.Series:
    if "evidence" not in events:
        return pd.Series("{}", index=events.index, dtype="str")

    def written(value: Any) -> str:
        told = json.loads(value) if isinstance(value, str) and value else value
        # One spelling of the same evidence, so that its digest can be computed again.
        return json.dumps(told, sort_keys=True) if isinstance(told, dict) else "{}"

    return events["evidence"].map(written).astype("str")
