"""A campaign by a route: saved, checked, sent by who stands in, and told in the report."""

import pytest

from data.workspace import Workspace
from tests.flows.campaigns import Desk, outcomes, run_of
from tests.flows.conftest import save_gateway
from tests.sandboxes import SID, TOKEN


def save_unreachable(desk: Desk, name: str) -> None:
    settings = {"base_url": "http://127.0.0.1:9", "account_sid": SID, "auth_token": TOKEN}
    said = desk.sms(
        *("gateway", "add", name, "twilio", "--set", "sender=+15005550006"),
        *(part for field, value in settings.items() for part in ("--set", f"{field}={value}")),
    )
    assert said.code == 0, said.err


def save_route(desk: Desk, name: str, rules: str) -> None:
    said = desk.sms("gateway", "add", name, "route", "--set", f"rules={rules}")
    assert said.code == 0, said.err


def test_a_gateway_that_is_down_is_told_and_another_sends(desk: Desk) -> None:
    save_unreachable(desk, "down")
    save_route(desk, "with-help", "*: down > sandbox")
    people = desk.people(40)
    said = desk.sms("send", desk.campaign(desk.audience(people), gateway="with-help"))
    assert (said.code, outcomes(said.run_id)) == (0, {"delivered": 40})
    assert desk.messages(people) == [1] * 40
    report = Workspace(said.run_id).report("report.md").read_text()
    [line] = [line for line in report.splitlines() if "no connection to" in line]
    assert "| down | cannot be reached (unreachable" in line
    assert "| 40 |" in line


def test_who_has_no_rule_gets_no_message_and_the_reason_says_so(desk: Desk) -> None:
    save_route(desk, "europe", "DE FR: sandbox")
    people = desk.people(3)
    said = desk.sms("send", desk.campaign(desk.audience(people), gateway="europe"))
    assert (said.code, outcomes(said.run_id)) == (0, {"blocked": 3})
    exported = desk.sms("results", said.run_id).out
    assert exported.count("no_gateway") == 3


def test_shares_are_sent_by_each_gateway_from_its_own_sender(desk: Desk) -> None:
    save_gateway("second")
    save_route(desk, "halves", "US: sandbox 50, second 50")
    people = desk.people(60)
    said = desk.sms("send", desk.campaign(desk.audience(people), gateway="halves"))
    assert outcomes(said.run_id) == {"delivered": 60}
    by_gateway = [
        line.split(",")[4] for line in desk.sms("results", said.run_id).out.splitlines()[1:]
    ]
    assert {"sandbox", "second"} == set(by_gateway)
    assert 10 < by_gateway.count("second") < 50


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("*: nobody", "route lost: nobody is not saved: `sms gateway list` shows what there is"),
        ("*: lost", "route lost: lost is no gateway but a route"),
    ],
)
def test_a_route_that_leads_nowhere_is_told_before_anything_runs(
    desk: Desk, rules: str, told: str
) -> None:
    save_route(desk, "lost", rules)
    campaign = desk.campaign(desk.audience(desk.people(1)), gateway="lost")
    said = desk.sms("send", campaign)
    assert said.code == 1
    assert told in said.err
    checked = desk.sms("gateway", "check", "lost")
    assert checked.code == 1
    assert told in checked.err


def test_a_route_is_checked_gateway_by_gateway(desk: Desk) -> None:
    save_unreachable(desk, "down")
    save_route(desk, "with-help", "*: down > sandbox")
    checked = desk.sms("gateway", "check", "with-help")
    assert checked.code == 1
    assert "gateway down: base_url cannot be used" in checked.err
    assert "gateway sandbox" not in checked.err
    assert "with-help\troute\t*: down > sandbox" in desk.sms("gateway", "list").out


def test_where_every_gateway_is_down_nothing_is_prepared(desk: Desk) -> None:
    save_unreachable(desk, "down")
    save_route(desk, "hopeless", "*: down")
    campaign = desk.campaign(desk.audience(desk.people(1)), gateway="hopeless")
    assert desk.sms("send", campaign).code == 1
    assert run_of(campaign).state == "failed"


def test_a_rule_that_cannot_be_read_is_said_in_one_line(desk: Desk) -> None:
    said = desk.sms("gateway", "add", "odd", "route", "--set", "rules=everything by sandbox")
    assert said.code == 1
    assert "sms gateway add odd route: rules: rule 1 “everything by sandbox”" in said.err
    assert len(said.err.splitlines()) == 1
