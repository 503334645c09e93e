"""`sms consent explain`: the verdict on single cases that bring their own events.

The judgement itself is that of `tasks.consent`; here is how a case is read and its answer written.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from data import consent_ledger
from data.consent_ledger import IMPORT, ConsentError
from data.rules import PURPOSES, RULES, Windows, daily_window, parse_windows
from tasks import phones
from tasks.consent import Judge, Person, Place, distinct, personal_columns
from tasks.windows import tzdata_version


def explain(case: dict[str, Any]) -> dict[str, Any]:
    """Judge one case that brings its own events; no database is asked.

    In: id, phone, country (for numbers without a calling code), timezone or null, purpose,
    instant (ISO 8601 with a zone), consent_events (type, scope, basis, occurred_at, source,
    method, id), context (candidate_timezones, campaign_window as ["09:00", "20:00"],
    campaign_windows_by_weekday; anything else is ignored). What is dated after the instant is not
    known yet. An event without a method has its source as method.

    Out: id, verdict, defer_until (ISO 8601 UTC or null), reason_code, rules (id, source of each
    that was consulted, in order), consent_events (the ids that spoke of
    the purpose, else their positions from 0), versions. Raises `ConsentError`, naming the field.
    """
    name = str(case.get("id", "case"))
    context = case.get("context") or {}
    purpose, at = _field(case, "purpose", name), _instant(case, "instant", name)
    events = _events(case, at, name)
    standing = consent_ledger.fold(events, purpose)
    number = pd.Series([str(case.get("phone") or "")], dtype="str")
    frame = phones.normalise(number, str(case.get("country") or ""))
    zones = case.get("timezone") or ",".join(context.get("candidate_timezones") or [])
    frame["zones"] = zones or phones.time_zones(frame["e164"])
    frame = frame.assign(
        number_key="", opt_in=pd.Series([np.nan], dtype="str"), opt_in_at=pd.Series([pd.NaT])
    )
    judge = Judge(purpose, at, None, _campaign_window(context, name))
    people, _ = distinct(Person, personal_columns(frame, standing))
    place = Place(people[0].region, frame["zones"].iloc[0])
    verdict = judge.whether(people[0]) or judge.when(place)
    used = standing["event_ids"].str.cat(sep=",")
    return {
        "id": name,
        "verdict": verdict.verdict,
        "defer_until": _iso(verdict.opens_at),
        "reason_code": verdict.reason,
        "rules": [{"id": rule.id, "source": rule.source} for rule in judge.consulted],
        "consent_events": used.split(",") if used else [],
        "versions": {
            "rules": RULES.version,
            "tzdata": tzdata_version(),
            "phonenumbers": phones.library_version(),
        },
    }


def _events(case: dict[str, Any], at: datetime, name: str) -> pd.DataFrame:
    rows = []
    for place, event in enumerate(case.get("consent_events") or []):
        where = f"{name}: consent_events[{place}]"
        moment = _instant(event, "occurred_at", where) if event.get("occurred_at") else None
        if moment is not None and moment > at:
            continue
        source = str(event.get("source") or "").lower()
        method = IMPORT if IMPORT in source else str(event.get("method") or source).lower()
        kind, scope = _field(event, "type", where), event.get("scope") or "*"
        if scope == "all" or (kind == "opt_out" and scope not in PURPOSES):
            scope = "*"
        rows.append(
            {
                "id": str(event.get("id", place)),
                "number_key": "",
                "type": kind,
                "scope": scope,
                "basis": str(event.get("basis") or ""),
                "occurred_at": moment,
                "method": method,
            }
        )
    columns = ["id", "number_key", "type", "scope", "basis", "occurred_at", "method"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _field(given: dict[str, Any], field: str, where: str) -> str:
    value = given.get(field)
    if not isinstance(value, str) or not value:
        raise ConsentError(f"{where}: {field} is missing; give it as text")
    return value


def _instant(given: dict[str, Any], field: str, where: str) -> datetime:
    try:
        instant = datetime.fromisoformat(_field(given, field, where))
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ConsentError(f"{where}: {field} is no instant; write it as 2026-03-01T12:00:00Z")
    return instant.astimezone(UTC)


def _campaign_window(context: dict[str, Any], name: str) -> Windows | None:
    daily, weekly = context.get("campaign_window"), context.get("campaign_windows_by_weekday")
    try:
        if weekly:
            return parse_windows(weekly)
        return daily_window(*daily) if daily else None
    except (TypeError, ValueError) as error:
        raise ConsentError(f"{name}: the campaign window cannot be read: {error}") from None


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")
