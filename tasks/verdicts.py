"""Verdicts on recipients from all that is known of them: at planning, and again when they are due.

Here: what is looked up before the rules are asked, set-wise. Not here: the rules' order and
meaning (tasks.consent), what follows for an audience (tasks.preparation) or for messages that
wait (tasks.deferring).
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pandas as pd

from data import consent_ledger, frequency, inbound
from data.database import reading
from data.rules import Rule, rules
from tasks import consent
from tasks.judgement import Campaigning


def judge(
    people: pd.DataFrame,
    *,
    run_id: str,
    purpose: str,
    at: datetime,
    not_after: datetime | None,
    campaign: Campaigning,
) -> pd.DataFrame:
    """Look up what the ledger knows of people, and judge them as of `at`.

    Columns in and out are those of `tasks.consent.evaluate`. What `run_id` itself has sent does
    not count for frequency caps.
    """
    keys = people["number_key"]
    is_capped, caps = _caps(people, purpose, at)
    since = at - frequency.longest(frequency.stored(caps))
    with reading() as connection:
        standing = consent_ledger.standing(connection, keys, purpose)
        held = inbound.held(connection, keys)
        prior = (
            frequency.sent(connection, keys[is_capped], since=since, besides=run_id)
            if caps
            else None
        )
    return consent.evaluate(
        people.assign(held=keys.isin(held)),
        purpose=purpose,
        at=at,
        not_after=not_after,
        standing=standing,
        campaign=campaign,
        prior=prior,
    )


def _caps(people: pd.DataFrame, purpose: str, at: datetime) -> tuple[pd.Series, list[Rule]]:
    """Which people are where a cap applies, and the caps."""
    place = people["region"].fillna("") + ":" + people["subdivisions"].fillna("")
    found = {
        name: rules().applying("frequency", purpose, country, divisions.split(","), at=at)
        for name in place.unique()
        for country, _, divisions in (name.partition(":"),)
    }
    applies = place.map({name: bool(rows) for name, rows in found.items()}).astype(bool)
    return applies, list({row.id: row for rows in found.values() for row in rows}.values())


def stored_caps(verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the caps that verdicts name, as `campaign_run.caps` holds them."""
    names = {name for caps in verdicts["caps"].unique() for name in caps.split(",") if name}
    return frequency.stored(row for name in sorted(names) if (row := rules().by_id(name)))


def merged(caps: Iterable[dict[str, Any]], more: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return both lists of stored caps; of one rule the later definition."""
    return list({cap["rule"]: cap for cap in [*caps, *more]}.values())
