"""What is said of settings before anything is sent."""

import pytest

from adapters.gateways import checks
from adapters.gateways.base import Addresses


@pytest.mark.parametrize(
    "sender", ["+12125550101", "12345", "123", "ACME", "ACME Sale", "1stBank", "A&B_c-d+"]
)
def test_a_sender_of_a_known_form_is_no_problem(sender: str) -> None:
    assert checks.sender_problem(sender, "mend it") is None


@pytest.mark.parametrize(
    "sender",
    ["١٢٣٤", "+1٢٣٤٥٦٧٨", "Café", "-----A", " ACME", "&1", "+0123456789", "12125550101", "ACME\n"],
)
def test_a_sender_of_no_known_form_is_a_problem(sender: str) -> None:
    assert checks.sender_problem(sender, "mend it")


PUBLIC, NETWORK, MACHINE = "https://api.example.com", "http://10.0.0.9", "http://127.0.0.1:13013"


@pytest.mark.parametrize(
    ("receiver", "gateway", "is_reached"),
    [
        ("https://sms.example.org", PUBLIC, True),
        ("http://8.8.8.8", PUBLIC, True),
        ("http://10.0.0.5:8780", PUBLIC, False),
        ("http://192.168.1.4:8780", PUBLIC, False),
        ("http://172.16.0.1", PUBLIC, False),
        ("http://172.31.0.1", PUBLIC, False),
        ("http://172.32.0.1", PUBLIC, True),
        ("http://169.254.1.1", PUBLIC, False),
        ("http://[fe80::1]", PUBLIC, False),
        ("http://[::1]:8780", PUBLIC, False),
        ("http://0.0.0.0:8780", PUBLIC, False),
        ("http://127.0.0.1:8780", PUBLIC, False),
        ("http://localhost:8780", PUBLIC, False),
        ("http://myhost:8780", PUBLIC, False),
        ("http://printer.local", PUBLIC, False),
        ("http://10.0.0.5:8780", NETWORK, True),
        ("http://myhost:8780", "http://kannel:13013", True),
        ("http://127.0.0.1:8780", NETWORK, False),
        ("http://127.0.0.1:8780", MACHINE, True),
        ("http://10.0.0.5:8780", MACHINE, True),
    ],
)
def test_a_receiver_must_be_reached_from_where_the_gateway_is(
    receiver: str, gateway: str, is_reached: bool
) -> None:
    problem = checks.receiver_problem(Addresses("main", receiver), gateway)
    assert (problem is None) == is_reached
