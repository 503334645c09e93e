"""Rows of an audience and what the ledger says of them, for tests of verdicts."""

from datetime import UTC, datetime

import pandas as pd

from data.consent_standing import Standing, fold
from tasks.consent import evaluate

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
"""A Tuesday; 08:00 in New York, 12:00 in London."""

GOOD = {
    "e164": "+447911123456",
    "valid": True,
    "line_type": "mobile",
    "region": "GB",
    "subdivisions": "",
    "zones": "Europe/London",
    "number_key": "k",
    "opt_in": "yes",
    "opt_in_at": datetime(2025, 6, 1, 12, tzinfo=UTC),
    "basis": "express_written",
    "age_verified": None,
    "sender": "",
    "reassigned": False,
    "held": False,
    "confirmations_sent": 0,
}
NEW_YORK = {"region": "US", "subdivisions": "NY", "zones": "America/New_York"}
FLORIDA = {"region": "US", "subdivisions": "FL", "zones": "America/New_York"}

_TEXTS = [
    *("e164", "line_type", "region", "subdivisions", "zones", "number_key"),
    *("opt_in", "basis", "age_verified", "sender"),
]


def audience(*rows: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame([GOOD | row for row in rows], index=range(1, len(rows) + 1))
    frame[_TEXTS] = frame[_TEXTS].astype("str")
    return frame.assign(
        opt_in_at=pd.to_datetime(frame["opt_in_at"], utc=True).astype("datetime64[us, UTC]")
    )


def event(kind: str, occurred_at: str | None = "2025-06-01", **fields: object) -> dict[str, object]:
    """An event of the number `k`, made by the person, for marketing."""
    usual = {
        "number_key": "k",
        "type": kind,
        "scope": "marketing",
        "basis": "express_written" if kind == "opt_in" else "",
        "occurred_at": None if occurred_at is None else pd.Timestamp(occurred_at, tz="UTC"),
        "method": "web_form",
        "evidence": {},
    }
    return usual | fields


def ledger(
    *events: dict[str, object], purpose: str = "marketing", at: datetime | None = None
) -> Standing:
    columns = ["id", "number_key", "type", "scope", "basis", "occurred_at", "method", "evidence"]
    rows = [{"id": str(n)} | told for n, told in enumerate(events)]
    return fold(pd.DataFrame(rows, columns=pd.Index(columns)), purpose, at)


def sends(*sent_at: str, subject: str = "sale", key: str = "k") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number_key": pd.Series([key] * len(sent_at), dtype="str"),
            "subject": pd.Series([subject] * len(sent_at), dtype="str"),
            "sent_at": pd.to_datetime(pd.Series(list(sent_at), dtype="str"), utc=True),
        }
    )


def judged(
    row: dict[str, object], standing: Standing | None = None, **terms: object
) -> dict[str, object]:
    usual = {"purpose": "marketing", "at": NOON, "not_after": None}
    return evaluate(audience(row), standing=standing, **usual | terms).iloc[0].to_dict()  # type: ignore[arg-type]


def told(row: dict[str, object], standing: Standing | None = None, **terms: object) -> str:
    """Verdict, outcome, reason and rule of one row, in one line."""
    found = judged(row, standing, **terms)
    return "/".join(str(found[part]) for part in ("verdict", "outcome", "reason", "rule"))
