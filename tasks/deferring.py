"""Messages that cannot go as planned: judged again, by the rules and the ledger of that moment.

Three occasions: a claim refuses them, they were deferred and their opening has come, or the rules
have changed since they were planned. Statements are in `data.deferral`, verdicts in
`tasks.verdicts`. Does not import Prefect.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import pandas as pd

from data import deferral, runs
from data.database import now, patiently
from data.ledger import DEFERRED, QUEUED
from data.privacy import impersonal
from data.recheck import LEAVES_WITHIN
from data.rules import rules
from data.tables import CampaignRun
from tasks import verdicts
from tasks.hours import parse_hours
from tasks.judgement import Campaigning

SOON = timedelta(minutes=10)
"""How long a message waits that the rules allow and a claim refuses still: a month of a cap is at
its longest there. It must not be claimed in vain all the time."""

_STATES = {"send": QUEUED, "defer": DEFERRED}


@impersonal
def put_aside(run: CampaignRun, batch: int | None = None) -> None:
    """Settle the queued messages that a claim refuses: ended, deferred, or queued under new hours.

    Caps that apply by now are stored with the run, and in `run` itself.
    """
    patiently(lambda: deferral.end_overdue(run, batch))
    allowed = _judge_all(run, QUEUED, lambda after: deferral.unclaimable(run, batch, after))
    if not allowed:
        return
    _each_page(
        lambda after: deferral.unclaimable(run, batch, after),
        lambda page: _wait(run, page[page["id"].isin(allowed)]),
    )


@impersonal
def look_again(run: CampaignRun) -> None:
    """Judge what is queued anew where the rules are no longer those that it was planned by.

    A claim asks for what changes by the minute; not whether there are new rules.
    """
    version = rules().version
    if run.versions.get("rules", version) == version:
        return
    _judge_all(run, QUEUED, lambda after: deferral.waiting(run, after))
    run.versions = {**run.versions, "rules": version}
    patiently(lambda: runs.store(run.id, versions=run.versions))


@impersonal
def release(run: CampaignRun) -> int:
    """Queue the deferred messages whose opening has come and holds; return how many.

    Who may not be written to at this moment after all is deferred again, or gets nothing.
    """
    patiently(lambda: deferral.end_overdue(run))
    return len(_judge_all(run, DEFERRED, lambda after: deferral.due(run, after)))


def _judge_all(run: CampaignRun, was: str, pages: Callable[[str], pd.DataFrame]) -> set[str]:
    """Judge and settle page after page; return the ids of what may be claimed now."""
    allowed: set[str] = set()

    def settle(page: pd.DataFrame) -> None:
        judged = _judged(run, page, now() + LEAVES_WITHIN)
        _store_caps(run, judged)
        patiently(lambda: deferral.settle(run, was, judged))
        allowed.update(judged.loc[judged["state"] == QUEUED, "id"])

    _each_page(pages, settle)
    return allowed


def _each_page(
    pages: Callable[[str], pd.DataFrame], settle: Callable[[pd.DataFrame], None]
) -> None:
    after = ""
    while not (page := patiently(lambda: pages(after))).empty:  # noqa: B023 - called at once
        settle(page)
        after = page["id"].iloc[-1]


def _judged(run: CampaignRun, page: pd.DataFrame, at: datetime) -> pd.DataFrame:
    """Columns as of `data.deferral.settle`."""
    found = verdicts.judge(
        _people(run, page),
        run_id=run.id,
        purpose=run.purpose,
        at=at,
        not_after=run.not_after,
        campaign=_campaign(run),
    )
    is_sent = found["verdict"] == "send"
    return pd.DataFrame(
        {
            "id": page["id"],
            "state": found["verdict"].map(_STATES).fillna(found["outcome"]),
            "reason": found["reason"].mask(is_sent, ""),
            "rule": found["rule"].mask(is_sent, ""),
            "opens_at": found["opens_at"].where(found["verdict"] == "defer"),
            "closes_at": found["closes_at"],
            "caps": found["caps"],
        }
    )


def _people(run: CampaignRun, page: pd.DataFrame) -> pd.DataFrame:
    """Columns as of `tasks.consent.evaluate`.

    What was known of the person alone is not judged again: it stood when the message was planned,
    and how long the consent lasts is stored with it.
    """
    stated = run.parameters.get("basis", "") if run.purpose == "marketing" else ""
    return pd.DataFrame(
        {
            "e164": page["recipient"],
            "valid": True,
            "line_type": "mobile",
            "region": page["country"],
            "subdivisions": page["subdivisions"],
            "zones": page["zones"],
            "number_key": page["number_key"],
            "sender": page["sender"],
            "basis": stated,
            "age_verified": "yes",
            "consent_ends_at": page["consent_ends_at"],
        },
        index=page.index,
    )


def _campaign(run: CampaignRun) -> Campaigning:
    return Campaigning(
        window=parse_hours(run.parameters.get("hours", "")),
        subject=run.subject,
        flags=frozenset(run.parameters.get("content", ())),
    )


def _store_caps(run: CampaignRun, judged: pd.DataFrame) -> None:
    caps = verdicts.merged(run.caps, verdicts.stored_caps(judged))
    if caps != run.caps:
        run.caps = caps
        patiently(lambda: runs.store(run.id, caps=caps))


def _wait(run: CampaignRun, page: pd.DataFrame) -> None:
    """Defer for a little what the rules allow and a claim refuses."""
    if page.empty:
        return
    opens_at = min(filter(None, (now() + SOON, run.not_after)))
    waiting = page.assign(
        state=DEFERRED,
        reason="frequency_cap",
        rule=page["caps"].map({caps: _longest(run, caps) for caps in page["caps"].unique()}),
        opens_at=pd.Series(pd.Timestamp(opens_at), page.index, dtype="datetime64[us, UTC]"),
    )
    patiently(lambda: deferral.settle(run, QUEUED, waiting))


def _longest(run: CampaignRun, caps: str) -> str:
    """The cap of a message that looks back furthest: months are what a claim counts longer."""
    named = [cap for cap in run.caps if f",{cap['rule']}," in caps]
    return str(max(named, key=lambda cap: cap["seconds"])["rule"]) if named else ""
