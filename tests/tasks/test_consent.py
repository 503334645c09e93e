"""Consent: the verdict on a row, step by step, and on an audience."""

from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.consent_ledger import ConsentError
from data.rules import PURPOSES, Rule, daily_window
from tasks.consent import Campaigning, evaluate
from tasks.judgement import _says
from tests.tasks.recipients import (
    FLORIDA,
    NEW_YORK,
    NOON,
    audience,
    event,
    judged,
    ledger,
    sends,
    told,
)

STOP = event("opt_out", "2026-03-01")
COLUMNS = [
    *("verdict", "outcome", "reason", "rule"),
    *("opens_at", "closes_at", "consent_ends_at", "caps"),
]


def campaign(**fields: object) -> dict[str, Campaigning]:
    return {"campaign": Campaigning(**fields)}  # type: ignore[arg-type]


def moratorium(**fields: object) -> Rule:
    usual = {
        "id": "test/moratorium",
        "step": "moratorium",
        "says": "Nothing goes out during the emergency.",
        "source": "An order of the commission",
        "confidence": "high",
        "countries": ["US"],
        "subdivision": "FL",
        "purposes": ["marketing"],
    }
    return Rule.model_validate(usual | fields)


# ------------------------------------------------------------------ the steps


@pytest.mark.parametrize(
    ("row", "purpose", "expected"),
    [
        ({}, "marketing", "send//ok/"),
        ({"valid": False}, "marketing", "block/invalid/invalid_number/number_validity"),
        (
            {"valid": False, "e164": None, "region": None, "number_key": None},
            "marketing",
            "block/invalid/invalid_number/number_validity",
        ),
        ({"line_type": "fixed_line"}, "otp", "block/blocked/line_type/line_type"),
        ({"line_type": "toll_free"}, "alert", "block/blocked/line_type/line_type"),
        ({"line_type": None}, "marketing", "block/blocked/line_type/line_type"),
        ({"line_type": "fixed_line_or_mobile"}, "marketing", "send//ok/"),
        ({"reassigned": True}, "otp", "block/blocked/reassigned/reassigned"),
        ({"opt_in": "no"}, "alert", "block/suppressed/audience_opt_out/audience_opt_out"),
        ({"opt_in": "no"}, "emergency", "send//ok/"),
        ({"held": True}, "marketing", "block/blocked/reply_review/reply_review"),
        ({"held": True}, "transactional", "send//ok/"),
        # where nobody knows the rules, no marketing
        ({"region": "RU"}, "marketing", "block/blocked/unknown_country/unknown_place"),
        ({"region": None}, "marketing", "block/blocked/unknown_country/unknown_place"),
        ({"region": "RU"}, "transactional", "send//ok/"),
        (
            NEW_YORK | {"subdivisions": ""},
            "marketing",
            "block/blocked/unknown_subdivision/unknown_place",
        ),
        (
            NEW_YORK | {"subdivisions": "?,NY"},
            "marketing",
            "block/blocked/unknown_subdivision/unknown_place",
        ),
        # nor without a zone, where hours apply
        ({"zones": ""}, "marketing", "block/blocked/zone_unknown/zone_unknown"),
        ({"zones": None}, "marketing", "block/blocked/zone_unknown/zone_unknown"),
        ({"zones": "Etc/Unknown"}, "marketing", "block/blocked/zone_unknown/zone_unknown"),
        ({"zones": ""}, "otp", "send//ok/"),
        ({"zones": "America/Los_Angeles"}, "marketing", "defer//quiet_hours/sending_window"),
        ({"zones": "America/Los_Angeles"}, "alert", "send//ok/"),
        (
            {"zones": "Asia/Kamchatka,Europe/Kaliningrad,Pacific/Honolulu"},
            "marketing",
            "block/blocked/no_common_window/sending_window",
        ),
        # the first check that blocks gives the reason
        (
            {"line_type": "fixed_line", "opt_in": "no", "held": True, "zones": ""},
            "marketing",
            "block/blocked/line_type/line_type",
        ),
        (
            {"opt_in": None, "zones": ""},
            "marketing",
            "block/blocked/no_consent/gb/consent",
        ),
    ],
)
def test_the_verdict_names_its_reason_and_rule(
    row: dict[str, object], purpose: str, expected: str
) -> None:
    assert told(row, purpose=purpose) == expected


@pytest.mark.parametrize(
    ("row", "events", "purpose", "expected"),
    [
        # the audience's yes never beats the ledger's opt-out, nor its opt-in the audience's no
        ({}, [STOP], "marketing", "block/suppressed/opted_out/opt_out"),
        ({}, [STOP | {"number_key": "other"}], "marketing", "send//ok/"),
        (
            {"opt_in": "no"},
            [event("opt_in")],
            "marketing",
            "block/suppressed/audience_opt_out/audience_opt_out",
        ),
        (
            {},
            [event("deactivated", "2026-01-01", scope="*")],
            "marketing",
            "block/suppressed/deactivated/deactivated",
        ),
        (
            {},
            [event("deactivated", "2025-01-01", scope="*"), event("opt_in")],
            "marketing",
            "send//ok/",
        ),
        ({}, [STOP], "alert", "send//ok/"),
        ({}, [STOP | {"scope": "*"}], "alert", "block/suppressed/opted_out/opt_out"),
        ({}, [STOP | {"scope": "*"}], "emergency", "send//ok/"),
    ],
)
def test_the_ledger_has_its_say(
    row: dict[str, object], events: list[dict[str, object]], purpose: str, expected: str
) -> None:
    assert told(row, ledger(*events, purpose=purpose), purpose=purpose) == expected


@pytest.mark.parametrize(
    ("at", "purpose", "verdict"),
    [
        (datetime.fromisoformat("2027-01-30T23:59:59Z"), "alert", "send"),
        (datetime.fromisoformat("2027-01-31T00:00:00Z"), "alert", "block"),
        (datetime.fromisoformat("2027-01-31T00:00:00Z"), "emergency", "send"),
    ],
)
def test_from_2027_an_american_who_opted_out_of_one_kind_has_opted_out_of_all(
    at: datetime, purpose: str, verdict: str
) -> None:
    standing = ledger(STOP, purpose=purpose)
    assert judged(NEW_YORK, standing, purpose=purpose, at=at)["verdict"] == verdict
    assert judged({}, standing, purpose=purpose, at=at)["verdict"] == "send"


@pytest.mark.parametrize("purpose", ["transactional", "alert", "otp", "emergency"])
def test_promotional_content_makes_any_message_marketing(purpose: str) -> None:
    row = {"opt_in": None, "basis": "express"}
    assert judged(row, purpose=purpose)["verdict"] == "send"
    promotion = judged(row, purpose=purpose, **campaign(flags=frozenset({"promotional"})))
    assert (promotion["verdict"], promotion["reason"]) == ("block", "no_consent")


@pytest.mark.parametrize(
    ("row", "flags", "reason"),
    [
        (NEW_YORK, {"alcohol"}, "age_gate"),
        (NEW_YORK | {"age_verified": "yes"}, {"alcohol"}, "ok"),
        (NEW_YORK | {"age_verified": "yes"}, {"nobody-looked-at-this"}, "content_prohibited"),
        (NEW_YORK | {"age_verified": "yes"}, {"alcohol", "other"}, "content_prohibited"),
        (
            {"region": "FR", "zones": "Europe/Paris", "age_verified": "yes"},
            {"gambling"},
            "content_prohibited",
        ),
    ],
)
def test_kinds_of_content_are_asked_one_by_one(
    row: dict[str, object], flags: set[str], reason: str
) -> None:
    terms = campaign(flags=frozenset(flags))
    assert judged(row, at=NOON + timedelta(hours=3), **terms)["reason"] == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "ok"),
        ("Half price today. Reply STOP to end", "ok"),
        ("Half price today, stop to end", "ok"),
        ("Moitié prix. STOP36179", "ok"),
        ("半价。拒收请回复stop", "ok"),
        ("半价。ＳＴＯＰで停止", "ok"),
        ("半价。拒收请回复stopper", "opt_out_text"),
        ("Half price today", "opt_out_text"),
        ("A nonstop sale", "opt_out_text"),
        ("Stopping by?", "opt_out_text"),
    ],
)
def test_marketing_must_say_how_to_opt_out(text: str | None, reason: str) -> None:
    assert judged({}, **campaign(text=text))["reason"] == reason
    assert judged({}, purpose="alert", **campaign(text=text))["reason"] == "ok"


@pytest.mark.parametrize(
    ("region", "sender", "reason"),
    [
        ("SA", "ACME-AD", "ok"),
        ("SA", "ACME", "sender_id"),
        ("SA", "", "ok"),
        ("AE", "AD-ACME", "ok"),
        ("AE", "XAD-ACME", "sender_id"),
        ("GB", "ACME", "ok"),
    ],
)
def test_a_sender_must_be_of_the_kind_that_is_allowed(
    region: str, sender: str, reason: str
) -> None:
    assert judged({"region": region, "sender": sender})["reason"] == reason


@pytest.mark.parametrize(
    ("events", "row", "reason"),
    [
        ([], {}, "nothing_to_confirm"),
        ([event("opt_out", "2026-03-10 11:55")], {}, "ok"),
        ([event("opt_out", "2026-03-10 11:54:59")], {}, "confirmation_too_late"),
        ([event("opt_out", None)], {}, "confirmation_too_late"),
        (
            [event("opt_out", "2026-03-10 11:59")],
            {"confirmations_sent": 1},
            "confirmation_already_sent",
        ),
        (
            [event("opt_out", "2026-03-10 11:58"), event("opt_in", "2026-03-10 11:59")],
            {},
            "nothing_to_confirm",
        ),
    ],
)
def test_an_opt_out_is_confirmed_once_and_soon(
    events: list[dict[str, object]], row: dict[str, object], reason: str
) -> None:
    standing = ledger(*events, purpose="optout_confirmation")
    # At night and against the no of the audience: it answers to what the person wrote.
    night = {"zones": "Asia/Tokyo", "opt_in": "no"} | row
    assert judged(night, standing, purpose="optout_confirmation")["reason"] == reason


# ------------------------------------------------------------------ moratoria


@pytest.mark.parametrize(
    ("row", "fields", "reason"),
    [
        (FLORIDA, {}, "moratorium"),
        (FLORIDA | {"subdivisions": "FL,GA"}, {}, "moratorium"),
        (NEW_YORK, {}, "ok"),
        (NEW_YORK, {"subdivision": None}, "moratorium"),
        (FLORIDA, {"purposes": ["alert"]}, "ok"),
        (FLORIDA, {"effective_to": "2026-03-10T15:00:00Z"}, "ok"),
        (FLORIDA, {"effective_from": "2026-03-10T15:00:00Z"}, "moratorium"),
        (FLORIDA, {"effective_from": "2026-03-10T15:00:01Z"}, "ok"),
        # some stop only what nobody agreed to
        (FLORIDA, {"overrides_consent": False}, "ok"),
        (FLORIDA | {"basis": "soft_opt_in"}, {"overrides_consent": False}, "moratorium"),
    ],
)
def test_a_moratorium_stops_its_place_and_time(
    row: dict[str, object], fields: dict[str, object], reason: str
) -> None:
    terms = campaign(moratoria=(moratorium(**fields),))
    assert judged(row, at=NOON + timedelta(hours=3), **terms)["reason"] == reason


def test_what_would_open_during_a_moratorium_is_blocked() -> None:
    terms = campaign(moratoria=(moratorium(effective_from="2026-03-11"),))
    night = NOON + timedelta(hours=14)
    assert told(FLORIDA, at=night, **terms) == "block/blocked/moratorium/test/moratorium"
    assert judged(NEW_YORK, at=night, **terms)["verdict"] == "defer"


# ------------------------------------------------------------------ when


def test_a_deferred_row_knows_when_it_opens_and_closes() -> None:
    found = judged({"zones": "America/Los_Angeles,America/New_York"})
    assert (found["verdict"], found["opens_at"]) == ("defer", NOON + timedelta(hours=4))
    assert found["closes_at"] == NOON + timedelta(hours=12)


def test_a_row_to_be_sent_knows_when_its_hours_end() -> None:
    found = judged({})
    assert found["opens_at"] is pd.NaT
    assert found["closes_at"] == NOON + timedelta(hours=8)
    assert judged({}, purpose="otp")["closes_at"] is pd.NaT


@pytest.mark.parametrize(
    ("zones", "not_after", "verdict"),
    [
        ("Europe/London", NOON, "block"),
        ("Europe/London", NOON + timedelta(seconds=1), "send"),
        ("America/New_York", NOON + timedelta(hours=1), "block"),
        ("America/New_York", NOON + timedelta(hours=1, seconds=1), "defer"),
    ],
)
def test_what_would_go_out_at_the_deadline_or_later_is_blocked(
    zones: str, not_after: datetime, verdict: str
) -> None:
    found = judged({"zones": zones}, not_after=not_after)
    assert found["verdict"] == verdict
    assert (found["reason"] == "deadline") == (verdict == "block")


@pytest.mark.parametrize(
    ("window", "purpose", "at", "expected"),
    [
        (("14:00", "18:00"), "marketing", NOON, ("defer", "campaign_window", "campaign_window")),
        (("14:00", "18:00"), "alert", NOON, ("defer", "campaign_window", "campaign_window")),
        # it narrows the rule's hours and never widens them
        (
            ("06:00", "23:00"),
            "marketing",
            NOON - timedelta(hours=5),
            ("defer", "quiet_hours", "sending_window"),
        ),
        (("21:00", "23:00"), "marketing", NOON, ("block", "no_common_window", "campaign_window")),
        (("10:00", "18:00"), "marketing", NOON, ("send", "ok", "")),
    ],
)
def test_a_campaign_with_hours_of_its_own_sends_inside_both(
    window: tuple[str, str], purpose: str, at: datetime, expected: tuple[str, str, str]
) -> None:
    found = judged({}, purpose=purpose, at=at, **campaign(window=daily_window(*window)))
    assert (found["verdict"], found["reason"], found["rule"]) == expected


def test_a_campaign_with_hours_needs_a_zone_whatever_its_purpose() -> None:
    terms = campaign(window=daily_window("10:00", "18:00"))
    assert judged({"zones": ""}, purpose="otp", **terms)["reason"] == "zone_unknown"


def test_a_day_without_hours_is_told_from_a_night() -> None:
    france = {"region": "FR", "zones": "Europe/Paris"}
    sunday = datetime.fromisoformat("2026-03-15T12:00:00Z")
    assert told(france, at=sunday) == "defer//day_not_allowed/fr/hours"
    assert told(france, at=sunday - timedelta(hours=14)) == "defer//quiet_hours/fr/hours"


def test_until_the_rows_of_a_country_are_in_force_those_of_all_countries_are() -> None:
    # The hours of China's row begin at 08:00, from May 2026 on.
    china = {"region": "CN", "zones": "Asia/Shanghai"}
    row = judged(china, purpose="marketing", at=datetime.fromisoformat("2026-05-01T00:30:00Z"))
    assert row["verdict"] == "send"


# ------------------------------------------------------------------ frequency


THREE = ("2026-03-09T15:30Z", "2026-03-10T13:00Z", "2026-03-10T14:00Z")


@pytest.mark.parametrize(
    ("prior", "subject", "expected"),
    [
        (sends(*THREE), "sale", "defer//frequency_cap/us-fl/cap"),
        (sends(*THREE[1:]), "sale", "send//ok/"),
        (sends(*THREE), "opening", "send//ok/"),
        # who names no subject is taken to write about every one
        (sends(*THREE), "", "defer//frequency_cap/us-fl/cap"),
        (sends(*THREE, subject=""), "opening", "defer//frequency_cap/us-fl/cap"),
        (sends(*THREE, key="other"), "sale", "send//ok/"),
        # a day later to the second, it is over
        (sends("2026-03-09T15:00Z", *THREE[1:]), "sale", "send//ok/"),
        (None, "sale", "send//ok/"),
    ],
)
def test_who_got_enough_waits(prior: pd.DataFrame | None, subject: str, expected: str) -> None:
    at = datetime.fromisoformat("2026-03-10T15:00:00Z")
    assert told(FLORIDA, at=at, prior=prior, **campaign(subject=subject)) == expected


def test_a_full_cap_is_free_when_enough_of_it_is_a_day_old() -> None:
    at = datetime.fromisoformat("2026-03-10T15:00:00Z")
    prior = sends(
        "2026-03-09T15:30Z", "2026-03-09T16:00Z", "2026-03-10T13:00Z", "2026-03-10T14:00Z"
    )
    found = judged(FLORIDA, at=at, prior=prior, **campaign(subject="sale"))
    assert found["opens_at"] == datetime.fromisoformat("2026-03-10T16:00:00Z")
    assert found["caps"] == ",us-fl/cap,"


def test_after_a_cap_the_hours_still_hold() -> None:
    at = datetime.fromisoformat("2026-03-10T15:00:00Z")
    prior = sends(*["2026-03-10T01:00Z"] * 3)
    found = judged(FLORIDA, at=at, prior=prior, **campaign(subject="sale"))
    # Free at 21:00 local time, open at 08:00.
    assert found["opens_at"] == datetime.fromisoformat("2026-03-11T12:00:00Z")
    assert found["reason"] == "frequency_cap"


def test_of_several_caps_the_last_one_decides() -> None:
    both = FLORIDA | {"subdivisions": "FL,MD"}
    found = judged(both, at=NOON + timedelta(hours=3), **campaign(subject="sale"))
    assert found["caps"] == ",us-fl/cap,us-md/cap,"
    assert judged(NEW_YORK, at=NOON + timedelta(hours=3))["caps"] == ""


# ------------------------------------------------------------------ an audience


rows = st.fixed_dictionaries(
    {
        "valid": st.booleans(),
        "line_type": st.sampled_from(["mobile", "fixed_line", "voip"]),
        "region": st.sampled_from(["US", "GB", "CA", "SG", "RU", None]),
        "subdivisions": st.sampled_from(["", "FL", "NY", "FL,MD", "?"]),
        "zones": st.sampled_from(["", "UTC", "Asia/Tokyo", "America/Adak,America/New_York"]),
        "number_key": st.sampled_from(["out", "in", "old", "listed", "absent", None]),
        "opt_in": st.sampled_from(["yes", "no", None]),
        "basis": st.sampled_from(["express", "express_written"]),
        "sender": st.sampled_from(["", "ACME-AD", "12345"]),
        "held": st.booleans(),
    }
)
EVENTS = [
    STOP | {"number_key": "out"},
    event("opt_in") | {"number_key": "in"},
    event("relationship", "2025-10-01", basis="implied_inquiry", number_key="old"),
    event("relationship", "2025-11-20", basis="implied_purchase", number_key="old"),
    event("registry_check", "2026-03-01", basis="dnc_clear", number_key="listed"),
    event("registry_check", "2026-03-02", evidence={"result": "listed"}, number_key="listed"),
]
PRIOR = pd.concat([sends(*THREE, key="in"), sends(THREE[0], key="old")], ignore_index=True)


@settings(max_examples=20, deadline=None)
@given(st.lists(rows, min_size=1, max_size=12), st.sampled_from(PURPOSES))
def test_a_row_is_judged_as_if_it_were_alone(found: list[dict[str, object]], purpose: str) -> None:
    terms = {
        "purpose": purpose,
        "at": NOON + timedelta(hours=2),
        "not_after": NOON + timedelta(days=1),
        "standing": ledger(*EVENTS, purpose=purpose),
        "campaign": Campaigning(subject="sale", text="STOP", window=daily_window("08:00", "22:00")),
        "prior": PRIOR,
    }
    together = evaluate(audience(*found), **terms)  # type: ignore[arg-type]
    alone = [evaluate(audience(row), **terms) for row in found]  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(together, pd.concat(alone).set_axis(together.index))


def test_an_empty_audience_has_no_verdicts() -> None:
    empty = audience({}).iloc[:0]
    found = evaluate(empty, purpose="marketing", at=NOON, not_after=NOON, standing=None)
    assert found.empty
    assert list(found.columns) == COLUMNS


def test_a_purpose_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConsentError, match="'advert' is no purpose"):
        judged({}, purpose="advert")


@pytest.mark.parametrize(
    ("text", "word", "says"),
    [
        ("拒收请回复TD", "td", True),
        ("配信停止はこちら", "停止", True),
        ("SMS停止", "停止", True),
        ("ส่งSTOPเพื่อยกเลิก", "stop", True),
        ("STOP36179", "stop", True),
        ("ltd 拒收", "td", False),
        ("请回复TDX", "td", False),
        ("nonstop", "stop", False),
        ("дистоп", "стоп", False),
    ],
)
def test_a_word_ends_where_its_script_says_so(text: str, word: str, says: bool) -> None:
    assert _says(text, word) == says


@pytest.mark.parametrize(
    ("opt_in_at", "reason"),
    [
        ("2025-01-01", "no_consent"),
        (None, "no_consent"),
        ("2026-03-01", "no_consent"),
        ("2026-03-05", "ok"),
    ],
)
def test_an_old_yes_of_the_audience_counts_no_more_after_a_stop_that_was_lifted(
    opt_in_at: str | None, reason: str
) -> None:
    start = event("opt_in", "2026-03-03", basis="")
    found = judged({"opt_in": "yes", "opt_in_at": opt_in_at}, ledger(STOP, start))
    assert found["reason"] == reason
