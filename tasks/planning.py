"""The last step of a preparation: one partition becomes messages and exclusions.

Verdicts, texts, gateways and batches. Not here: the steps before it, and how they fit together
(tasks.preparation). Does not import Prefect.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from data import plan, runs
from data.identity import message_ids, number_keys
from data.privacy import impersonal
from data.settings import settings
from data.workspace import Workspace
from tasks import segments, verdicts
from tasks.brief import Brief, Pulled
from tasks.judgement import Campaigning
from tasks.pricing import PriceTable

MOST_BATCHES = 1_000
"""Prefect's server loses task runs when one flow makes many thousands."""
_KEPT = ["verdict", "reason", "rule", "opens_at", "closes_at", "consent_ends_at", "caps"]
"""What a verdict says of a message that is sent, now or later."""


@dataclass
class Planned:
    """What one partition became, in figures for people."""

    messages: int
    excluded: int
    summary: pd.DataFrame
    """From `PriceTable.summary`: messages, segments and cost by currency."""
    encodings: pd.DataFrame
    """Columns `encoding, segments, forcing, messages`: how many texts of each kind."""
    gateways: Counter[str] = field(default_factory=Counter)
    """Messages by the gateway that is to send them."""


@impersonal
def plan_partition(
    brief: Brief, pulled: Pulled, number: int, at: datetime, before: Mapping[str, int]
) -> Planned:
    """Turn one partition into messages and exclusions, and store both in one transaction.

    `before` is the number of messages planned before it for each gateway; batches are numbered
    through from there.
    """
    workspace = Workspace(brief.run_id)
    people = workspace.read("checked", number)
    group = workspace.read("deduplicated", number)
    people = people.assign(opt_in=group["opt_in"], opt_in_at=group["opt_in_at"])
    is_first = group["first_row"] == group.index
    repeated = _excluded(
        people[~is_first],
        "duplicate",
        "same_number",
        detail="the number of row " + group.loc[~is_first, "first_row"].astype("str"),
    )
    people, refused = _judge(brief, people[is_first], at)
    rows = workspace.read("pulled", number).loc[people.index]
    texts = pulled.template.render(rows, brief.route.longest)
    unwritten = texts["reason"] != ""
    hollow = _excluded(people[unwritten], "blocked", texts.loc[unwritten, "reason"])
    people = people[~unwritten]
    homeless = people["gateway"] == ""
    unsent = _excluded(people[homeless], "blocked", "no_gateway", rule="route")
    people = people[~homeless]
    messages, forcing = _messages(brief, people, texts.loc[people.index, "text"], before, pulled)
    exclusions = pd.concat(
        [_unusable(workspace, number), repeated, refused, hollow, unsent], ignore_index=True
    )
    exclusions["run_id"] = brief.run_id
    plan.add_to_plan(messages, exclusions)
    return Planned(
        messages=len(messages),
        gateways=Counter(messages["gateway"].tolist()),
        excluded=len(exclusions),
        summary=PriceTable.load().summary(messages["country"], messages["segments"]),
        encodings=_encodings(messages, forcing),
    )


def _judge(brief: Brief, people: pd.DataFrame, at: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply consent: the people who may be written to, now or later, and the exclusions."""
    people = _with_sender(brief, people)
    found = verdicts.judge(
        people.assign(basis=brief.basis),
        run_id=brief.run_id,
        purpose=brief.raised[0],
        at=at,
        not_after=brief.not_after,
        campaign=Campaigning(
            window=brief.window,
            subject=brief.subject,
            flags=frozenset(brief.content),
            text=brief.text,
        ),
    )
    _store_caps(brief.run_id, verdicts.stored_caps(found))
    refused = found["verdict"] == "block"
    excluded = _excluded(
        people[refused],
        found.loc[refused, "outcome"],
        found.loc[refused, "reason"],
        rule=found.loc[refused, "rule"],
    )
    return people[~refused].join(found.loc[~refused, _KEPT]), excluded


def _with_sender(brief: Brief, people: pd.DataFrame) -> pd.DataFrame:
    """Add number_key and id (missing without a number), gateway and sender (empty where none)."""
    known = people["e164"].notna()
    numbers = people.loc[known, "e164"]
    keys, ids = (pd.Series(index=people.index, dtype="str") for _ in range(2))
    keys[known] = number_keys(numbers)
    ids[known] = message_ids(brief.run_id, "campaign", numbers)
    gateway = pd.Series("", index=people.index, dtype="str")
    gateway[known] = brief.route.choose(people.loc[known, "region"], ids[known])
    sender = gateway.map(dict(brief.route.senders)).fillna("")
    return people.assign(number_key=keys, id=ids, gateway=gateway, sender=sender)


def _store_caps(run_id: str, caps: list[dict[str, Any]]) -> None:
    if caps:
        before = runs.get_run(run_id).caps
        if (both := verdicts.merged(before, caps)) != before:
            runs.store(run_id, caps=both)


def _messages(
    brief: Brief, people: pd.DataFrame, texts: pd.Series, before: Mapping[str, int], pulled: Pulled
) -> tuple[pd.DataFrame, pd.Series]:
    """Return rows of `message`, and the character that forces UCS-2 in each text."""
    if brief.replace_typography:
        texts = segments.smart_replace_column(texts)
    measured = segments.measure(texts)
    prices = PriceTable.load().estimate(people["region"], measured["segments"])
    deferred = people["verdict"] == "defer"
    gateway = people["gateway"]
    messages = pd.DataFrame(
        {
            "id": people["id"],
            "run_id": brief.run_id,
            "kind": "campaign",
            "request_key": people["e164"],
            "row": people.index,
            "batch": _batches(brief, gateway, before, batch_size(pulled.records)),
            "recipient": people["e164"],
            "number_key": people["number_key"],
            "country": people["region"],
            "subdivisions": people["subdivisions"],
            "zones": people["zones"],
            "text": texts,
            "encoding": measured["encoding"],
            "segments": measured["segments"],
            "planned_price": prices["price"].astype("str"),
            "planned_currency": prices["currency"],
            "sender": people["sender"],
            "gateway": gateway,
            "state": deferred.map({True: "deferred", False: "queued"}),
            "reason": people["reason"].where(deferred, ""),
            "rule": people["rule"].where(deferred, ""),
            "opens_at": people["opens_at"].where(deferred),
            "closes_at": people["closes_at"],
            "consent_ends_at": people["consent_ends_at"],
            "caps": people["caps"],
            "attempt": 0,
            "status_rank": 0,
            "conflict": False,
        },
        index=people.index,
    )
    return messages, measured["forcing"]


def _batches(brief: Brief, gateway: pd.Series, before: Mapping[str, int], size: int) -> pd.Series:
    """Number batches so that each belongs to one gateway, and all gateways begin at once."""
    names = brief.route.gateways
    first = gateway.map({name: before.get(name, 0) for name in names}).astype("int64")
    place = gateway.map({name: place for place, name in enumerate(names)}).astype("int64")
    return (first + gateway.groupby(gateway).cumcount()) // size * len(names) + place


def batch_size(records: int) -> int:
    """Messages in a batch: the setting, or more where there would be too many batches."""
    return max(settings().batch_size, -(-records // MOST_BATCHES))


def _unusable(workspace: Workspace, number: int) -> pd.DataFrame:
    """Exclusions of the records that the source or the validation rejected."""
    unread = workspace.read("unread", number)
    rejected = workspace.read("rejected", number)
    both = pd.concat([unread, rejected.reset_index(drop=True)], ignore_index=True)
    text = both.reindex(columns=["row", "column", "reason", "recipient", "detail"])
    filled = {name: text[name].fillna("") for name in ("column", "recipient", "detail")}
    return text.assign(**filled, outcome="invalid", rule="validation")


def _excluded(
    people: pd.DataFrame,
    outcome: "str | pd.Series",
    reason: "str | pd.Series",
    *,
    rule: "str | pd.Series" = "",
    detail: "str | pd.Series" = "",
) -> pd.DataFrame:
    """Rows of `exclusion` for people with a checked phone column."""
    columns: dict[str, Any] = {
        "row": people.index,
        "recipient": people["e164"].fillna(people["phone"]).fillna(""),
        "outcome": outcome,
        "reason": reason,
        "column": "",
        "rule": rule,
        "detail": detail,
    }
    return pd.DataFrame(columns, index=people.index)


def _encodings(messages: pd.DataFrame, forcing: pd.Series) -> pd.DataFrame:
    kinds = messages[["encoding", "segments"]].assign(forcing=forcing)
    return kinds.groupby(["encoding", "segments", "forcing"]).size().reset_index(name="messages")
