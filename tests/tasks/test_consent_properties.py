"""What must hold of every verdict: hours kept, the earliest instant, restrictions that restrict.

The hours are looked at a second time by tests/tasks/plain_hours.py, which shares no code with the
product.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.rules
from data.rules import Rule, Rules, daily_window, parse_windows
from tasks.consent import Campaigning
from tasks.windows import Hours
from tests.tasks import plain_hours
from tests.tasks.recipients import event, judged, ledger, sends

PLACES: list[dict[str, object]] = [
    {"region": "US", "subdivisions": "FL", "zones": "America/Chicago,America/New_York"},
    {"region": "US", "subdivisions": "RI", "zones": "America/New_York"},
    {"region": "US", "subdivisions": "LA,TX", "zones": "America/Chicago,America/Denver"},
    {"region": "CA", "subdivisions": "NL", "zones": "America/Halifax,America/St_Johns"},
    {"region": "FR", "zones": "Europe/Paris"},
    {"region": "ZA", "zones": "Africa/Johannesburg"},
    {"region": "IN", "zones": "Asia/Kolkata"},
    {"region": "AU", "zones": "Australia/Adelaide,Australia/Lord_Howe"},
    {"region": "NZ", "zones": "Pacific/Auckland,Pacific/Chatham"},
]
WINDOWS = [
    None,
    daily_window("10:00", "12:30"),
    daily_window("18:00", "02:00"),
    parse_windows({"sat": [["22:00", "03:00"]], "mon": [["00:00", "24:00"]]}),
]

places = st.sampled_from(PLACES)
windows = st.sampled_from(WINDOWS)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(second=0, microsecond=0)
)


def hours_in_force(place: dict[str, object], window: Any) -> list[Hours]:
    """The rows of a place as anybody reads them in the files."""
    local = str(place.get("subdivisions", "")).split(",")
    rows = [
        row
        for row in data.rules.rules().rows
        if row.step == "sending_window" and "marketing" in row.purposes
    ]
    own = [
        row
        for row in rows
        if place["region"] in row.countries
        and (row.subdivision is None or row.subdivision in local)
    ]
    if not any(row.subdivision is None for row in own):
        own += [row for row in rows if "*" in row.countries]
    found = [
        Hours(row.windows, row.holidays, row.effective_from, row.effective_to)
        for row in own
        if row.windows is not None
    ]
    return [*found, Hours(window)] if window else found


def when(row: dict[str, object], at: datetime, **terms: Any) -> datetime | None:
    """The instant at which a row may be sent; None where it is blocked."""
    found = judged(row, at=at, **terms)
    if found["verdict"] == "send":
        return at
    return found["opens_at"] if found["verdict"] == "defer" else None  # type: ignore[return-value]


@settings(max_examples=30, deadline=None)
@given(places, windows, instants)
def test_nothing_is_sent_outside_an_open_window(
    place: dict[str, object], window: Any, at: datetime
) -> None:
    hours = hours_in_force(place, window)
    found = judged(place, at=at, campaign=Campaigning(window=window))
    sent_at = at if found["verdict"] == "send" else found["opens_at"]
    if found["verdict"] != "block":
        assert plain_hours.is_open(str(place["zones"]), sent_at, hours)  # type: ignore[arg-type]
        last = found["closes_at"] - timedelta(seconds=1)  # type: ignore[operator]
        assert plain_hours.is_open(str(place["zones"]), last, hours)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(places, windows, instants)
def test_nothing_waits_while_a_window_is_open(
    place: dict[str, object], window: Any, at: datetime
) -> None:
    found = judged(place, at=at, campaign=Campaigning(window=window))
    ends = at + timedelta(days=1) if found["verdict"] == "block" else found["opens_at"]
    if found["verdict"] == "send":
        return
    hours = hours_in_force(place, window)
    minutes = pd.date_range(at, ends, freq="15min", inclusive="left")  # type: ignore[call-overload]
    assert not any(plain_hours.is_open(str(place["zones"]), minute, hours) for minute in minutes)
    if found["verdict"] == "defer":
        before = ends - timedelta(seconds=1)  # type: ignore[operator]
        assert not plain_hours.is_open(str(place["zones"]), before, hours)


@settings(max_examples=20, deadline=None)
@given(places, windows, instants, st.lists(st.integers(1, 3_000), max_size=6))
def test_at_its_opening_a_deferred_message_is_sent_and_a_second_earlier_it_is_not(
    place: dict[str, object], window: Any, at: datetime, ages: list[int]
) -> None:
    terms = {
        "campaign": Campaigning(window=window, subject="sale"),
        "prior": sends(*((at - timedelta(minutes=age)).isoformat() for age in ages)),
    }
    found = judged(place, at=at, **terms)
    if found["verdict"] == "defer":
        opens_at: Any = found["opens_at"]
        assert judged(place, at=opens_at, **terms)["verdict"] == "send"
        assert judged(place, at=opens_at - timedelta(seconds=1), **terms)["verdict"] != "send"


# ------------------------------------------------------------------ restrictions


@contextmanager
def one_more(row: Rule) -> Iterator[None]:
    """Judge by the product's rules and one row more, as if a company had added it."""
    more = Rules(Path(data.rules.__file__).with_name("rules"))
    more.__dict__["rows"] = (*more.rows, row)
    more.__dict__["_company_ids"] = frozenset({row.id})
    with patch.object(data.rules, "_made", lambda *_: more):
        yield


def row_of(step: str, **fields: Any) -> Rule:
    usual = {
        "id": f"company/{step}",
        "step": step,
        "says": "The company wants it so.",
        "source": "A decision of the company",
        "confidence": "high",
        "countries": ["*"],
        "purposes": ["marketing"],
    }
    return Rule.model_validate(usual | fields)


EVENING = {day: [["17:00", "19:00"]] for day in ("mon", "wed", "sun")}
ROWS = [
    row_of("sending_window", windows=EVENING),
    row_of("sending_window", windows=EVENING, countries=["US"], subdivision="FL"),
    row_of("sending_window", windows=EVENING, effective_from="2026-09-01"),
    row_of("sending_window", windows={day: [["00:00", "24:00"]] for day in EVENING}, holidays="US"),
    row_of("consent_basis", bases=["express"]),
    row_of("consent_basis", bases=["*"], expiry={"*": "P6M"}),
    row_of("consent_basis", bases=["*"], inactivity="P1Y"),
    row_of("consent_basis", bases=["*"], dated=True),
    row_of("frequency", cap={"max": 1, "per": "P1M", "scope": "all"}),
    row_of("frequency", cap={"max": 2, "per": "PT36H", "scope": "same_subject"}),
    row_of("sender", sender="^[0-9]+$"),
    row_of("content", flags=["toys"], effect="prohibited"),
    row_of("content", flags=["toys"], effect="age_gate"),
    row_of("line_type", line_types=["mobile"]),
    row_of("opt_out_text", keywords=["goodbye"]),
    row_of("moratorium", effective_from="2026-06-01", effective_to="2026-08-01"),
    row_of("registry"),
]

HISTORY = [
    event("opt_in", "2026-01-01"),
    event("opt_in", "2025-08-31", basis="express"),
    event("relationship", "2025-12-01", basis="implied_purchase"),
    event("registry_check", "2026-02-01", basis="dnc_clear", evidence={"result": "clear"}),
]


def is_later(one: datetime | None, other: datetime | None) -> bool:
    """Whether the second is not earlier than the first; never is later than every instant."""
    return other is None or (one is not None and other >= one)


SITUATION = {
    "place": places,
    "at": instants,
    "opt_in": st.sampled_from(["yes", None]),
    "history": st.lists(st.sampled_from(HISTORY), max_size=3, unique_by=str),
    "ages": st.lists(st.integers(1, 3_000), max_size=4),
}


def terms_of(at: datetime, history: list[dict[str, object]], ages: list[int]) -> dict[str, Any]:
    return {
        "standing": ledger(*history, at=at),
        "campaign": Campaigning(subject="sale", text="Reply STOP, ARRET, RET or goodbye"),
        "prior": sends(*((at - timedelta(minutes=age)).isoformat() for age in ages)),
        "not_after": at + timedelta(days=20),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.step}-{row.id}")
@settings(max_examples=6, deadline=None)
@given(**SITUATION)
def test_a_rule_more_never_lets_a_message_out_or_out_earlier(
    row: Rule,
    place: dict[str, object],
    at: datetime,
    opt_in: str | None,
    history: list[dict[str, object]],
    ages: list[int],
) -> None:
    person = place | {"opt_in": opt_in, "sender": "ACME"}
    terms = terms_of(at, history, ages)
    without = when(person, at, **terms)
    with one_more(row):
        assert is_later(without, when(person, at, **terms))


@settings(max_examples=20, deadline=None)
@given(
    **SITUATION,
    restriction=st.sampled_from(
        ["opt_out", "deactivated", "listed", "send", "window", "zone", "moratorium", "flag", "no"]
    ),
)
def test_a_restriction_never_lets_a_message_out_or_out_earlier(
    place: dict[str, object],
    at: datetime,
    opt_in: str | None,
    history: list[dict[str, object]],
    ages: list[int],
    restriction: str,
) -> None:
    person = place | {"opt_in": opt_in}
    terms = terms_of(at, history, ages)
    without = when(person, at, **terms)
    campaign, events = terms["campaign"], list(history)
    match restriction:
        case "opt_out":
            events.append(event("opt_out", str(at - timedelta(days=1))[:19]))
        case "deactivated":
            events.append(event("deactivated", str(at - timedelta(days=1))[:19], scope="*"))
        case "listed":
            listed = event("registry_check", str(at)[:19], evidence={"result": "listed"})
            events.append(listed)
        case "send":
            ages = [*ages, 30]
        case "window":
            campaign = replace(campaign, window=daily_window("12:00", "14:00"))
        case "zone":
            person |= {"zones": f"{person['zones']},Europe/Lisbon"}
        case "moratorium":
            stops = row_of("moratorium", effective_from=str(at + timedelta(hours=5))[:19])
            campaign = replace(campaign, moratoria=(stops,))
        case "flag":
            campaign = replace(campaign, flags=frozenset({"alcohol"}))
        case "no":
            person |= {"opt_in": "no"}
    restricted = terms_of(at, events, ages) | {"campaign": campaign}
    assert is_later(without, when(person, at, **restricted))


@settings(max_examples=20, deadline=None)
@given(
    places,
    instants,
    st.permutations(
        [
            *HISTORY,
            event("opt_out", "2026-01-01"),
            event("opt_in", "2026-03-01"),
            event("opt_out", "2026-05-01", scope="alert"),
            event("relationship", None, basis="implied_inquiry"),
            event("deactivated", "2026-07-01", scope="*"),
            event("opt_in", "2026-08-01", basis="express"),
        ]
    ),
    st.integers(0, 10),
)
def test_the_order_of_recording_never_changes_a_verdict(
    place: dict[str, object], at: datetime, mixed: list[dict[str, object]], count: int
) -> None:
    person = place | {"opt_in": None}
    some = mixed[:count]
    sorted_ = sorted(some, key=str)
    assert judged(person, ledger(*some, at=at), at=at) == judged(
        person, ledger(*sorted_, at=at), at=at
    )


@pytest.mark.parametrize(("occurred_at", "reason"), [(None, "no_consent"), ("2026-01-01", "ok")])
def test_a_company_may_ask_for_the_date_of_consent(occurred_at: str | None, reason: str) -> None:
    person = {"opt_in": None, "region": "GB", "zones": "Europe/London"}
    standing = ledger(event("opt_in", occurred_at))
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert judged(person, standing, at=noon)["reason"] == "ok"
    with one_more(row_of("consent_basis", bases=["*"], dated=True)):
        assert judged(person, standing, at=noon)["reason"] == reason
