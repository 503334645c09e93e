"""`sms consent explain NUMBER`: what the ledger and a run know of one number."""

import json
from datetime import UTC, datetime

import pandas as pd
import pytest

from data import consent_ledger, plan
from data.consent_ledger import ConsentError
from data.database import writing
from data.runs import RunError
from tasks.consent_numbers import explain_number
from tests import plans

NUMBER = "+13055550123"
AT = datetime(2026, 3, 10, 15, tzinfo=UTC)


def record(kind: str, occurred_at: str, **fields: object) -> None:
    usual = {
        "type": kind,
        "recipient": NUMBER,
        "scope": "marketing",
        "basis": "express_written" if kind == "opt_in" else "",
        "occurred_at": pd.Timestamp(occurred_at, tz="UTC"),
        "source": "form",
        "method": "web_form",
    }
    with writing() as connection:
        consent_ledger.append(connection, pd.DataFrame([usual | fields]))


def told(**terms: object) -> dict[str, object]:
    usual: dict[str, object] = {"purpose": "marketing", "at": AT}
    return explain_number(NUMBER, **usual | terms)  # type: ignore[arg-type]


def test_a_number_is_judged_by_what_the_ledger_says(database: str) -> None:
    assert (told()["verdict"], told()["reason_code"]) == ("block", "no_consent")
    record("opt_in", "2026-01-01")
    found = told()
    assert (found["verdict"], found["events"]) == ("send", ["1"])
    record("opt_out", "2026-02-01")
    found = told()
    assert (found["reason_code"], found["events"]) == ("opted_out", ["1", "2"])
    assert found["rules"][-1]["id"] == "opt_out"  # type: ignore[index]


def test_the_number_is_masked(sqlite: str) -> None:
    record("opt_in", "2026-01-01")
    assert told()["id"] == "+1•••••••123"
    assert "5550123" not in json.dumps(told())


def test_a_number_without_a_calling_code_needs_its_country(sqlite: str) -> None:
    found = explain_number("(305) 555-0123", purpose="marketing", at=AT, country="US")
    assert found["id"] == "+1•••••••123"
    with pytest.raises(ConsentError, match="the number cannot be read"):
        explain_number("(305) 555-0123", purpose="marketing", at=AT)


def test_what_a_run_planned_was_accepted_then(database: str) -> None:
    run = plans.open_run(purpose="marketing")
    plans.add_messages(run, [NUMBER], state="deferred", reason="quiet_hours", rule="us/hours")
    found = told(run=run.key)
    assert found["verdict"] == "send"
    message = found["message"]
    assert isinstance(message, dict)
    assert (message["outcome"], message["rule"]) == ("deferred", "us/hours")
    assert message["reason"] == "Outside the recipient's hours"
    assert message["says"]
    assert message["source"]


def test_what_a_run_excluded_says_by_which_rule(database: str) -> None:
    run = plans.open_run(purpose="marketing")
    exclusion = {
        "run_id": run.id,
        "row": 1,
        "recipient": NUMBER,
        "outcome": "blocked",
        "reason": "no_consent",
        "column": "",
        "rule": "us/consent",
        "detail": "",
    }
    repeated = exclusion | {"row": 2, "outcome": "duplicate", "reason": "same_number", "rule": ""}
    plan.add_to_plan(pd.DataFrame(), pd.DataFrame([repeated, exclusion]))
    message = told(run=run.id)["message"]
    assert isinstance(message, dict)
    assert (message["outcome"], message["rule"]) == ("blocked", "us/consent")
    assert message["says"].startswith("In the United States marketing needs")


def test_a_run_that_does_not_know_the_number_says_so(sqlite: str) -> None:
    run = plans.open_run()
    assert told(run=run.id)["message"] == "the number is not in its audience"
    with pytest.raises(RunError, match="there is no run"):
        told(run="nowhere")
