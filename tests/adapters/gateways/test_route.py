"""How a route is written, and what is said where it cannot be read."""

import pytest
from pydantic import ValidationError

from adapters.gateways.route import Leg, RouteSettings


@pytest.mark.parametrize(
    ("rules", "legs"),
    [
        ("*: main", [Leg((), {"main": 1})]),
        ("*: plivo > kannel > smpp", [Leg((), {"plivo": 1}, ("kannel", "smpp"))]),
        (
            "US CA: plivo 70, twilio 30 > kannel; *: twilio",
            [Leg(("US", "CA"), {"plivo": 70, "twilio": 30}, ("kannel",)), Leg((), {"twilio": 1})],
        ),
        (
            "US,CA: plivo 70%\n\n  DE : a-1 ",
            [Leg(("US", "CA"), {"plivo": 70}), Leg(("DE",), {"a-1": 1})],
        ),
    ],
)
def test_rules_are_read(rules: str, legs: list[Leg]) -> None:
    assert RouteSettings(rules=rules).legs == legs


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("", "a route needs a rule"),
        ("main", "rule 1 “main”: begin it with countries and a colon"),
        ("us: main", "rule 1 “us: main”: begin it with countries and a colon"),
        ("US:", "write gateways as"),
        ("*: main 0", "no gateway has a share"),
        ("*: main, main", "write gateways as"),
        ("*: main > two 30", "after > write the name of one gateway"),
        ("US: a; US DE: b", "rule 2: US has a rule already"),
        ("*: a; US: b", "rule 2 comes after the one for *"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(rules: str, told: str) -> None:
    with pytest.raises(ValidationError) as raised:
        RouteSettings(rules=rules)
    assert told in raised.value.errors()[0]["msg"]
    assert "\n" not in raised.value.errors()[0]["msg"]


def test_gateways_stand_in_by_their_share_and_then_in_the_order_written() -> None:
    [leg] = RouteSettings(rules="*: a 10, b 90 > c > a").legs
    assert leg.gateways == ("b", "a", "c")
