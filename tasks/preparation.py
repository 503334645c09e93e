"""From an audience to a plan: what each step does to one partition, and how the steps fit.

pull → check (validation, phones) → deduplicate → plan (consent, composition). Each step reads what
the one before it stored in the run's workspace. The rules of a step are in that step's module.
Does not import Prefect; `flows` names the steps there.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from adapters.sources import Audience, HttpConnection, SqlConnection, open_source
from data import consent_ledger, plan, runs
from data.database import now, reading
from data.identity import message_ids, number_keys
from data.privacy import impersonal
from data.rules import RULES
from data.settings import settings
from data.workspace import Workspace
from tasks import audience, consent, phones, segments, windows
from tasks.composition import Template
from tasks.deduplication import deduplicate
from tasks.pricing import PriceTable
from tasks.routing import Route
from tasks.validation import SUITE, Totals, Validator, check_share

Connections = Mapping[str, SqlConnection | HttpConnection]
MOST_BATCHES = 1_000
"""Prefect's server loses task runs when one flow makes many thousands."""


@dataclass(frozen=True)
class Brief:
    """What the steps need to know of a campaign."""

    run_id: str
    audience: Audience
    message: str
    purpose: str
    route: Route
    not_after: datetime | None = None
    max_invalid_share: float = 0.5
    replace_typography: bool = True


@dataclass
class Pulled:
    """What was read: the records, and what the reader and the column mapping noticed."""

    records: int
    columns: list[str]
    mapped: audience.Mapped
    template: Template
    notes: list[str] = field(default_factory=list)


@impersonal
def pull(brief: Brief, connections: Connections) -> Pulled:
    """Read the whole audience into the workspace, then store the number of records.

    Nothing is planned before the last record has been read, so a source that fails half way
    fails the run. Raises `SourceError`, `AudienceError`, `TemplateError`.
    """
    workspace = Workspace(brief.run_id)
    workspace.forget_partitions()
    source = open_source(brief.audience, folders=settings().folders, connections=connections)
    mapped = audience.map_columns(source.columns, brief.audience.columns, source=source.name)
    template = Template(brief.message, source.columns)
    PriceTable.load()
    records = 0
    for number, partition in enumerate(source.partitions()):
        workspace.write("pulled", number, partition.frame)
        workspace.write("unread", number, partition.rejects)
        records += len(partition.frame) + len(partition.rejects)
    runs.store(brief.run_id, records_read=records, versions=versions())
    notes = [*source.warnings, *mapped.notes, *template.warnings]
    if mapped.opt_in is None and brief.purpose == "marketing":
        notes.append(
            "opt_in: no column says who agreed, so only people in the consent ledger get it;"
            " name it in columns if there is one"
        )
    runs.store(brief.run_id, counts={"notes": notes})
    return Pulled(records, source.columns, mapped, template, notes)


def versions() -> dict[str, str]:
    """What judged a run, to be stored with it."""
    return {
        "phonenumbers": phones.library_version(),
        "tzdata": windows.tzdata_version(),
        "rules": RULES.version,
        "expectations": hashlib.sha256(SUITE.read_bytes()).hexdigest(),
    }


@impersonal
def check(brief: Brief, pulled: Pulled, number: int, validator: Validator, totals: Totals) -> None:
    """Validate one partition and read its phone numbers; add what was found to `totals`."""
    workspace = Workspace(brief.run_id)
    frame = workspace.read("pulled", number)
    people = audience.canonical(
        frame, pulled.mapped, default_country=brief.audience.default_country
    )
    validated = validator.validate(people, frame)
    totals.add(validated.results)
    totals.add_unreadable(workspace.read("unread", number))
    good = validated.good
    workspace.write("refusing", number, _refusing(people.drop(good.index)))
    numbers = phones.normalise(good["phone"], good["country"])
    zones = good["timezone"].fillna(phones.time_zones(numbers["e164"])).fillna("")
    checked = good.assign(
        e164=numbers["e164"].where(numbers["valid"]),
        valid=numbers["valid"],
        line_type=numbers["line_type"],
        region=numbers["region"],
        zones=zones,
    )
    invalid = int((~numbers["valid"]).sum())
    totals.good -= invalid
    totals.rejects["invalid_number"] += invalid
    workspace.write("checked", number, checked)
    phone = people["phone"].fillna("")
    rejects = validated.rejects.set_index("row", drop=False)
    workspace.write("rejected", number, rejects.assign(recipient=phone.loc[rejects.index]))


def _refusing(rejected: pd.DataFrame) -> pd.DataFrame:
    """The numbers of rejected records that say no: a spoilt record's refusal counts too."""
    says_no = rejected[rejected["opt_in"] == "no"]
    numbers = phones.normalise(says_no["phone"], says_no["country"])
    return numbers.loc[numbers["valid"], ["e164"]]


@impersonal
def check_total(brief: Brief, totals: Totals) -> None:
    """Raise `TooManyBadRows` where more of the audience is bad than the campaign allows."""
    check_share(totals, brief.max_invalid_share)


@impersonal
def deduplicate_partitions(brief: Brief) -> int:
    """De-duplicate across all partitions; return how many records are repetitions.

    Held in memory here, and nowhere else, is one line for every record: its number and consent.
    """
    workspace = Workspace(brief.run_id)
    columns = ["e164", "opt_in", "opt_in_at"]
    parts = {n: workspace.read("checked", n, columns) for n in workspace.numbers("checked")}
    people = pd.concat(parts.values())
    refusing = pd.concat(workspace.read("refusing", n) for n in parts)["e164"]
    found = deduplicate(people)
    found["opt_in"] = found["opt_in"].mask(people["e164"].isin(refusing), "no")
    for number, part in parts.items():
        workspace.write("deduplicated", number, found.loc[part.index])
    return int((found["first_row"] != found.index).sum())


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
    people = people.assign(id=message_ids(brief.run_id, "campaign", people["e164"]))
    people["gateway"] = brief.route.choose(people["region"], people["id"])
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
    keys = pd.Series(index=people.index, dtype="str")
    known = people["e164"].notna()
    keys[known] = number_keys(people.loc[known, "e164"])
    people = people.assign(number_key=keys)
    with reading() as connection:
        standing = consent_ledger.standing(connection, keys.dropna(), brief.purpose)
    verdicts = consent.evaluate(
        people, purpose=brief.purpose, at=at, not_after=brief.not_after, standing=standing
    )
    refused = verdicts["verdict"] == "block"
    excluded = _excluded(
        people[refused],
        verdicts.loc[refused, "outcome"],
        verdicts.loc[refused, "reason"],
        rule=verdicts.loc[refused, "rule"],
    )
    kept = verdicts.loc[~refused, ["verdict", "reason", "rule", "opens_at", "closes_at"]]
    return people[~refused].join(kept), excluded


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
            "zones": people["zones"],
            "text": texts,
            "encoding": measured["encoding"],
            "segments": measured["segments"],
            "planned_price": prices["price"].astype("str"),
            "planned_currency": prices["currency"],
            "sender": gateway.map(dict(brief.route.senders)),
            "gateway": gateway,
            "state": deferred.map({True: "deferred", False: "queued"}),
            "reason": people["reason"].where(deferred, ""),
            "rule": people["rule"].where(deferred, ""),
            "opens_at": people["opens_at"].where(deferred),
            "closes_at": people["closes_at"],
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


def prepare(brief: Brief, connections: Connections, *, state: str = runs.SENDING) -> list[Planned]:
    """All the steps in order, for callers without Prefect (tests, benchmarks)."""
    plan.clear_plan(brief.run_id)
    pulled = pull(brief, connections)
    workspace, totals, validator = Workspace(brief.run_id), Totals(), Validator()
    numbers = workspace.numbers("pulled")
    for number in numbers:
        check(brief, pulled, number, validator, totals)
    check_total(brief, totals)
    deduplicate_partitions(brief)
    planned: list[Planned] = []
    at, before = now(), Counter[str]()
    for number in numbers:
        planned.append(plan_partition(brief, pulled, number, at, before))
        before += planned[-1].gateways
    plan.complete_plan(brief.run_id, state)
    workspace.forget_partitions()
    return planned
