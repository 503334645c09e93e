"""From an audience to a plan: what each step does to one partition, and how the steps fit.

pull → check (validation, phones, places) → deduplicate → plan (tasks.planning). Each step reads
what the one before it stored in the run's workspace. The rules of a step are in that step's
module. Does not import Prefect; `flows` names the steps there.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping

import pandas as pd

from adapters.sources import HttpConnection, SqlConnection, open_source
from data import plan, runs
from data.database import now
from data.privacy import impersonal
from data.rules import rules
from data.settings import settings
from data.workspace import Workspace
from tasks import audience, calendars, phones, places, windows
from tasks.brief import Brief, Pulled
from tasks.composition import Template
from tasks.deduplication import deduplicate
from tasks.planning import Planned, batch_size, plan_partition
from tasks.pricing import PriceTable
from tasks.validation import SUITE, Totals, Validator, check_share

__all__ = ["Brief", "Planned", "Pulled", "batch_size", "plan_partition", "prepare"]

Connections = Mapping[str, SqlConnection | HttpConnection]


@impersonal
def pull(brief: Brief, connections: Connections) -> Pulled:
    """Read the whole audience into the workspace, then store the number of records.

    Nothing is planned before the last record has been read, so a source that fails half way
    fails the run. Raises `RulesError`, `SourceError`, `AudienceError`, `TemplateError`.
    """
    judged_by = versions()
    _ = rules().rows  # before the audience: what they say wrong, they say of every campaign
    workspace = Workspace(brief.run_id)
    workspace.forget_partitions()
    source = open_source(brief.audience, folders=settings().folders, connections=connections)
    mapped = audience.map_columns(source.columns, brief.audience.columns, source=source.name)
    template = Template(brief.text, source.columns)
    PriceTable.load()
    records = 0
    for number, partition in enumerate(source.partitions()):
        workspace.write("pulled", number, partition.frame)
        workspace.write("unread", number, partition.rejects)
        records += len(partition.frame) + len(partition.rejects)
    purpose, why = brief.raised
    # Whatever looks at the run from now on takes it for what it is.
    facts = {"purpose": purpose, "subject": brief.subject, "versions": judged_by}
    runs.store(brief.run_id, records_read=records, **facts)
    notes = [*source.warnings, *mapped.notes, *template.warnings]
    if why:
        notes.append(f"purpose: sent as {purpose} and not as {brief.purpose}: {why}")
    if mapped.opt_in is None and purpose == "marketing":
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
        "rules": rules().version,
        "holidays": calendars.library_version(),
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
    address = good.get("subdivision", pd.Series(index=good.index, dtype="str"))
    checked = good.assign(
        e164=numbers["e164"].where(numbers["valid"]),
        valid=numbers["valid"],
        line_type=numbers["line_type"],
        region=numbers["region"],
        zones=_zones(good["timezone"], numbers["e164"]),
        subdivisions=places.subdivisions(numbers["e164"], numbers["region"], address),
    )
    invalid = int((~numbers["valid"]).sum())
    totals.good -= invalid
    totals.rejects["invalid_number"] += invalid
    workspace.write("checked", number, checked)
    phone = people["phone"].fillna("")
    rejects = validated.rejects.set_index("row", drop=False)
    workspace.write("rejected", number, rejects.assign(recipient=phone.loc[rejects.index]))


def _zones(own: pd.Series, e164: pd.Series) -> pd.Series:
    """The person's own time zone, else all that the number may be in; the strict profile: both."""
    of_number = places.candidate_zones(e164)
    if settings().rules_profile == "strict":
        both = (own + "," + of_number).where(of_number != "", own)
        ordered = {names: ",".join(sorted({*names.split(",")})) for names in both.dropna().unique()}
        own = both.map(ordered).astype("str")
    return own.fillna(of_number).fillna("")


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
