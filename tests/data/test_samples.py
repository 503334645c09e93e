"""The sample audience: what its script makes, sendable at any hour, spoilt as its README says."""

import importlib.util
from collections import Counter
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import yaml

from adapters.sources import CsvAudience, open_source
from data.settings import PROJECT
from tasks import audience, consent, phones, places

SAMPLES = PROJECT / "data" / "samples"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_audience", SAMPLES / "make_audience.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def campaign() -> dict[str, Any]:
    return dict(yaml.safe_load((SAMPLES / "campaign.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def people(campaign: dict[str, Any]) -> pd.DataFrame:
    """The readable records, as the consent rules see them."""
    chosen = CsvAudience.model_validate(campaign["audience"])
    source = open_source(chosen, folders=[SAMPLES], connections={})
    frame = pd.concat([part.frame for part in source.partitions()])
    mapped = audience.map_columns(source.columns, chosen.columns)
    known = audience.canonical(frame, mapped, default_country=chosen.default_country)
    numbers = phones.normalise(known["phone"], known["country"])
    zones = known["timezone"].fillna(places.candidate_zones(numbers["e164"])).fillna("")
    divided = places.subdivisions(numbers["e164"], numbers["region"], known["subdivision"])
    return known.join(numbers).assign(
        zones=zones,
        subdivisions=divided,
        number_key="",
        basis="express_written",
        sender="+15005550006",
    )


def judged(people: pd.DataFrame, campaign: dict[str, Any], at: datetime) -> pd.DataFrame:
    return consent.evaluate(
        people,
        purpose="marketing",
        at=at,
        not_after=None,
        standing=None,
        campaign=consent.Campaigning(subject="sale", text=campaign["message"]),
        prior=None,
    )


def test_the_file_is_what_its_script_makes(script: ModuleType) -> None:
    made = script.text()
    assert made == (SAMPLES / "audience.csv").read_text(encoding="utf-8")


def test_the_records_are_as_many_and_as_spoilt_as_stated(script: ModuleType) -> None:
    read = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert sum(script.MESS.values()) + script.MESS["disagreeing"] == 472
    assert "472" in read
    assert script.text().count("\n") == script.RECORDS + 1


@pytest.mark.parametrize("month", [1, 4, 7, 10])
def test_at_any_hour_a_third_of_those_who_may_get_it_may_get_it_now(
    people: pd.DataFrame, campaign: dict[str, Any], month: int
) -> None:
    for hour in range(24):
        at = datetime(2026, month, 14, hour, tzinfo=UTC)
        verdicts = Counter(judged(people, campaign, at)["verdict"])
        assert verdicts["send"] / (verdicts["send"] + verdicts["defer"]) > 1 / 3


def test_people_are_stopped_for_many_reasons(
    people: pd.DataFrame, campaign: dict[str, Any]
) -> None:
    found = judged(people, campaign, datetime(2026, 11, 24, 12, tzinfo=UTC))
    assert set(found.loc[found["verdict"] == "block", "reason"]) >= {
        *("audience_opt_out", "no_consent", "unknown_country", "opt_out_text", "sender_id"),
        *("line_type", "invalid_number"),
    }


def test_numbers_of_north_america_are_reserved_for_fiction(people: pd.DataFrame) -> None:
    american = people[people["region"].isin(["US", "CA"]) & people["valid"]]["e164"]
    assert len(american) > 600
    assert american.str.fullmatch(r"\+1[2-9]\d\d55501\d\d").all()


def test_no_number_asks_the_sandbox_for_a_special_fate(people: pd.DataFrame) -> None:
    special = ("1610", "1614", "3000", "3003", "3005", "3006", "3008")
    valid = people.loc[people["valid"], "e164"]
    assert not valid.str.endswith(special).any()


def test_the_sample_campaign_has_the_fields_of_the_form(campaign: dict[str, Any]) -> None:
    assert campaign["gateway"] == "sandbox"
    assert campaign["approval"] is False
    assert set(campaign) <= {
        *("name", "key", "purpose", "audience", "message", "gateway", "sender", "approval"),
        *("not_after", "max_invalid_share", "replace_typography"),
        *("basis", "hours", "subject", "content", "opt_out_text"),
    }
