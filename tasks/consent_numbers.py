"""`sms consent explain NUMBER`: why one number gets, or got, a message or none.

Here: what the ledger and the runs know of it. Not here: the judgement (tasks.consent), cases that
bring their own events (tasks.consent_cases).
"""

from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import select

from data import consent_ledger, frequency, inbound, runs
from data.consent_ledger import ConsentError
from data.database import reading
from data.identity import number_keys
from data.privacy import mask
from data.rules import rules
from data.tables import CampaignRun, Exclusion, Message
from tasks import phones, places, wording
from tasks.consent import judged
from tasks.consent_cases import answer
from tasks.judgement import Campaigning, Judge

_MESSAGES = Message.metadata.tables["message"]
_EXCLUSIONS = Exclusion.metadata.tables["exclusion"]


def explain_number(
    number: str,
    *,
    purpose: str,
    at: datetime,
    run: str | None = None,
    country: str = "",
) -> dict[str, Any]:
    """Judge one number by what the ledger says of it, as of `at`.

    `country` is where a number without a calling code is dialled from. `run` is the id or key of a
    run: its content, subject and deadline count, and what it planned for the number.

    Out: as of `tasks.consent_cases.explain`, with the masked number as id; the events are ids of
    the ledger. With a run also message: outcome, reason (in words), rule (id), says and source of
    that rule; or in words that the run has none. Without a message, what an audience says of its
    own people is not known. Raises `ConsentError`, `RunError`.
    """
    campaign = None if run is None else runs.find_run(run)
    frame = phones.normalise(pd.Series([number], dtype="str"), country)
    e164 = frame["e164"].iloc[0]
    if pd.isna(e164):
        raise ConsentError("the number cannot be read; write it as +12015550123, or name a country")
    frame = frame.assign(
        number_key=number_keys([e164])[0],
        subdivisions=places.subdivisions(frame["e164"], frame["region"], pd.Series([""])),
        zones=places.candidate_zones(frame["e164"]),
    )
    told: dict[str, Any] = {}
    if campaign is not None:
        frame, told = _planned(campaign, frame, e164)
    judge = Judge(
        purpose,
        at,
        None if campaign is None else campaign.not_after,
        Campaigning() if campaign is None else _campaign(campaign),
    )
    verdict, event_ids = _judge(frame, judge, campaign)
    return answer(mask(e164), judge, verdict, event_ids) | told


def _campaign(run: CampaignRun) -> Campaigning:
    return Campaigning(subject=run.subject, flags=frozenset(run.parameters.get("content") or ()))


def _judge(
    frame: pd.DataFrame, judge: Judge, run: CampaignRun | None
) -> tuple["pd.Series[Any]", str]:
    keys = frame["number_key"]
    caps = judge.rows("frequency", frame["region"].iloc[0] or "", frame["subdivisions"].iloc[0])
    since = judge.at - frequency.longest(frequency.stored(caps))
    besides = "" if run is None else run.id
    with reading() as connection:
        standing = consent_ledger.standing(connection, keys, judge.purpose)
        held = inbound.held(connection, keys)
        prior = frequency.sent(connection, keys, since=since, besides=besides)
    verdict = judged(frame.assign(held=keys.isin(held)), judge, standing, prior)
    return verdict.iloc[0], standing.people["event_ids"].str.cat(sep=",")


def _planned(
    run: CampaignRun, frame: pd.DataFrame, e164: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What a run made of the number: the row as it was planned, and what became of it."""
    key = frame["number_key"].iloc[0]
    messages = select(_MESSAGES).where(_MESSAGES.c.run_id == run.id, _MESSAGES.c.number_key == key)
    # A later row of the same number says less than the first.
    exclusions = (
        select(_EXCLUSIONS)
        .where(_EXCLUSIONS.c.run_id == run.id, _EXCLUSIONS.c.recipient == e164)
        .order_by(_EXCLUSIONS.c.outcome == "duplicate")
    )
    with reading() as connection:
        message = connection.execute(messages).first()
        excluded = None if message else connection.execute(exclusions).first()
    if message is not None:
        ends = pd.Series([message.consent_ends_at], dtype="datetime64[us, UTC]")
        frame = frame.assign(
            region=message.country,
            subdivisions=message.subdivisions,
            zones=message.zones,
            sender=message.sender,
            consent_ends_at=ends,
        )
        return frame, {"message": _became(message.state, message.reason, message.rule)}
    if excluded is not None:
        told = _became(excluded.outcome, excluded.reason, excluded.rule)
        return frame, {"message": told}
    return frame, {"message": "the number is not in its audience"}


def _became(outcome: str, reason: str, rule: str) -> dict[str, str]:
    row = rules().by_id(rule)
    return {
        "outcome": outcome,
        "reason": wording.reason(reason, outcome) if reason else "",
        "rule": rule,
        "says": row.says if row else "",
        "source": row.source if row else "",
    }
