"""Consent: the verdict on a row, an audience, a case, and what an import leaves behind."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from data.consent_ledger import ConsentError
from data.database import reading
from data.rules import RULES, daily_window
from data.tables import ConsentEvent
from tasks.consent import evaluate, import_consent
from tasks.consent_cases import explain

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
GOOD = {
    "e164": "+447911123456",
    "valid": True,
    "line_type": "mobile",
    "region": "GB",
    "zones": "Europe/London",
    "number_key": "k",
    "opt_in": "yes",
    "opt_in_at": NOON,
}

PARTS = ("verdict", "outcome", "reason", "rule")


def audience(*rows: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame([GOOD | row for row in rows], index=range(1, len(rows) + 1))
    texts = ["e164", "line_type", "region", "zones", "number_key", "opt_in"]
    frame[texts] = frame[texts].astype("str")
    return frame.assign(opt_in_at=pd.to_datetime(frame["opt_in_at"], utc=True))


def ledger(**keys: tuple[bool, str | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number_key": list(keys),
            "opted_out": [opted_out for opted_out, _ in keys.values()],
            "opt_in_at": pd.NaT,
            "basis": pd.Series([basis for _, basis in keys.values()], dtype="str"),
            "event_ids": "1",
        }
    )


def judged(
    row: dict[str, object], standing: pd.DataFrame | None = None, **terms: object
) -> dict[str, object]:
    usual = {"purpose": "marketing", "at": NOON, "not_after": None}
    return evaluate(audience(row), standing=standing, **usual | terms).iloc[0].to_dict()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "standing", "purpose", "expected"),
    [
        ({}, None, "marketing", "send//ok/"),
        ({"valid": False}, None, "marketing", "block/invalid/invalid_number/number_validity"),
        (
            {"valid": False, "e164": None, "region": None, "number_key": None},
            ledger(k=(True, None)),
            "marketing",
            "block/invalid/invalid_number/number_validity",
        ),
        ({"line_type": "fixed_line"}, None, "otp", "block/blocked/line_type/line_type"),
        ({"line_type": "toll_free"}, None, "alert", "block/blocked/line_type/line_type"),
        ({"line_type": "fixed_line_or_mobile"}, None, "marketing", "send//ok/"),
        # the audience's yes never beats the ledger's opt-out
        ({}, ledger(k=(True, "express")), "marketing", "block/suppressed/opted_out/opt_out"),
        ({}, ledger(other=(True, None)), "marketing", "send//ok/"),
        # nor does the ledger's opt-in beat the audience's no
        (
            {"opt_in": "no"},
            ledger(k=(False, "express")),
            "marketing",
            "block/suppressed/audience_opt_out/audience_opt_out",
        ),
        ({"opt_in": "no"}, None, "alert", "block/suppressed/audience_opt_out/audience_opt_out"),
        ({"opt_in": "no"}, None, "emergency", "send//ok/"),
        # consent: the audience's, the ledger's, even without a basis, or none
        ({"opt_in": None}, ledger(k=(False, "")), "marketing", "send//ok/"),
        (
            {"opt_in": None},
            ledger(k=(False, None)),
            "marketing",
            "block/blocked/no_consent/consent_basis",
        ),
        ({"opt_in": "maybe"}, None, "marketing", "block/blocked/no_consent/consent_basis"),
        ({"opt_in": None}, None, "transactional", "send//ok/"),
        # hours need a zone, and only where there are hours
        ({"zones": ""}, None, "marketing", "block/blocked/zone_unknown/zone_unknown"),
        ({"zones": None}, None, "marketing", "block/blocked/zone_unknown/zone_unknown"),
        ({"zones": "Etc/Unknown"}, None, "marketing", "block/blocked/zone_unknown/zone_unknown"),
        ({"zones": ""}, None, "otp", "send//ok/"),
        ({"zones": "America/Los_Angeles"}, None, "marketing", "defer//quiet_hours/sending_window"),
        ({"zones": "America/Los_Angeles"}, None, "alert", "send//ok/"),
        (
            {"zones": "Asia/Kamchatka,Europe/Kaliningrad,Pacific/Honolulu"},
            None,
            "marketing",
            "block/blocked/no_common_window/sending_window",
        ),
        # the first check that blocks gives the reason
        (
            {"line_type": "fixed_line", "opt_in": "no", "zones": ""},
            ledger(k=(True, None)),
            "marketing",
            "block/blocked/line_type/line_type",
        ),
        (
            {"opt_in": None, "zones": ""},
            None,
            "marketing",
            "block/blocked/no_consent/consent_basis",
        ),
    ],
)
def test_the_verdict_names_its_reason_and_rule(
    row: dict[str, object], standing: pd.DataFrame | None, purpose: str, expected: str
) -> None:
    told = judged(row, standing, purpose=purpose)
    assert "/".join(str(told[name]) for name in PARTS) == expected


def test_a_deferred_row_knows_when_it_opens_and_closes() -> None:
    told = judged({"zones": "America/Los_Angeles,America/New_York"})
    assert (told["verdict"], told["opens_at"]) == ("defer", NOON + timedelta(hours=4))
    assert told["closes_at"] == NOON + timedelta(hours=12)


def test_a_row_to_be_sent_knows_when_its_hours_end() -> None:
    told = judged({})
    assert told["opens_at"] is pd.NaT
    assert told["closes_at"] == NOON + timedelta(hours=8)
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
    told = judged({"zones": zones}, not_after=not_after)
    assert told["verdict"] == verdict
    assert (told["reason"] == "deadline") == (verdict == "block")


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
    told = judged({}, window=daily_window(*window), purpose=purpose, at=at)
    assert (told["verdict"], told["reason"], told["rule"]) == expected


def test_a_campaign_with_hours_needs_a_zone_whatever_its_purpose() -> None:
    told = judged({"zones": ""}, window=daily_window("10:00", "18:00"), purpose="otp")
    assert told["reason"] == "zone_unknown"


rows = st.fixed_dictionaries(
    {
        "valid": st.booleans(),
        "line_type": st.sampled_from(["mobile", "fixed_line", "voip"]),
        "region": st.sampled_from(["US", "GB", None]),
        "zones": st.sampled_from(["", "UTC", "Asia/Tokyo", "America/Adak,America/New_York"]),
        "number_key": st.sampled_from(["out", "in", "plain", "absent", None]),
        "opt_in": st.sampled_from(["yes", "no", None]),
    }
)
STANDING = ledger(out=(True, None), plain=(False, None), **{"in": (False, "express")})


@settings(max_examples=25, deadline=None)
@given(st.lists(rows, min_size=1, max_size=12), st.sampled_from(["marketing", "otp", "emergency"]))
def test_a_row_is_judged_as_if_it_were_alone(told: list[dict[str, object]], purpose: str) -> None:
    terms = {"purpose": purpose, "at": NOON, "not_after": None, "standing": STANDING}
    together = evaluate(audience(*told), **terms)  # type: ignore[arg-type]
    alone = [evaluate(audience(row), **terms) for row in told]  # type: ignore[arg-type]
    expected = pd.concat(alone).set_axis(together.index)
    pd.testing.assert_frame_equal(together, expected)


def test_an_empty_audience_has_no_verdicts() -> None:
    empty = audience({}).iloc[:0]
    told = evaluate(empty, purpose="marketing", at=NOON, not_after=None, standing=None)
    assert told.empty
    assert list(told.columns) == ["verdict", "outcome", "reason", "rule", "opens_at", "closes_at"]


def test_a_purpose_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConsentError, match="'advert' is no purpose"):
        judged({}, purpose="advert")


# ------------------------------------------------------------------ explain

SIGNED_UP = {
    "type": "opt_in",
    "basis": "express_written",
    "scope": "marketing",
    "occurred_at": "2025-06-01T12:00:00Z",
    "source": "web_form",
}


def stop(at: str | None, scope: str = "marketing") -> dict[str, object]:
    return {"type": "opt_out", "scope": scope, "occurred_at": at, "source": "inbound:STOP"}


def case(**fields: object) -> dict[str, object]:
    usual = {
        "id": "c-1",
        "country": "US",
        "purpose": "marketing",
        "phone": "+12125550123",
        "timezone": "America/New_York",
        "consent_events": [SIGNED_UP],
        "context": {},
        "instant": "2026-03-10T15:00:00Z",
    }
    return usual | fields


@pytest.mark.parametrize(
    ("fields", "verdict", "defer_until", "reason"),
    [
        ({}, "send", None, "ok"),
        ({"phone": "(212) 555-0123"}, "send", None, "ok"),
        ({"phone": "12"}, "block", None, "invalid_number"),
        ({"phone": "+442071838750"}, "block", None, "line_type"),
        ({"consent_events": []}, "block", None, "no_consent"),
        ({"instant": "2026-03-10T12:30:00Z"}, "defer", "2026-03-10T13:00:00Z", "quiet_hours"),
        # a tie, and an import after the opt-out, leave it standing; a later opt-in lifts it
        (
            {"consent_events": [SIGNED_UP, stop("2026-03-10T15:00:00Z")]},
            "block",
            None,
            "opted_out",
        ),
        (
            {
                "consent_events": [
                    stop("2025-01-01T00:00:00Z"),
                    SIGNED_UP | {"source": "csv_import"},
                ]
            },
            "block",
            None,
            "opted_out",
        ),
        ({"consent_events": [stop("2025-01-01T00:00:00Z"), SIGNED_UP]}, "send", None, "ok"),
        ({"consent_events": [SIGNED_UP, stop(None)]}, "block", None, "opted_out"),
        # what is said after the instant is not known yet
        ({"consent_events": [SIGNED_UP, stop("2026-03-10T15:00:01Z")]}, "send", None, "ok"),
        (
            {"purpose": "alert", "consent_events": [stop("2026-03-01T00:00:00Z")]},
            "send",
            None,
            "ok",
        ),
        (
            {"purpose": "alert", "consent_events": [stop("2026-03-01T00:00:00Z", "all")]},
            "block",
            None,
            "opted_out",
        ),
        # candidate zones stand in for a missing zone, the number's own for both
        (
            {
                "timezone": None,
                "context": {"candidate_timezones": ["America/New_York", "America/Denver"]},
                "instant": "2026-03-10T14:00:00Z",
            },
            "defer",
            "2026-03-10T15:00:00Z",
            "quiet_hours",
        ),
        (
            {"timezone": None, "instant": "2026-03-10T12:59:59Z"},
            "defer",
            "2026-03-10T13:00:00Z",
            "quiet_hours",
        ),
        (
            {"context": {"campaign_window": ["12:00", "13:00"], "unheard_of": 1}},
            "defer",
            "2026-03-10T16:00:00Z",
            "campaign_window",
        ),
        (
            {"context": {"campaign_windows_by_weekday": {"fri": [["10:00", "12:00"]]}}},
            "defer",
            "2026-03-13T14:00:00Z",
            "campaign_window",
        ),
    ],
)
def test_a_case_is_explained(
    fields: dict[str, object], verdict: str, defer_until: str | None, reason: str
) -> None:
    told = explain(case(**fields))
    assert (told["verdict"], told["defer_until"], told["reason_code"]) == (
        verdict,
        defer_until,
        reason,
    )


def test_an_explanation_names_rules_sources_events_and_versions() -> None:
    relationship = {"type": "relationship", "basis": "soft_opt_in", "occurred_at": None}
    told = explain(case(consent_events=[relationship, stop("2025-01-01T00:00:00Z"), SIGNED_UP]))
    assert told["id"] == "c-1"
    assert [rule["id"] for rule in told["rules"]] == [
        *("number_validity", "line_type", "opt_out", "audience_opt_out", "consent_basis"),
        *("sending_window", "zone_unknown", "deadline"),
    ]
    assert all(rule["source"] for rule in told["rules"])
    assert told["consent_events"] == ["1", "2"]
    assert told["versions"]["rules"] == RULES.version
    assert set(told["versions"]) == {"rules", "tzdata", "phonenumbers"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"instant": "2026-03-10T15:00:00"}, "c-1: instant is no instant"),
        ({"instant": None}, "c-1: instant is missing"),
        ({"purpose": "adverts"}, "'adverts' is no purpose"),
        ({"consent_events": [{"scope": "otp"}]}, r"c-1: consent_events\[0\]: type is missing"),
        ({"context": {"campaign_window": ["9", "20"]}}, "c-1: the campaign window cannot be read"),
    ],
)
def test_a_case_that_cannot_be_read_says_where(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConsentError, match=words):
        explain(case(**fields))


# ------------------------------------------------------------------ import


def test_an_import_records_what_it_can_and_tells_the_rest(database: str) -> None:
    frame = pd.DataFrame(
        {
            "phone": ["(201) 555-0123", "0171 123", "+447911123456", None],
            "type": ["opt_in", "opt_out", "opt_out", "opt_out"],
            "country": [None, "DE", None, None],
            "occurred_at": ["2026-03-01T12:00:00Z", None, None, None],
        },
        index=pd.RangeIndex(1, 5, name="row"),
        dtype="str",
    )
    told = import_consent([frame.iloc[:2], frame.iloc[2:]], default_country="US", name="list.csv")

    assert (told.read, told.recorded) == (4, 2)
    assert told.rejects[["row", "column"]].to_numpy().tolist() == [
        [2, "recipient"],
        [4, "recipient"],
    ]
    events = ConsentEvent.metadata.tables["consent_event"]
    with reading() as connection:
        kept = connection.execute(select(events).order_by(events.c.id)).all()
    assert [(row.type, row.recipient, row.scope, row.source, row.method) for row in kept] == [
        ("opt_in", "+12015550123", "marketing", "list.csv", "import"),
        ("opt_out", "+447911123456", "*", "list.csv", "import"),
    ]


def test_an_import_of_nothing_records_nothing(sqlite: str) -> None:
    told = import_consent([], default_country="US", name="list.csv")
    assert (told.read, told.recorded, len(told.rejects)) == (0, 0, 0)
