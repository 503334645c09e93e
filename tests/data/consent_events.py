"""Consent events of tests, and a fold of them in plain Python, one event at a time."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from data.consent_ledger import append
from data.database import writing

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = "+12015550100", "+12015550101"
DAY = timedelta(1)

Event = dict[str, Any]


def events(*rows: Event) -> pd.DataFrame:
    usual = {"recipient": A, "scope": "marketing", "basis": "", "source": "", "method": "web_form"}
    frame = pd.DataFrame([usual | row for row in rows])
    return frame.assign(occurred_at=pd.to_datetime(frame["occurred_at"], utc=True))


def event(kind: str, at: datetime | None, **other: object) -> Event:
    return {"type": kind, "occurred_at": at} | other


def opt_out(at: datetime | None, **other: object) -> Event:
    return event("opt_out", at, **other)


def opt_in(at: datetime | None, **other: object) -> Event:
    return event("opt_in", at, **other)


def record(frame: pd.DataFrame) -> None:
    with writing() as connection:
        append(connection, frame)


# ------------------------------------------------------------------ the same, plainly


def _after(back: Event, out: Event) -> bool:
    if back["occurred_at"] is None or out["occurred_at"] is None:
        return False
    return bool(back["occurred_at"] > out["occurred_at"])


def _by_person(told: Event) -> bool:
    method = str(told["method"])
    return told["type"] == "opt_in" and method != "" and not method.startswith("import")


def _lifted(out: Event, history: Iterable[Event], scopes: set[str]) -> bool:
    return any(
        _by_person(back) and back["scope"] in scopes | {out["scope"]} and _after(back, out)
        for back in history
    )


def opted_out(history: list[Event], purpose: str) -> bool:
    if purpose in ("emergency", "optout_confirmation"):
        return False
    scopes = {"*", purpose}
    outs = [out for out in history if out["type"] == "opt_out" and out["scope"] in scopes]
    return any(not _lifted(out, history, scopes) for out in outs)


def opted_out_of_any(history: list[Event], purpose: str) -> bool:
    outs = [out for out in history if out["type"] == "opt_out"]
    return any(not _lifted(out, history, {"*", purpose}) for out in outs)


def deactivated(history: list[Event]) -> bool:
    gone = [out for out in history if out["type"] == "deactivated"]
    return any(not any(_by_person(b) and _after(b, out) for b in history) for out in gone)


def consents(history: list[Event], purpose: str) -> dict[str, datetime | None]:
    """The bases that opt-ins give, each with its latest date."""
    heard = [told for told in history if told["scope"] in ("*", purpose)]
    ends = [told for told in heard if told["type"] == "opt_out"]
    ends += [told for told in history if told["type"] == "deactivated"]
    found: dict[str, datetime | None] = {}
    for told in heard:
        if told["type"] == "opt_in" and all(_after(told, end) for end in ends):
            before = found.get(told["basis"])
            dates = [date for date in (before, told["occurred_at"]) if date is not None]
            found[told["basis"]] = max(dates, default=None)
    return found
