"""Which gateway sends to whom, and which stands in."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from adapters.gateways import KINDS
from adapters.gateways.base import GatewayError
from adapters.gateways.route import RouteSettings, read_rules
from data import switches
from data.tables import CampaignRun
from tasks.routing import Route, move_waiting, resolve, route_of, switch
from tests import plans

RULES = "US CA: plivo 70, twilio 30 > kannel; DE: kannel > twilio"
SENDERS = {"plivo": "+15005550001", "twilio": "+15005550002", "kannel": "ACME"}


def choose(rules: str, countries: list[str]) -> list[str]:
    ids = pd.Series([f"{place:032x}" for place in range(len(countries))])
    return Route(read_rules(rules)).choose(pd.Series(countries, dtype="str"), ids).tolist()


def test_the_country_decides() -> None:
    assert choose("US: a; *: b", ["US", "DE", "US"]) == ["a", "b", "a"]


def test_a_country_without_a_rule_has_no_gateway() -> None:
    assert choose("US: a", ["US", "DE"]) == ["a", ""]


def test_shares_are_kept_and_the_same_ids_give_the_same_gateways() -> None:
    chosen = choose("*: a 70, b 30", ["US"] * 10_000)
    assert chosen == choose("*: a 70, b 30", ["US"] * 10_000)
    assert 6_800 < chosen.count("a") < 7_200


def saved(**kinds: str) -> dict[str, object]:
    """Saved gateways by name and kind, and the route `r`."""
    made = {
        "twilio": lambda name: KINDS["twilio"](
            sender=name, account_sid="AC" + "5" * 32, auth_token="secret"
        ),
        "route": lambda _: RouteSettings(rules="*: a"),
        "vonage-messages": lambda name: KINDS["vonage-messages"](
            sender=name, api_key="abcd1234", api_secret="secret", signature_secret="secret" * 4
        ),
    }
    gateways = {name: made[kind](f"from-{name}") for name, kind in kinds.items()}
    return {**gateways, "r": RouteSettings(rules="*: a > b")}


def test_each_gateway_sends_from_its_own_sender_unless_the_campaign_names_one() -> None:
    there = saved(a="twilio", b="twilio")
    assert resolve("r", there, "").senders == {"a": "from-a", "b": "from-b"}
    assert resolve("r", there, "ACME").senders == {"a": "ACME", "b": "ACME"}
    assert resolve("b", there, "").senders == {"b": "from-b"}


def test_a_text_is_as_long_as_the_gateway_that_takes_least() -> None:
    assert resolve("r", saved(a="twilio", b="vonage-messages"), "").longest == 1000


@pytest.mark.parametrize(
    ("there", "told"),
    [(saved(a="twilio"), "b is not saved"), (saved(a="twilio", b="route"), "b is no gateway")],
)
def test_a_route_names_saved_gateways(there: dict[str, object], told: str) -> None:
    with pytest.raises(GatewayError, match=f"route r: {told}"):
        resolve("r", there, "")


@pytest.fixture
def run(database: str) -> CampaignRun:
    return plans.open_run(gateway="world", route=Route(read_rules(RULES), SENDERS).stored())


def planned(run: CampaignRun, **columns: list[str]) -> None:
    """Store queued messages with these columns."""
    plans.add_messages(run, plans.numbers(len(columns["gateway"])), **columns)


def gateways(run: CampaignRun) -> list[tuple[str, str]]:
    """Gateway and sender of each message, by row."""
    rows = sorted(plans.messages(run).values(), key=lambda message: message.row or 0)
    return [(message.gateway, message.sender) for message in rows]


def test_a_run_keeps_its_route(run: CampaignRun) -> None:
    assert route_of(run) == Route(read_rules(RULES), SENDERS)


def test_what_waits_moves_to_who_stands_in_for_its_country(run: CampaignRun) -> None:
    planned(run, country=["US", "CA", "DE"], gateway=["plivo", "twilio", "kannel"])
    assert switch(run, "plivo", "is down")
    assert [name for name, _ in gateways(run)] == ["twilio", "twilio", "kannel"]
    assert gateways(run)[0] == ("twilio", "+15005550002")
    assert switch(run, "twilio", "is down")
    assert gateways(run)[:2] == [("kannel", "ACME")] * 2


@pytest.mark.parametrize("state", ["sending", "accepted", "in_doubt", "rejected"])
def test_what_a_gateway_may_have_taken_stays_with_it(run: CampaignRun, state: str) -> None:
    planned(run, country=["US", "US"], gateway=["plivo", "plivo"], state=[state, "queued"])
    switch(run, "plivo", "is down")
    assert [name for name, _ in gateways(run)] == ["plivo", "twilio"]


def test_what_waits_to_be_sent_again_under_its_id_stays_in_doubt(run: CampaignRun) -> None:
    planned(run, country=["US"], gateway=["plivo"])
    [message] = plans.messages(run).values()
    plans.change(message.id, resend_until=datetime(2027, 1, 1, tzinfo=UTC))
    switch(run, "plivo", "is down")
    [message] = plans.messages(run).values()
    assert (message.gateway, message.state) == ("plivo", "in_doubt")


def test_a_gateway_that_nobody_stands_in_for_is_not_taken_out(run: CampaignRun) -> None:
    planned(run, country=["DE", "DE"], gateway=["kannel", "twilio"])
    assert switch(run, "kannel", "is down")
    assert not switch(run, "twilio", "is down")
    assert switches.out(run.id) == {"kannel"}


def test_every_switch_is_recorded_with_its_reason_once(run: CampaignRun) -> None:
    planned(run, country=["US", "CA"], gateway=["plivo", "plivo"])
    switch(run, "plivo", "fails (timeout)")
    switch(run, "plivo", "fails (timeout)")
    [recorded] = switches.of_run(run.id)
    assert (recorded.gateway, recorded.reason, recorded.moved) == ("plivo", "fails (timeout)", 2)


def test_what_comes_back_to_the_queue_after_a_switch_moves_too(run: CampaignRun) -> None:
    planned(run, country=["US", "US"], gateway=["plivo", "plivo"], state=["sending", "queued"])
    switch(run, "plivo", "is down")
    [late] = [one for one in plans.messages(run).values() if one.state == "sending"]
    plans.change(late.id, state="queued")
    assert move_waiting(run) == 1
    assert switches.of_run(run.id)[0].moved == 2


def test_resuming_uses_all_gateways_again(run: CampaignRun) -> None:
    planned(run, country=["US"], gateway=["plivo"])
    switch(run, "plivo", "is down")
    switches.take_in(run.id)
    assert switches.out(run.id) == set()
    assert switches.of_run(run.id)[0].ended_at is not None
