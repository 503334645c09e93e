"""Verdicts on a mixed audience: situation by situation, beside one row after the other."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from data.consent_standing import Standing
from tasks.consent import evaluate
from tasks.judgement import Campaigning
from tests.benchmarks.bench import Figure, Report, timed

AT = datetime(2026, 3, 10, 15, tzinfo=UTC)
_COUNTRIES = {
    "US": "America/New_York,America/Chicago,America/Denver,America/Phoenix,America/Los_Angeles",
    "CA": "America/Toronto,America/Vancouver",
    "GB": "Europe/London",
    "FR": "Europe/Paris",
    "DE": "Europe/Berlin",
    "IT": "Europe/Rome,Europe/Vatican",
    "ES": "Atlantic/Canary,Europe/Madrid",
    "PL": "Europe/Warsaw",
    "AU": "Australia/Adelaide,Australia/Brisbane,Australia/Perth,Australia/Sydney",
    "NZ": "Pacific/Auckland,Pacific/Chatham",
    "IN": "Asia/Calcutta",
    "SG": "Asia/Singapore",
    "AE": "Asia/Dubai",
    "SA": "Asia/Riyadh",
    "BR": "America/Manaus,America/Sao_Paulo",
    "MX": "America/Mexico_City,America/Tijuana",
    "ZA": "Africa/Johannesburg",
    "NG": "Africa/Lagos",
    "JP": "Asia/Tokyo",
    "TR": "Europe/Istanbul",
}
_STATES = """
    AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM
    NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY
""".split()  # noqa: SIM905 - a list of fifty texts is longer than a screen
_BASES = ("express", "express_written", "implied_purchase", "implied_inquiry", "dnc_clear")
_SALE = Campaigning(subject="spring-sale", text="Half price. Reply STOP to end")


def run(rows: int = 300_000, sample: int = 500) -> Report:
    """Measure `tasks.consent.evaluate` on 20 countries, 50 states, a ledger and prior sends."""
    people, standing, prior = _people(rows), _standing(rows), _prior(rows)
    some = people.iloc[:: max(1, rows // sample)]
    _judge(some, standing, prior)
    with timed() as ours:
        found = _judge(people, standing, prior)
    alone = [
        (people.loc[[n]], _of(standing, key), prior[prior["number_key"] == key])
        for n, key in zip(some.index, some["number_key"], strict=True)
    ]
    with timed() as plain:
        expected = [_judge(*each) for each in alone]
    pd.testing.assert_frame_equal(found.loc[some.index], pd.concat(expected))
    shares = found["verdict"].value_counts(normalize=True)
    return Report(
        "consent",
        "verdicts",
        200_000,
        Figure("tasks.consent.evaluate", rows, ours),
        [Figure("evaluate, row by row", len(some), plain)],
        [", ".join(f"{share:.0%} {verdict}" for verdict, share in shares.items())],
    )


def _judge(people: pd.DataFrame, standing: Standing, prior: pd.DataFrame) -> pd.DataFrame:
    return evaluate(
        people,
        purpose="marketing",
        at=AT,
        not_after=AT + timedelta(days=3),
        standing=standing,
        campaign=_SALE,
        prior=prior,
    )


def _keys(rows: Any) -> pd.Series:
    return pd.Series([f"{row:032x}" for row in rows], dtype="str")


def _dates(chance: np.random.Generator, size: int, days: int) -> pd.Series:
    seconds = chance.integers(0, days * 86_400, size)
    return (pd.Timestamp(AT) - pd.to_timedelta(pd.Series(seconds), unit="s")).astype(
        "datetime64[us, UTC]"
    )


def _people(rows: int) -> pd.DataFrame:
    chance = np.random.default_rng(1)
    country = chance.choice(list(_COUNTRIES), rows, p=[0.43] + [0.03] * 19)
    zones = pd.Series(country, dtype="str").map(_COUNTRIES)
    # Most Americans are in one zone; the codes of some are split.
    one = zones.str.split(",").str[0].where(chance.random(rows) < 0.8, zones)
    states = chance.choice(_STATES, rows)
    return pd.DataFrame(
        {
            "e164": "+1",
            "valid": chance.random(rows) < 0.98,
            "line_type": pd.Series(chance.choice(["mobile", "fixed_line"], rows, p=[0.97, 0.03])),
            "region": country,
            "subdivisions": pd.Series(states, dtype="str").where(country == "US", ""),
            "zones": one,
            "number_key": _keys(range(rows)),
            "opt_in": pd.Series(chance.choice(["yes", "no", ""], rows, p=[0.8, 0.02, 0.18])),
            "opt_in_at": _dates(chance, rows, 1_500),
            "basis": "express_written",
            "age_verified": "no",
            "sender": "",
            "held": chance.random(rows) < 0.001,
        }
    )


def _standing(rows: int) -> Standing:
    """Three of ten have a history."""
    chance = np.random.default_rng(2)
    known = chance.permutation(rows)[: rows * 3 // 10]
    keys = _keys(known)
    opted_out = chance.random(len(known)) < 0.1
    people = pd.DataFrame(
        {
            "number_key": keys,
            "opted_out": opted_out,
            "opted_out_of_any": opted_out,
            "opt_out_at": _dates(chance, len(known), 900),
            "deactivated": chance.random(len(known)) < 0.01,
            "registry": pd.Series(chance.choice(["", "clear", "listed"], len(known))),
            "event_ids": "1",
        }
    )
    consents = pd.DataFrame(
        {
            "number_key": pd.concat([keys, keys[::3]], ignore_index=True),
            "basis": pd.Series(chance.choice(_BASES, len(known) + len(keys[::3]))),
        }
    )
    occurred = _dates(chance, len(consents), 900)
    consents = consents.assign(occurred_at=occurred, last_active=occurred)
    return Standing(people, consents.drop_duplicates(["number_key", "basis"], ignore_index=True))


def _prior(rows: int) -> pd.DataFrame:
    """A fifth got one to five messages in the last two days."""
    chance = np.random.default_rng(3)
    keys = _keys(chance.permutation(rows)[: rows // 5])
    keys = keys.repeat(chance.integers(1, 6, len(keys))).reset_index(drop=True)
    subject = pd.Series(chance.choice(["spring-sale", "store-opening"], len(keys), p=[0.9, 0.1]))
    return pd.DataFrame(
        {"number_key": keys, "subject": subject, "sent_at": _dates(chance, len(keys), 2)}
    )


def _of(standing: Standing, key: str) -> Standing:
    people, consents = standing.people, standing.consents
    return Standing(people[people["number_key"] == key], consents[consents["number_key"] == key])
