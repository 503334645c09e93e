"""How long consent lasts, which of several counts, and when it ends before the message can go."""

from datetime import datetime, timedelta

import pandas as pd
import pytest

from tasks.consent import Campaigning, evaluate
from tests.tasks.recipients import NEW_YORK, NOON, audience, event, judged, ledger, told

CANADA = {
    "region": "CA",
    "zones": "America/Toronto",
    "subdivisions": "ON",
    "opt_in": None,
}
SINGAPORE = {"region": "SG", "zones": "Asia/Singapore", "opt_in": None}
FRANCE = {"region": "FR", "zones": "Europe/Paris", "opt_in": None}
GB = {"opt_in": None}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def of(basis: str, occurred_at: str | None, **fields: object) -> dict[str, object]:
    kind = "registry_check" if basis == "dnc_clear" else "relationship"
    if basis.startswith("express"):
        kind = "opt_in"
    return event(kind, occurred_at, basis=basis, **fields)


SOFT = {"optout_offered_at_collection": True, "similar_products": True, "own_products": True}


@pytest.mark.parametrize(
    ("row", "events", "expected"),
    [
        # the place says which basis is enough
        (GB, [], "block/blocked/no_consent/gb/consent"),
        (GB, [of("express", "2020-01-01")], "send//ok/"),
        (GB, [of("implied_purchase", "2026-03-01")], "block/blocked/no_consent/gb/consent"),
        (GB, [of("soft_opt_in", "2026-01-05", evidence=SOFT)], "send//ok/"),
        (
            GB,
            [of("soft_opt_in", "2026-01-05", evidence=SOFT | {"own_products": False})],
            "block/blocked/no_consent/gb/consent",
        ),
        (GB, [event("opt_in_pending", "2026-01-05")], "block/blocked/no_consent/gb/consent"),
        (GB, [of("", "2026-03-01")], "block/blocked/no_consent/gb/consent"),
        # of another purpose it is none
        (
            GB,
            [of("express", "2025-01-01", scope="alert")],
            "block/blocked/no_consent/gb/consent",
        ),
        (GB, [of("express", "2025-01-01", scope="*")], "send//ok/"),
        # the best one that still lasts counts
        (
            CANADA,
            [of("implied_inquiry", "2024-01-01"), of("implied_purchase", "2025-01-01")],
            "defer//quiet_hours/sending_window",
        ),
        (
            CANADA,
            [of("implied_inquiry", "2024-01-01"), of("implied_purchase", "2024-01-01")],
            "block/blocked/consent_expired/ca/consent",
        ),
        # one that is not enough there does not spoil another that is
        (
            CANADA,
            [of("inferred", "2026-01-01"), of("implied_purchase", "2025-01-01")],
            "defer//quiet_hours/sending_window",
        ),
        # without a date, nobody knows how long it lasts
        (CANADA, [of("implied_purchase", None)], "block/blocked/no_consent/ca/consent"),
        (CANADA, [of("express", None)], "defer//quiet_hours/sending_window"),
        # inactivity counts from whatever the person did last
        (FRANCE, [of("express", "2023-03-01")], "block/blocked/consent_expired/fr/inactivity"),
        (
            FRANCE,
            [of("express", "2023-03-01"), of("implied_purchase", "2026-01-01")],
            "send//ok/",
        ),
        (FRANCE, [of("express", None)], "block/blocked/no_consent/fr/inactivity"),
        # what an opt-out ended is not revived by the next opt-in
        (
            NEW_YORK | GB,
            [
                of("express_written", "2025-01-01"),
                event("opt_out", "2025-02-01"),
                of("express", "2025-03-01"),
            ],
            "block/blocked/no_consent/us/consent",
        ),
    ],
)
def test_consent_is_of_a_basis_that_is_enough_there_and_lasts(
    row: dict[str, object], events: list[dict[str, object]], expected: str
) -> None:
    assert told(row, ledger(*events)) == expected


@pytest.mark.parametrize(
    ("at", "verdict"),
    [("2026-02-28T14:59:59Z", "send"), ("2026-02-28T15:00:00Z", "block")],
)
def test_six_months_from_31_august_end_on_28_february(at: str, verdict: str) -> None:
    standing = ledger(of("implied_inquiry", "2025-08-31 15:00"))
    assert judged(CANADA, standing, at=instant(at))["verdict"] == verdict


@pytest.mark.parametrize(
    ("occurred_at", "at", "verdict"),
    [
        ("2024-02-29 15:00", "2026-02-28T14:59:59Z", "send"),
        ("2024-02-29 15:00", "2026-02-28T15:00:00Z", "block"),
        ("2024-03-10 16:00", "2026-03-10T15:59:59Z", "send"),
        ("2024-03-10 16:00", "2026-03-10T16:00:00Z", "block"),
    ],
)
def test_two_years_are_two_years_of_the_calendar(occurred_at: str, at: str, verdict: str) -> None:
    standing = ledger(of("implied_purchase", occurred_at))
    assert judged(CANADA, standing, at=instant(at))["verdict"] == verdict


@pytest.mark.parametrize(
    ("bases", "reason"),
    [
        (["dnc_clear"], "ok"),
        ([], "no_consent"),
        (["dnc_clear", "listed"], "no_consent"),
        (["express", "listed"], "ok"),
        (["listed"], "no_consent"),
    ],
)
def test_a_register_counts_unless_consent_overrides_it(bases: list[str], reason: str) -> None:
    made = {
        "dnc_clear": of("dnc_clear", "2026-03-01", evidence={"result": "clear"}),
        "listed": event("registry_check", "2026-03-05", evidence={"result": "listed"}),
        "express": of("express", "2026-01-01"),
    }
    at = instant("2026-03-10T04:00:00Z")
    standing = ledger(*(made[basis] for basis in bases))
    assert judged(SINGAPORE, standing, at=at)["reason"] == reason


def test_who_is_listed_gets_nothing_where_their_consent_does_not_count_more() -> None:
    turkey = {"region": "TR", "zones": "Europe/Istanbul", "basis": "iys_onay"}
    listed = event("registry_check", "2026-03-05", evidence={"result": "listed"})
    assert told(turkey) == "send//ok/"
    assert told(turkey, ledger(listed)) == "block/blocked/registry_listed/tr/registry"


# ------------------------------------------------------------------ the end of consent


def test_a_message_that_opens_when_consent_has_ended_is_blocked() -> None:
    # 22:00 in Toronto; it ends at 08:59:59 or at 09:00, when the hours begin.
    night = instant("2026-03-11T02:00:00Z")
    ends = ledger(of("implied_purchase", "2024-03-11 13:00"))
    lasts = ledger(of("implied_purchase", "2024-03-11 13:00:01"))
    assert told(CANADA, ends, at=night) == "block/blocked/consent_expired/ca/consent"
    assert judged(CANADA, lasts, at=night)["opens_at"] == instant("2026-03-11T13:00:00Z")


def test_a_message_is_not_to_be_sent_from_the_end_of_consent_on() -> None:
    noon = instant("2026-03-10T16:00:00Z")
    found = judged(CANADA, ledger(of("implied_purchase", "2024-03-10 18:00")), at=noon)
    assert found["closes_at"] == instant("2026-03-10T18:00:00Z")
    assert found["consent_ends_at"] == instant("2026-03-10T18:00:00Z")
    found = judged(CANADA, ledger(of("express", "2024-03-10 18:00")), at=noon)
    assert found["closes_at"] == instant("2026-03-11T00:00:00Z")
    assert found["consent_ends_at"] is pd.NaT


def test_the_consent_that_lasts_longest_counts() -> None:
    both = [of("implied_purchase", "2025-01-01"), of("implied_inquiry", "2026-03-01")]
    for events in (both, both[::-1]):
        found = judged(CANADA, ledger(*events), at=NOON + timedelta(hours=4))
        assert found["consent_ends_at"] == instant("2027-01-01T00:00:00Z")


# ------------------------------------------------------------------ what the audience says


@pytest.mark.parametrize(
    ("row", "purpose", "reason"),
    [
        ({"basis": ""}, "marketing", "ok"),
        (NEW_YORK | {"basis": ""}, "marketing", "ok"),
        (NEW_YORK | {"basis": "express"}, "marketing", "no_consent"),
        ({"opt_in": None}, "marketing", "no_consent"),
        ({"opt_in": "maybe"}, "marketing", "no_consent"),
        # a list of customers is one of people who gave the number for it
        (NEW_YORK | {"opt_in": None, "basis": ""}, "transactional", "ok"),
        (NEW_YORK | {"opt_in": "maybe", "basis": ""}, "transactional", "no_consent"),
        (NEW_YORK | {"opt_in": "yes", "basis": ""}, "otp", "ok"),
        (NEW_YORK | {"opt_in": "yes", "basis": "user_initiated"}, "otp", "consent_expired"),
        (NEW_YORK | {"opt_in_at": NOON, "basis": "user_initiated"}, "otp", "ok"),
    ],
)
def test_what_the_audience_says_rests_on_what_the_campaign_states(
    row: dict[str, object], purpose: str, reason: str
) -> None:
    at = NOON + timedelta(minutes=10) if purpose == "otp" else NOON + timedelta(hours=3)
    assert judged(row, purpose=purpose, at=at)["reason"] == reason


def test_a_yes_of_tomorrow_is_one_of_now() -> None:
    row = {**CANADA, "opt_in": "yes", "basis": "implied_inquiry"}
    found = judged(row | {"opt_in_at": instant("2027-01-01T00:00:00Z")})
    assert found["consent_ends_at"] == instant("2026-09-10T12:00:00Z")


def test_a_promotion_does_not_turn_a_list_of_customers_into_opt_ins() -> None:
    promotion = Campaigning(flags=frozenset({"promotional"}))
    row = NEW_YORK | {"opt_in": None, "basis": ""}
    terms: dict[str, object] = {"purpose": "transactional", "at": NOON + timedelta(hours=3)}
    assert judged(row, **terms)["reason"] == "ok"
    assert judged(row, campaign=promotion, **terms)["reason"] == "no_consent"
    # Nor its yes into one in writing.
    yes = row | {"opt_in": "yes"}
    assert judged(yes, campaign=promotion, **terms)["reason"] == "no_consent"


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (None, "send//ok/"),
        ("2026-03-10T12:00:01Z", "send//ok/"),
        ("2026-03-10T12:00:00Z", "block/blocked/consent_expired/gb/consent"),
    ],
)
def test_what_was_accepted_before_lasts_until_it_ends(ends: str | None, expected: str) -> None:
    frame = audience({"opt_in": None}).assign(
        consent_ends_at=pd.to_datetime(pd.Series([ends], index=[1], dtype="str"), utc=True)
    )
    found = evaluate(frame, purpose="marketing", at=NOON, not_after=None, standing=None).iloc[0]
    assert "/".join(found[["verdict", "outcome", "reason", "rule"]]) == expected


def test_what_was_accepted_before_may_have_been_renewed_or_revoked_since() -> None:
    ended = pd.to_datetime(pd.Series(["2026-03-09T00:00Z"], index=[1]), utc=True)
    frame = audience({"opt_in": None}).assign(consent_ends_at=ended)

    def reason(*events: dict[str, object]) -> str:
        standing = ledger(*events)
        terms = {"purpose": "marketing", "at": NOON, "not_after": None}
        return str(evaluate(frame, standing=standing, **terms)["reason"].iloc[0])  # type: ignore[arg-type]

    assert reason() == "consent_expired"
    assert reason(event("opt_in", "2026-03-08")) == "ok"
    assert reason(event("opt_in", "2026-03-08"), event("opt_out", "2026-03-09")) == "opted_out"
