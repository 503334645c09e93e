"""What consent events add up to for a purpose: the one meaning of "opted out", said twice.

Once as SQL, for the claim of a message, and once on columns, for planning and for cases that bring
their own events. Not here: adding events (data.consent_ledger), rules (data.rules, tasks.consent).
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import (
    JSON,
    Connection,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.elements import SQLCoreOperations

from data.database import is_sqlite
from data.errors import SmsError
from data.rules import PURPOSES
from data.tables import ConsentEvent

ALL_SCOPES = "*"
SCOPES = tuple(purpose for purpose in PURPOSES if purpose != "optout_confirmation")
"""The purposes that an event can speak of; `*` speaks of all."""
IMPORT = "import"
"""How the method of an imported event begins: it is what a file says, not what a person did."""

_IGNORE_OPT_OUTS = ("emergency", "optout_confirmation")
_REVOKED_ALL = ("marketing", "transactional", "alert")
_BULK = re.compile(r"import|csv|xlsx|upload|bulk|migrat|(?<![a-z])(?:sync|crm|lists?)(?![a-z])")
_FOLDED = ["id", "number_key", "type", "scope", "basis", "occurred_at", "method", "evidence"]
_CHANNELS = ("channel", "channels")
_SMS_NAMED = ("names_sms", "covers_sms", "includes_sms")
_SMS = ("sms", "mms", "all")
_NOT = {"no", "non", "not", "except", "without"}
_COUNTED = ["opt_in", "relationship", "deactivated"]
_UNCHANGED = ("suspend", "resume")
_SOFT_OPT_IN = ("optout_offered_at_collection", "similar_products", "own_products")
_CLEAR = {"clear", "cleared", "onay", "ok", "not listed", "unlisted", "not registered"}
_REGISTRY_BASES = ("dnc_clear", "iys_onay")
# No date is later than every date; and of a clear answer earlier.
_NEVER = pd.Timestamp.max.tz_localize("UTC").floor("us")
_EVER = pd.Timestamp.min.tz_localize("UTC").ceil("us")
_EVENTS = ConsentEvent.metadata.tables["consent_event"]


class ConsentError(SmsError):
    """Consent that cannot be recorded or judged as given."""


@dataclass(frozen=True)
class Standing:
    """What the ledger says of many numbers for one purpose.

    `people`, one row for each number that has an event: number_key, opted_out (bool, of this
    purpose), opted_out_of_any (bool: an opt-out of some scope stands), opt_out_at (UTC: the latest
    date of an opt-out that stands, of the purpose, or of any where it asks for no consent),
    revoked_at (UTC: the latest opt-out of the purpose or deactivation, lifted ones included; later
    than any date where one has none; missing where there is none),
    deactivated (bool: and no opt-in by a person since), registry ("", clear or listed: the latest
    answer), event_ids (comma-joined: what the above and the consents rest on).

    `consents`, one row for each number and basis that holds: number_key, basis, occurred_at (UTC,
    the latest; missing where no date is known), last_active (UTC: latest opt-in or relationship
    of the number for the purpose). What was given before an opt-out or a deactivation is not in it.
    """

    people: pd.DataFrame
    consents: pd.DataFrame


def is_import(source: str, method: str) -> bool:
    """Whether an opt-in comes from a file or another system, and not from the person.

    What smells of bulk counts as one: an import that is taken for a person's own opt-in would lift
    that person's opt-out.
    """
    return any(_BULK.search(told.lower()) for told in (source, method))


def scopes_of(purpose: str) -> list[str]:
    """Return the scopes of the events that speak of a purpose. Raises `ConsentError`."""
    if purpose not in PURPOSES:
        raise ConsentError(
            f"{purpose!r} is no purpose of a message: use one of " + ", ".join(PURPOSES)
        )
    return [ALL_SCOPES, purpose]


# ------------------------------------------------------------------ as SQL


def opt_out_stands(
    number_key: SQLCoreOperations[str],
    purpose: str,
    everything: ColumnElement[bool] | None = None,
) -> ColumnElement[bool]:
    """Return the SQL condition that this number must not be sent this purpose.

    It holds where an opt-out of scope `*` or of the purpose, or a deactivation by the carrier, has
    no opt-in by the person that occurred strictly later; for an opt-out it must be of scope `*`,
    of the purpose or of the opt-out's own scope. Whatever has no date or the same date is decided
    for the opt-out, and an import lifts none. Emergency messages and the confirmation of an
    opt-out ignore opt-outs, not deactivations. A deactivation of status SUSPEND or RESUME is none,
    and an opt-in to other channels only lifts nothing. Where `everything` is true, an opt-out of
    any scope counts for marketing, transactional and alert.
    """
    scopes = scopes_of(purpose)
    out, back = _EVENTS.alias("opted_out"), _EVENTS.alias("opted_in")
    deactivated = out.c.type == "deactivated"
    lifted = exists(
        select(1)
        .where(
            back.c.number_key == out.c.number_key,
            back.c.type == "opt_in",
            or_(deactivated, back.c.scope == out.c.scope, back.c.scope.in_(scopes)),
            back.c.method != "",
            back.c.method.not_like(f"{IMPORT}%"),
            _speaks_of_sms(back.c.evidence),
            # NULL on either side is not true: the opt-out stands.
            back.c.occurred_at > out.c.occurred_at,
        )
        .correlate_except(back)
    )
    heard: ColumnElement[bool] = out.c.scope.in_(scopes)
    if everything is not None and purpose in _REVOKED_ALL:
        heard = or_(heard, everything)
    status = func.lower(func.coalesce(out.c.evidence["status"].as_string(), ""))
    unchanged = or_(*(func.trim(status).startswith(word) for word in _UNCHANGED))
    types: ColumnElement[bool] = out.c.type.in_(["opt_out", "deactivated"])
    stops = or_(deactivated, heard)
    if purpose in _IGNORE_OPT_OUTS:
        types = stops = deactivated
    return exists(
        select(1)
        .where(
            out.c.number_key == number_key,
            types,
            stops,
            or_(out.c.type == "opt_out", not_(unchanged)),
            ~lifted,
        )
        .correlate_except(out)
    )


def _speaks_of_sms(evidence: ColumnElement[Any]) -> ColumnElement[bool]:
    """As `_is_of_sms`, for the lists and words that people write."""
    said = {
        name: func.lower(func.coalesce(evidence[name].as_string(), ""))
        for name in (*_CHANNELS, *_SMS_NAMED)
    }
    named = [
        or_(
            said[name].in_(["", "all"]),
            *(said[name].contains(word) for word in ("sms", "mms", "text", '"all"')),
        )
        for name in _CHANNELS
    ]
    return and_(*named, *(said[name].in_(["", "true", "yes", "1"]) for name in _SMS_NAMED))


def standing(connection: Connection, number_keys: pd.Series, purpose: str) -> Standing:
    """Return what the ledger says of many numbers, in one statement."""
    # One bound value, whatever their count: databases limit the parameters of a statement.
    keys = literal(number_keys.dropna().unique().tolist(), JSON)
    each = func.json_each if is_sqlite(connection) else func.json_array_elements_text
    wanted = each(keys).table_valued("value")
    # Reading JSON is slow, and few events need it.
    text = cast(_EVENTS.c.evidence, Text)
    told = or_(
        _EVENTS.c.type.in_(["relationship", "registry_check", "deactivated"]),
        text.contains("channel"),
        text.contains("s_sms"),
    )
    evidence = case((told, _EVENTS.c.evidence), else_=null())
    columns: dict[str, ColumnElement[Any]] = {name: _EVENTS.c[name] for name in _FOLDED} | {
        "evidence": evidence
    }
    if is_sqlite(connection):
        # As the text that it is: pandas reads a column of them at once.
        columns["occurred_at"] = type_coerce(_EVENTS.c.occurred_at, Text)
    statement = select(*columns.values()).where(
        _EVENTS.c.number_key.in_(select(wanted.c.value)), _EVENTS.c.type != "opt_in_pending"
    )
    # Of its own rows' type pandas asks each one what it is.
    rows = [tuple(row) for row in connection.execute(statement.order_by(_EVENTS.c.id))]
    return fold(pd.DataFrame(rows, columns=pd.Index(_FOLDED)), purpose)


# ------------------------------------------------------------------ on columns


def fold(events: pd.DataFrame, purpose: str, at: datetime | None = None) -> Standing:
    """Return what events add up to for a purpose, whatever their order.

    In: id, number_key, type, scope, basis, occurred_at, method, and optionally evidence (dicts or
    JSON text: what makes a soft opt-in one, the result of a registry check, the status of a
    deactivation, the channels of an opt-in: channel, channels, names_sms, covers_sms,
    includes_sms). Events dated after `at` are not known yet. What was given for other channels
    only, and a deactivation of status SUSPEND or RESUME, says nothing. `opted_out` or `deactivated`
    has the meaning of `opt_out_stands`.
    """
    scopes = scopes_of(purpose)
    events = _known(events, at)
    of_purpose = events["scope"].isin(scopes)
    ins, outs = events[events["type"] == "opt_in"], _stopping(events, "opt_out")
    dead = _stopping(events, "deactivated")
    own = ins[ins["method"].ne("") & ~ins["method"].str.startswith(IMPORT)]
    checks = _answers(events[of_purpose & events["type"].eq("registry_check")])

    standing_outs = outs[_stands(outs, own, scopes)]
    heard = standing_outs
    if purpose not in _IGNORE_OPT_OUTS:
        heard = standing_outs[standing_outs["scope"].isin(scopes)]
    stopped = _latest(dead)
    back = _latest(own).reindex(stopped.index)
    listed = _latest(checks[checks["result"] == "listed"])
    clear = _latest(checks[checks["result"] == "clear"])

    people = pd.DataFrame(index=pd.Index(events["number_key"].unique(), name="number_key"))
    dated = heard[heard["occurred_at"] < _NEVER]
    ignored = purpose in _IGNORE_OPT_OUTS
    people["opted_out"] = people.index.isin(heard["number_key"]) & (not ignored)
    people["opted_out_of_any"] = people.index.isin(standing_outs["number_key"])
    people["opt_out_at"] = _latest(dated).reindex(people.index)
    people["deactivated"] = people.index.isin(stopped[~(back > stopped)].index)
    still_listed = listed[~(clear.reindex(listed.index) > listed)]
    people["registry"] = np.select(
        [people.index.isin(still_listed.index), people.index.isin(clear.index)],
        ["listed", "clear"],
        "",
    )
    of_all = events["type"].isin(["opt_out", "deactivated"])
    spoke = (
        events[of_purpose | of_all]
        if purpose in _REVOKED_ALL
        else events[of_purpose | events["type"].eq("deactivated")]
    )
    people["event_ids"] = _joined(spoke).reindex(people.index).fillna("")
    ends = _latest(pd.concat([outs[outs["scope"].isin(scopes)], dead]))
    people["revoked_at"] = ends.reindex(people.index)
    return Standing(people.reset_index(), _consents(events[of_purpose], checks, listed, ends))


def _known(events: pd.DataFrame, at: datetime | None) -> pd.DataFrame:
    occurred = pd.to_datetime(events["occurred_at"], utc=True).astype("datetime64[us, UTC]")
    events = events.assign(occurred_at=occurred, id=events["id"].astype("str"))
    if "evidence" not in events:
        events["evidence"] = None
    if at is not None:
        events = events[~(occurred > pd.Timestamp(at))]
    # Few bring any evidence, and looking into it is slow.
    some = events[events["evidence"].notna() & events["type"].isin(_COUNTED)]
    counts = [
        _is_an_end(details) if kind == "deactivated" else _is_of_sms(details)
        for kind, details in zip(some["type"], some["evidence"].map(_details), strict=True)
    ]
    return events.drop(index=some.index[~np.array(counts, bool)])


def _stopping(events: pd.DataFrame, kind: str) -> pd.DataFrame:
    return events[events["type"] == kind].fillna({"occurred_at": _NEVER})


def _latest(events: pd.DataFrame, by: str | list[str] = "number_key") -> pd.Series:
    latest: pd.Series = events.groupby(by)["occurred_at"].max()
    return latest


def _looked_up(latest: pd.Series, number_keys: pd.Series) -> pd.Series:
    return pd.Series(latest.reindex(number_keys).array, index=number_keys.index)


def _stands(outs: pd.DataFrame, own: pd.DataFrame, scopes: list[str]) -> pd.Series:
    """Which opt-outs no person has lifted: see `opt_out_stands`."""
    both = ["number_key", "scope"]
    of_purpose = _looked_up(_latest(own[own["scope"].isin(scopes)]), outs["number_key"])
    pairs = pd.MultiIndex.from_frame(outs[both])
    of_its_scope = pd.Series(_latest(own, both).reindex(pairs).array, index=outs.index)
    lifted = (of_purpose > outs["occurred_at"]) | (of_its_scope > outs["occurred_at"])
    return ~lifted


def _consents(
    events: pd.DataFrame, checks: pd.DataFrame, listed: pd.Series, ends: pd.Series
) -> pd.DataFrame:
    """The consents of `Standing`, of the events of the purpose."""
    given = events[events["type"].isin(["opt_in", "relationship"])]
    active = _latest(given)
    soft = given["type"].eq("relationship") & given["basis"].eq("soft_opt_in")
    complete = given.loc[soft, "evidence"].map(_is_soft_opt_in).astype(bool)
    given = given.drop(index=complete[~complete].index)
    clear = checks[checks["result"] == "clear"]
    since = _looked_up(listed, clear["number_key"])
    clear = clear[since.isna() | (clear["occurred_at"] > since)]
    # An answer without a date says nothing of how long it holds.
    clear = clear.assign(occurred_at=clear["occurred_at"].mask(clear["occurred_at"] == _EVER))
    given = pd.concat([given, clear])
    end = _looked_up(ends, given["number_key"])
    given = given[end.isna() | (given["occurred_at"] > end)]
    found = _latest(given, ["number_key", "basis"]).reset_index()
    return found.assign(last_active=_looked_up(active, found["number_key"]))


def _details(evidence: Any) -> dict[str, Any]:
    if isinstance(evidence, str) and evidence:
        evidence = json.loads(evidence)
    return evidence if isinstance(evidence, dict) else {}


def _is_yes(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("true", "yes", "1")


def _is_of_sms(details: dict[str, Any]) -> bool:
    """Whether what somebody agreed to may come as a text message; what names no channel may."""
    said = [details[name] for name in _CHANNELS if details.get(name) not in (None, "")]
    named = [details[name] for name in _SMS_NAMED if details.get(name) not in (None, "")]
    return all(map(_names_sms, said)) and all(map(_is_yes, named))


def _names_sms(channels: Any) -> bool:
    if isinstance(channels, dict):
        channels = [name for name, holds in channels.items() if _is_yes(holds)]
    several = channels if isinstance(channels, list | tuple) else [channels]
    words = {word for each in several for word in re.split(r"[\W_]+", str(each).lower())}
    if "*" in several:
        return True
    return not words & _NOT and any(word in _SMS or word.startswith("text") for word in words)


def _is_an_end(details: dict[str, Any]) -> bool:
    """Whether a carrier's notice of a deactivation is one: a suspended number has its owner."""
    return not str(details.get("status") or "").strip().lower().startswith(_UNCHANGED)


def _is_soft_opt_in(evidence: Any) -> bool:
    details = _details(evidence)
    return all(_is_yes(details.get(part)) for part in _SOFT_OPT_IN)


def _answers(checks: pd.DataFrame) -> pd.DataFrame:
    """Registry checks with their result, clear or listed, and the basis that a clear one gives."""
    told = [
        _answer(basis, _details(evidence))
        for basis, evidence in zip(checks["basis"], checks["evidence"], strict=True)
    ]
    results = pd.Series([result for result, _ in told], index=checks.index, dtype="str")
    bases = pd.Series([basis for _, basis in told], index=checks.index, dtype="str")
    undated = pd.Series(_EVER, index=checks.index).mask(results.eq("listed"), _NEVER)
    occurred = checks["occurred_at"].fillna(undated)
    return checks.assign(result=results, basis=bases, occurred_at=occurred)


def _answer(basis: str, details: dict[str, Any]) -> tuple[str, str]:
    """What is not clearly a clear answer is one that lists the number."""
    said = str(details.get("result") or "").strip().lower().replace("_", " ")
    if _is_yes(details.get("listed")) or (said and said not in _CLEAR):
        return "listed", basis
    if basis in _REGISTRY_BASES:
        return "clear", basis
    if not said:
        return "listed", basis
    return "clear", "iys_onay" if said == "onay" else "dnc_clear"


def _joined(events: pd.DataFrame) -> pd.Series:
    """The ids of each number's events. Most numbers have one, and joining groups is slow."""
    several = events["number_key"].duplicated(keep=False)
    alone = events[~several].set_index("number_key")["id"]
    joined = events[several].groupby("number_key")["id"].agg(",".join)
    ids: pd.Series = pd.concat([alone, joined])
    return ids
