"""Frequency caps in the claim: what counts, for how long, and that two runs never share a place."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from data import frequency, ledger
from data.database import now, reading
from data.identity import number_keys
from data.rules import Rule
from data.tables import CampaignRun
from tests import plans

HOUR = timedelta(hours=1)
NUMBER = "+13052000000"
CAP = ",us-fl/cap,"
serial = iter(range(1_000_000))


def claim(run: CampaignRun, limit: int = 10) -> list[str]:
    claimed = ledger.claim(
        run, 0, gateway="sandbox", sender="me", lease=timedelta(minutes=1), limit=limit
    )
    return [message.recipient for message in claimed]


def campaign(
    number: str = NUMBER,
    *,
    caps: str = CAP,
    cap: dict[str, Any] | None = None,
    **fields: Any,
) -> CampaignRun:
    """A run with one queued message to the number, under a cap of one in 24 hours."""
    values = {"purpose": "marketing", "subject": "sale", "caps": [cap or plans.cap()], **fields}
    run = plans.open_run(f"campaign {next(serial)}", **values)
    plans.add_messages(run, [number], caps=caps)
    return run


def sent(
    number: str = NUMBER, *, state: str = "accepted", hours: float = 1, **fields: Any
) -> CampaignRun:
    """A run that has sent the number a message so many hours ago."""
    run = campaign(number, **fields)
    ((_, message),) = plans.messages(run).items()
    plans.change(message.id, state=state, submitted_at=now() - hours * HOUR)
    return run


@pytest.mark.parametrize("state", ["sending", "in_doubt", "accepted", "expired"])
def test_what_reached_the_recipient_or_may_have_counts(database: str, state: str) -> None:
    sent(state=state)
    assert claim(campaign()) == []


@pytest.mark.parametrize("state", ["queued", "rejected", "failed", "cancelled", "suppressed"])
def test_what_certainly_did_not_reach_the_recipient_does_not_count(
    database: str, state: str
) -> None:
    sent(state=state)
    assert claim(campaign()) == [NUMBER]


def test_what_may_have_been_accepted_and_waits_to_go_again_counts(database: str) -> None:
    run = sent(state="queued")
    (message,) = plans.messages(run).values()
    plans.change(message.id, resend_until=now() + HOUR)
    assert claim(campaign()) == []
    assert claim(run) == [NUMBER], "it counts against itself"


@pytest.mark.parametrize(("hours", "claimed"), [(23.9, 0), (24.1, 1)])
def test_a_message_counts_until_the_length_of_time_is_over(
    database: str, hours: float, claimed: int
) -> None:
    sent(hours=hours)
    assert len(claim(campaign())) == claimed


@pytest.mark.parametrize(
    ("scope", "subject", "purpose", "claimed"),
    [
        ("same_subject", "sale", "marketing", 0),
        ("same_subject", "", "marketing", 0),
        ("same_subject", "opening", "marketing", 1),
        ("all", "opening", "marketing", 0),
        ("all", "sale", "transactional", 1),
    ],
)
def test_what_counts_for_which_cap(
    database: str, scope: str, subject: str, purpose: str, claimed: int
) -> None:
    sent(subject=subject, purpose=purpose)
    assert len(claim(campaign(cap=plans.cap(scope=scope)))) == claimed


def test_a_campaign_that_names_no_subject_may_be_about_every_one(database: str) -> None:
    sent(subject="opening")
    assert claim(campaign(subject="")) == []


def test_a_cap_holds_back_only_the_messages_that_it_applies_to(database: str) -> None:
    sent()
    assert claim(campaign(caps=",us_fl/cap,")) == [NUMBER]
    assert claim(campaign(caps="")) == [NUMBER]


def test_the_last_place_is_taken_once(database: str) -> None:
    three = [campaign(cap=plans.cap(2)) for _ in range(3)]
    assert [claim(run) for run in three] == [[NUMBER], [NUMBER], []]


def test_two_runs_that_claim_at_one_time_do_not_both_take_the_last_place(database: str) -> None:
    people = plans.numbers(40)
    both = [
        plans.open_run(key, purpose="marketing", subject="sale", caps=[plans.cap()])
        for key in ("one", "two")
    ]
    for run in both:
        plans.add_messages(run, people, caps=CAP)
    taken: list[str] = []
    at_once = threading.Barrier(2)

    def work(run: CampaignRun) -> None:
        at_once.wait()
        while claimed := claim(run, limit=1):
            taken.extend(claimed)

    workers = [threading.Thread(target=work, args=(run,)) for run in both]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(taken) == sorted(people)


@pytest.fixture(scope="module")
def anew() -> Iterator[int]:
    """Numbers that no other example has."""
    return iter(range(2_000_000, 3_000_000))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    before=st.lists(
        st.tuples(
            st.sampled_from(["sending", "in_doubt", "accepted", "queued", "rejected", "expired"]),
            st.sampled_from([1, 23, 25]),
            st.sampled_from(["sale", "opening", ""]),
            st.sampled_from(["marketing", "alert"]),
        ),
        max_size=4,
    ),
    most=st.integers(1, 3),
    scope=st.sampled_from(["same_subject", "all"]),
)
def test_the_claim_counts_what_planning_is_told(
    database: str,
    anew: Iterator[int],
    before: list[tuple[str, int, str, str]],
    most: int,
    scope: str,
) -> None:
    number = f"+1305{next(anew)}"
    for state, hours, subject, purpose in before:
        sent(number, state=state, hours=hours, subject=subject, purpose=purpose)
    run = campaign(number, cap=plans.cap(most, scope=scope))
    with reading() as connection:
        keys = pd.Series(number_keys([number]))
        told = frequency.sent(connection, keys, since=now() - 24 * HOUR, besides=run.id)
    counted = told[told["subject"].isin(["sale", ""]) | (scope == "all")]
    assert bool(claim(run)) == (len(counted) < most)


def test_planning_is_told_of_other_runs_only(database: str) -> None:
    run, other = sent(), sent(subject="opening", hours=2)
    with reading() as connection:
        keys = pd.Series([*number_keys([NUMBER]), None])
        told = frequency.sent(connection, keys, since=now() - 24 * HOUR, besides=run.id)
    assert told[["number_key", "subject"]].to_numpy().tolist() == [[keys[0], "opening"]]
    assert told["sent_at"].tolist() == [m.submitted_at for m in plans.messages(other).values()]


@pytest.mark.parametrize(
    ("per", "seconds"), [("PT24H", 86_400), ("P1M", 31 * 86_400), ("P1DT30M", 88_200)]
)
def test_a_month_of_a_stored_cap_is_the_longest(per: str, seconds: int) -> None:
    row = Rule.model_validate(
        {
            "id": "x/cap",
            "step": "frequency",
            "says": "Not more than so many.",
            "source": "The tests of this project",
            "confidence": "high",
            "countries": ["US"],
            "purposes": ["marketing"],
            "cap": {"max": 2, "per": per, "scope": "all"},
        }
    )
    caps = frequency.stored([row])
    assert caps == [{"rule": "x/cap", "max": 2, "seconds": seconds, "scope": "all"}]
    assert frequency.longest(caps) == timedelta(seconds=seconds)
