"""`sms consent explain`: cases with their own events, judged and explained."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from data.consent_ledger import ConsentError
from data.rules import rules
from tasks.consent_cases import explain

EXAMPLES = [
    json.loads(line)
    for path in sorted((Path(__file__).parent / "consent_examples").glob("*.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines()
]
PARTS = ("verdict", "defer_until", "reason_code")

SIGNED_UP = {
    "type": "opt_in",
    "basis": "express_written",
    "scope": "marketing",
    "occurred_at": "2025-06-01T12:00:00Z",
    "source": "web_form",
}


def stop(at: str | None, scope: str = "marketing") -> dict[str, object]:
    return {"type": "opt_out", "scope": scope, "occurred_at": at, "source": "inbound:STOP"}


def case(**fields: object) -> dict[str, Any]:
    usual = {
        "id": "c-1",
        "country": "US",
        "subdivision": "NY",
        "purpose": "marketing",
        "phone": "+12125550123",
        "timezone": "America/New_York",
        "consent_events": [SIGNED_UP],
        "context": {},
        "instant": "2026-03-10T15:00:00Z",
    }
    return usual | fields


def test_there_are_examples_of_every_step() -> None:
    assert len(EXAMPLES) >= 60
    assert len({example["id"] for example in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["id"])
def test_an_example_has_the_verdict_that_it_expects(example: dict[str, Any]) -> None:
    told = explain(example)
    assert {part: told[part] for part in PARTS} == example["expected"]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "example",
    [example for example in EXAMPLES if len(example["consent_events"]) > 1],
    ids=lambda example: example["id"],
)
def test_the_order_of_recording_changes_nothing(example: dict[str, Any], seed: int) -> None:
    mixed = list(example["consent_events"])
    random.Random(seed).shuffle(mixed)
    told = explain(example | {"consent_events": mixed})
    assert {part: told[part] for part in PARTS} == example["expected"]


def test_an_explanation_names_rules_sources_events_and_versions() -> None:
    alert = SIGNED_UP | {"scope": "alert"}
    told = explain(case(consent_events=[alert, stop("2025-01-01T00:00:00Z"), SIGNED_UP]))
    assert list(told) == [
        *("id", "verdict", "defer_until", "reason_code", "rules", "events", "versions")
    ]
    assert told["id"] == "c-1"
    ids = [rule["id"] for rule in told["rules"]]
    assert ids[:2] == ["number_validity", "line_type"]
    assert {"opt_out", "us/consent", "us/registry", "us/hours", "us-ny/hours"} < set(ids)
    assert all(set(rule) == {"id", "says", "source", "confidence"} for rule in told["rules"])
    assert told["events"] == ["1", "2"]
    assert told["versions"]["rules"] == rules().version
    assert set(told["versions"]) == {"rules", "tzdata", "phonenumbers", "holidays"}
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("fields", "last"),
    [
        ({"consent_events": []}, "us/consent"),
        ({"phone": "+12"}, "number_validity"),
        ({"subdivision": "Atlantis"}, "unknown_place"),
        ({"context": {"content_flags": ["alcohol"]}}, "us/content_age"),
        (
            {
                "context": {
                    "moratoria": [
                        {"country": "US", "subdivision": None, "purpose": "*", "from": "2026-01-01"}
                    ]
                }
            },
            "case/moratorium-0",
        ),
    ],
)
def test_what_blocks_is_the_last_rule_of_an_explanation(
    fields: dict[str, object], last: str
) -> None:
    assert explain(case(**fields))["rules"][-1]["id"] == last


def test_an_explanation_never_quotes_the_number() -> None:
    assert "5550123" not in json.dumps(explain(case()))


def test_events_of_several_scopes_count_for_each() -> None:
    both = SIGNED_UP | {"scope": ["marketing", "alert"], "id": "e-1"}
    told = explain(case(consent_events=[both]))
    assert (told["verdict"], told["events"]) == ("send", ["e-1"])


def test_islands_that_share_a_calling_code_have_the_rules_of_the_country_named() -> None:
    # Guernsey's, says the numbering plan; the case knows better.
    told = explain(
        case(country="GB", subdivision=None, phone="+447911234567", timezone="Europe/London")
    )
    assert told["verdict"] == "send"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"instant": "2026-03-10T15:00:00"}, "c-1: instant is no instant"),
        ({"instant": None}, "c-1: instant is missing"),
        ({"purpose": "adverts"}, "'adverts' is no purpose"),
        ({"consent_events": [{"scope": "otp"}]}, r"c-1: consent_events\[0\]: type is missing"),
        (
            {"consent_events": [SIGNED_UP | {"type": "unsubscribed"}]},
            r"c-1: consent_events\[0\]: type is unknown; use one of",
        ),
        ({"context": {"campaign_window": ["9", "20"]}}, "c-1: the campaign window cannot be read"),
        ({"context": {"prior_sends": [{}]}}, r"c-1: prior_sends\[0\]: sent_at is missing"),
        ({"context": {"not_after": "soon"}}, "c-1: not_after is no instant"),
        ({"context": {"moratoria": [{"from": "soon"}]}}, r"c-1: moratoria\[0\] cannot be read"),
        ({"context": {"requires_tzdata": ">=2099a"}}, "c-1: it needs tzdata 2099a"),
        ({"context": ["campaign_window"]}, "c-1: context is no object"),
    ],
)
def test_a_case_that_cannot_be_read_says_where(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConsentError, match=words):
        explain(case(**fields))


@pytest.mark.parametrize(
    ("context", "verdict"),
    [
        ({"rnd": True}, "block"),
        ({"rnd": False}, "send"),
        ({"rnd": "no_data"}, "send"),
        ({"rnd": {"result": "no"}}, "send"),
        ({"rnd": {"result": "unreadable"}}, "block"),
        ({"requires_tzdata": ">=2020a"}, "send"),
        ({"planned_at": "2026-03-01T00:00:00Z", "campaign_started": True}, "send"),
        ({"unheard_of": 1}, "send"),
        # of tomorrow, not known yet
        ({"prior_sends": [{"sent_at": "2026-03-11T00:00:00Z", "subject": "s"}] * 3}, "send"),
    ],
)
def test_the_context_is_read(context: dict[str, object], verdict: str) -> None:
    assert explain(case(context=context))["verdict"] == verdict


@pytest.mark.parametrize(
    "fields",
    [
        {"consent_events": "opt_in"},
        {"consent_events": {"type": "opt_in"}},
        {"consent_events": ["opt_in"]},
        {"consent_events": 7},
        {"context": {"prior_sends": ["2026-03-01T00:00:00Z"]}},
        {"context": {"moratoria": "all"}},
        {"context": {"moratoria": [None]}},
        {"context": {"content_flags": 5}},
        {"timezone": None, "context": {"candidate_timezones": 5}},
        {"context": {"campaign_window": ["09:00", "12:00", "20:00"]}},
        {"context": {"campaign_window": "09:00"}},
        {"context": {"campaign_window": [9, 20]}},
        {"context": {"campaign_windows_by_weekday": {"mon": 9}}},
        {"instant": "0001-01-01T00:00:00+14:00"},
        {"instant": "9999-12-31T23:59:59-14:00"},
        {"consent_events": [SIGNED_UP | {"occurred_at": "0001-01-01T00:00:00Z"}]},
        {"context": {"not_after": "9999-12-31T23:59:59Z"}},
    ],
)
def test_a_case_of_another_shape_is_refused_in_words(fields: dict[str, object]) -> None:
    with pytest.raises(ConsentError, match=r"^c-1: ") as refused:
        explain(case(**fields))
    assert "argument" not in str(refused.value)
    assert "one of its fields" not in str(refused.value)


def test_what_nobody_foresaw_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.consent_cases.judged", lambda *_: 1 / 0)
    with pytest.raises(ConsentError, match=r"^c-1: one of its fields"):
        explain(case())


@pytest.mark.parametrize("window", ["11:30-20:00", "11:30 – 20:00", ["11:30", "20:00"]])
def test_a_campaign_window_is_a_pair_or_a_text(window: object) -> None:
    told = explain(case(context={"campaign_window": window}))
    assert told["defer_until"] == "2026-03-10T15:30:00Z"


@pytest.mark.parametrize(
    "field", ["not_after", "deadline", "campaign_end", "campaign_ends_at", "expires_at"]
)
def test_the_earliest_end_of_a_campaign_counts(field: str) -> None:
    context = {"campaign_window": ["11:30", "20:00"], field: "2026-03-10T15:10:00Z"}
    told = explain(case(context={"not_after": "2026-04-01T00:00:00Z"} | context))
    assert (told["verdict"], told["reason_code"]) == ("block", "deadline")


SERVICE = SIGNED_UP | {"scope": "transactional"}


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("discount", "no_consent"),
        ("Cross-Sell", "no_consent"),
        ("never_heard_of", "content_prohibited"),
        ("political", "ok"),
        ("url", "ok"),
    ],
)
@pytest.mark.parametrize("country", ["US", "DE"])
def test_content_of_a_service_message_that_nobody_knows_is_not_sent(
    country: str, flag: str, reason: str
) -> None:
    place: dict[str, object] = {}
    if country == "DE":
        place = {
            "country": "DE",
            "subdivision": None,
            "phone": "+4915123456789",
            "timezone": "Europe/Berlin",
        }
    told = explain(
        case(
            purpose="transactional",
            consent_events=[SERVICE],
            context={"content_flags": [flag]},
            **place,
        )
    )
    assert told["reason_code"] == reason


@pytest.mark.parametrize("flag", ["discount", "sale"])
def test_promotion_is_what_marketing_is_made_of(flag: str) -> None:
    assert explain(case(context={"content_flags": flag}))["verdict"] == "send"


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"channel": "sms"}, "send"),
        ({"channel": "email"}, "block"),
        ({"channels": ["email", "phone"]}, "block"),
        ({"names_sms": False}, "block"),
    ],
)
def test_consent_for_another_channel_is_none_for_texts(
    more: dict[str, object], verdict: str
) -> None:
    assert explain(case(consent_events=[SIGNED_UP | more]))["verdict"] == verdict


@pytest.mark.parametrize(("purpose", "verdict"), [("marketing", "send"), ("alert", "block")])
def test_an_opt_in_without_a_scope_is_for_marketing(purpose: str, verdict: str) -> None:
    given = {name: value for name, value in SIGNED_UP.items() if name != "scope"}
    assert explain(case(purpose=purpose, consent_events=[given]))["verdict"] == verdict


def test_an_opt_out_without_a_scope_is_of_everything() -> None:
    stopped = {"type": "opt_out", "occurred_at": "2026-01-01T00:00:00Z", "channel": "email"}
    told = explain(case(purpose="alert", consent_events=[SIGNED_UP | {"scope": "*"}, stopped]))
    assert told["reason_code"] == "opted_out"


@pytest.mark.parametrize(("status", "verdict"), [("SUSPEND", "send"), ("DEACT", "block")])
def test_a_suspended_number_keeps_its_consent(status: str, verdict: str) -> None:
    gone = {"type": "deactivated", "occurred_at": "2026-01-01T00:00:00Z", "status": status}
    assert explain(case(consent_events=[SIGNED_UP, gone]))["verdict"] == verdict
