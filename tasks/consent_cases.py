"""`sms consent explain`: the verdict on a case that brings its own events, and how it came about.

The judgement itself is that of `tasks.consent`; here is how a case is read and its answer written.
Not here: numbers that the ledger knows (tasks.consent_numbers).
"""

import re
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import phonenumbers

from data.consent_ledger import ALL_SCOPES, IMPORT, SCOPES, TYPES, ConsentError, fold
from data.consent_standing import is_import
from data.rules import PURPOSES, Rule, Windows, daily_window, parse_windows, rules
from tasks import calendars, phones, places
from tasks.consent import judged
from tasks.judgement import Campaigning, Judge
from tasks.purpose import kind_of_content
from tasks.windows import tzdata_version

_VERSION = re.compile(r"(\d{4})([a-z]?)")
_DEADLINES = ("not_after", "deadline", "campaign_end", "campaign_ends_at", "expires_at")
_YEARS = range(1900, 2200)
_GIVEN = "It came with the case, which names no page."


def explain(case: object) -> dict[str, Any]:
    """Judge one case that brings its own events; no database is asked.

    In: id, phone, country (for numbers without a calling code), subdivision (of the address),
    timezone or null, purpose, instant (ISO 8601 with a zone), consent_events (type, scope, basis,
    occurred_at, source, method, id, and what the type needs besides), context (below). Events after
    the instant are not known yet; one without a method has its source as method. Without a scope an
    opt-in is for marketing, and anything else for all.

    context: campaign_window as ["09:00", "20:00"] or "09:00-20:00", campaign_windows_by_weekday,
    candidate_timezones (where timezone is null), prior_sends (sent_at, subject), subject,
    content_flags, age_verified, sender_id, moratoria (country, subdivision, purpose, from, to,
    overrides_consent), rnd (the answer of the reassigned numbers database), confirmations_sent,
    not_after (or deadline, campaign_end, campaign_ends_at, expires_at; the earliest counts),
    requires_tzdata, assume_country_rule (any text: the country has no hours and takes every basis
    of consent). Anything else is ignored.

    Out: id, verdict, defer_until (ISO 8601 UTC or null), reason_code, rules (id, says, source and
    confidence of each that was asked, in order; what blocks or defers is the last), events (the
    ids that spoke of the purpose, else their positions from 0), versions. Raises `ConsentError`,
    naming the field.
    """
    if not isinstance(case, dict):
        raise ConsentError("a case is a JSON object")
    try:
        return _explained(case)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # Nobody can foresee all that a case may hold; the others still want their verdicts.
        raise ConsentError(
            f"{_name(case)}: one of its fields has a value of a kind that it never has"
        ) from None


def unreadable(case: object, error: str) -> dict[str, Any]:
    """Write the answer to what cannot be judged: it is not sent."""
    return {
        "id": case.get("id") if isinstance(case, dict) else None,
        "verdict": "block",
        "reason_code": "unreadable_case",
        "error": error,
    }


def _explained(case: dict[str, Any]) -> dict[str, Any]:
    name = _name(case)
    context = case.get("context") or {}
    if not isinstance(context, dict):
        raise ConsentError(f"{name}: context is no object; leave it out, or give its keys")
    _check_tzdata(context, name)
    at = _instant(case, "instant", name)
    judge = Judge(
        _field(case, "purpose", name),
        at,
        _deadline(context, name),
        Campaigning(
            window=_campaign_window(context, name),
            subject=str(context.get("subject") or ""),
            flags=frozenset(map(kind_of_content, _texts(context, "content_flags", name))),
            moratoria=_moratoria(context, name),
        ),
        assumed=bool(context.get("assume_country_rule")),
    )
    standing = fold(_events(case, name), judge.purpose, at)
    verdict = judged(_person(case, context, name), judge, standing, _prior(context, at, name))
    used = standing.people["event_ids"].str.cat(sep=",")
    return answer(name, judge, verdict.iloc[0], used)


def answer(name: str, judge: Judge, verdict: "pd.Series[Any]", event_ids: str) -> dict[str, Any]:
    """Write a verdict as `explain` returns it; `event_ids` are joined by commas."""
    opens_at = verdict["opens_at"]
    asked = list(judge.consulted.values())
    # What decided is the last, though other rows of its step were asked with it.
    asked.sort(key=lambda row: row.id == verdict["rule"])
    return {
        "id": name,
        "verdict": verdict["verdict"],
        "defer_until": None if pd.isna(opens_at) else _iso(opens_at),
        "reason_code": verdict["reason"],
        "rules": [
            {
                "id": row.id,
                "says": row.says,
                "source": row.source,
                "confidence": row.confidence,
            }
            for row in asked
        ],
        "events": list(dict.fromkeys(event_ids.split(","))) if event_ids else [],
        "versions": {
            "rules": rules().version,
            "tzdata": tzdata_version(),
            "phonenumbers": phones.library_version(),
            "holidays": calendars.library_version(),
        },
    }


# ------------------------------------------------------------------ the person


def _person(case: dict[str, Any], context: dict[str, Any], name: str) -> pd.DataFrame:
    """One row for `tasks.consent.evaluate`."""
    number = pd.Series([str(case.get("phone") or "")], dtype="str")
    country = str(case.get("country") or "").upper()
    frame = phones.normalise(number, country)
    frame["region"] = _region(frame["region"].iloc[0], country)
    address = pd.Series([str(case.get("subdivision") or "")], dtype="str")
    frame["subdivisions"] = places.subdivisions(frame["e164"], frame["region"], address)
    zones = case.get("timezone") or ",".join(_texts(context, "candidate_timezones", name))
    frame["zones"] = str(zones) if zones else places.candidate_zones(frame["e164"])
    return frame.assign(
        number_key="",
        sender=str(context.get("sender_id") or ""),
        age_verified="yes" if _is_yes(context.get("age_verified")) else "no",
        reassigned=_is_reassigned(context.get("rnd")),
        confirmations_sent=_count(context.get("confirmations_sent")),
    )


def _region(of_number: Any, country: str) -> Any:
    """The country whose rules apply: where there are none of the number's own, that of the case.

    Islands share the calling code of their mainland, and some of its mobile numbers are theirs.
    """
    if pd.isna(of_number) or any(of_number in row.countries for row in rules().rows):
        return of_number
    code = phonenumbers.country_code_for_region(of_number)
    return country if code == phonenumbers.country_code_for_region(country) else of_number


def _is_yes(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("yes", "true")


def _is_reassigned(said: Any) -> bool:
    """Whether the number has a new owner. What is no answer that anybody knows counts as one."""
    if isinstance(said, dict):
        answers = [each for each in said.values() if _rnd(each) is not None]
        return any(_rnd(each) for each in answers) or (bool(said) and not answers)
    return said is not None and _rnd(said) is not False


def _rnd(said: Any) -> bool | None:
    known = {"yes": True, "true": True, "no": False, "false": False, "no data": False}
    return known.get(str(said).strip().lower().replace("_", " ").replace("-", " "))


def _count(value: Any) -> int:
    """How many; what is no number is at least one."""
    if isinstance(value, list | tuple):
        return len(value)
    said = str(value or 0)
    return int(said) if said.isdecimal() else 1


def _events(case: dict[str, Any], name: str) -> pd.DataFrame:
    """Columns as of `data.consent_standing.fold`."""
    rows = []
    for place, event in enumerate(_objects(case, "consent_events", name)):
        where = f"{name}: consent_events[{place}]"
        kind = _field(event, "type", where)
        if kind not in TYPES:
            raise ConsentError(f"{where}: type is unknown; use one of {', '.join(TYPES)}")
        source, method = str(event.get("source") or ""), str(event.get("method") or "")
        given = event.get("evidence")
        row = {
            "id": str(event.get("id", place)),
            "number_key": "",
            "type": kind,
            "basis": str(event.get("basis") or ""),
            "occurred_at": _instant(event, "occurred_at", where)
            if event.get("occurred_at")
            else None,
            "method": IMPORT if is_import(source, method) else (method or source).lower(),
            "evidence": event | (given if isinstance(given, dict) else {}),
        }
        rows += [row | {"scope": scope} for scope in _scopes(kind, event.get("scope"))]
    columns = ["id", "number_key", "type", "scope", "basis", "occurred_at", "method", "evidence"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _scopes(kind: str, given: Any) -> list[str]:
    """An opt-in of an unknown scope counts for nothing, what stops messages for everything."""
    if given in (None, "", []) and kind == "opt_in":
        return ["marketing"]
    told = given if isinstance(given, list) else [given or ALL_SCOPES]
    scopes = [ALL_SCOPES if scope == "all" else str(scope) for scope in told]
    gives = kind in ("opt_in", "relationship")
    return [
        scope if scope in (ALL_SCOPES, *SCOPES) or gives else ALL_SCOPES for scope in scopes
    ] or [ALL_SCOPES]


# ------------------------------------------------------------------ the campaign


def _campaign_window(context: dict[str, Any], name: str) -> Windows | None:
    daily, weekly = context.get("campaign_window"), context.get("campaign_windows_by_weekday")
    try:
        if weekly:
            return parse_windows(weekly)
        if daily is None or daily == "":
            return None
        pair = re.split(r"\s*[-–]\s*", daily.strip()) if isinstance(daily, str) else daily
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError('write it as ["09:00", "20:00"]')
        return daily_window(*pair)
    except TypeError:
        told = "a weekday has a list of windows"
    except ValueError as error:
        told = str(error)
    raise ConsentError(f"{name}: the campaign window cannot be read: {told}")


def _moratoria(context: dict[str, Any], name: str) -> tuple[Rule, ...]:
    found = []
    for place, given in enumerate(_objects(context, "moratoria", name)):
        purpose, subdivision = given.get("purpose") or "*", str(given.get("subdivision") or "")
        try:
            rule = Rule.model_validate(
                {
                    "id": f"case/moratorium-{place}",
                    "step": "moratorium",
                    "says": "A moratorium that the case names stops messages.",
                    "source": _GIVEN,
                    "confidence": "low",
                    "countries": [given.get("country") or "*"],
                    "subdivision": subdivision.rpartition("-")[2] or None,
                    "purposes": PURPOSES if purpose in ("*", "all") else [purpose],
                    "effective_from": given.get("from"),
                    "effective_to": given.get("to"),
                    "overrides_consent": given.get("overrides_consent", True),
                }
            )
        except ValueError as error:
            first = str(error).splitlines()
            told = " ".join(first[1:3]) if len(first) > 1 else first[0]
            raise ConsentError(f"{name}: moratoria[{place}] cannot be read: {told}") from None
        found.append(rule)
    return tuple(found)


def _prior(context: dict[str, Any], at: datetime, name: str) -> pd.DataFrame:
    sends = [
        (
            "",
            str(send.get("subject") or ""),
            _instant(send, "sent_at", f"{name}: prior_sends[{place}]"),
        )
        for place, send in enumerate(_objects(context, "prior_sends", name))
    ]
    return pd.DataFrame(
        [send for send in sends if send[-1] <= at],
        columns=pd.Index(["number_key", "subject", "sent_at"]),
    )


def _deadline(context: dict[str, Any], name: str) -> datetime | None:
    given = [_instant(context, field, name) for field in _DEADLINES if context.get(field)]
    return min(given, default=None)


def _check_tzdata(context: dict[str, Any], name: str) -> None:
    wanted = _VERSION.search(str(context.get("requires_tzdata") or ""))
    has = _VERSION.search(tzdata_version())
    if wanted and has and has.groups() < wanted.groups():
        raise ConsentError(
            f"{name}: it needs tzdata {wanted.group()}, and {has.group()} is installed; "
            "install a newer tzdata"
        )


# ------------------------------------------------------------------ fields


def _name(case: dict[str, Any]) -> str:
    return str(case.get("id", "case"))


def _objects(given: dict[str, Any], field: str, where: str) -> list[dict[str, Any]]:
    value = given.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ConsentError(f"{where}: {field} is no list of objects; leave it out, or write one")
    return value


def _texts(given: dict[str, Any], field: str, where: str) -> list[str]:
    value = given.get(field)
    texts = [value] if isinstance(value, str) and value else value or []
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ConsentError(f"{where}: {field} is no list of texts; leave it out, or write one")
    return texts


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
    if instant is not None and instant.year not in _YEARS:
        raise ConsentError(f"{where}: {field} is in no year that people send messages in")
    if instant is None or instant.tzinfo is None:
        raise ConsentError(f"{where}: {field} is no instant; write it as 2026-03-01T12:00:00Z")
    return instant.astimezone(UTC)


def _iso(instant: pd.Timestamp) -> str:
    return instant.isoformat().replace("+00:00", "Z")
