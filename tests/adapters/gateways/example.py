"""What the contract (test_contract.py) must know of a gateway kind that it cannot read off it.

Each kind has an `EXAMPLE` in a file of its own in `examples/`. Here is what such a file is made of.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapters.gateways import KINDS
from adapters.gateways.base import Addresses, Callback, Outgoing
from tests.adapters.gateways.wire import Request, Respond

HTTP_KINDS = sorted(kind for kind in KINDS if "base_url" in KINDS[kind].model_fields)
"""Those that send by HTTP: the others have no such address, and no request to look at."""

ADDRESSES = Addresses("main", "http://127.0.0.1:8780")
SUBMISSION = "s1"


@dataclass(frozen=True)
class Example:
    """Settings that work, how this gateway says yes and no, and a report of it.

    Kinds without HTTP have settings and secrets only.
    """

    settings: dict[str, Any]
    """Without `base_url` and `sender`."""
    secrets: tuple[str, ...]
    """The value of each secret setting."""
    accept: Callable[[Request], Respond] | None = None
    """The reply that takes every message of a request (`numbers` finds them). The gateway's id of a
    message is ours, or ends with the digits of its number."""
    refuse: Callable[[Request, str], Respond] | None = None
    """The reply to a request in which the gateway does not take the recipient with these digits,
    and quotes it. The others are taken, if the gateway ever takes a part of a request."""
    own_ids: bool = True
    """False: the gateway gives one id to a request, or tells none of several messages in one."""
    report: Callback | None = None
    """The report that message m1 of window s1 to +12125550101 was delivered, not yet authentic; it
    comes to `ADDRESSES.reports("m1")` or `ADDRESSES.reports_of("s1")`."""
    reply: Callback | None = None
    """Where a token is all the proof: a reply (MO) to `ADDRESSES.inbound`, not yet authentic."""
    sign: Callable[[Callback], Callback] | None = None
    """Make it authentic, now: with a signature, or with the token in the address."""
    ages: bool = False
    """Whether the signature holds the time, so that it is refused when it is old."""


def messages(number: int, *, text: str | None = None) -> list[Outgoing]:
    """Messages m0, m1, … to +12125550100, +12125550101, …, with one text or each its own."""
    return [
        Outgoing(
            id=f"m{i}",
            to=f"+12125550{100 + i}",
            text=text or f"text{i:02}",
            sender="+15005550006",
            encoding="GSM-7",
            segments=1,
            submission=SUBMISSION,
        )
        for i in range(number)
    ]


def numbers(request: Request) -> list[str]:
    """The digits of the recipients that a request carries, wherever it does, in their order."""
    everywhere = f"{request.target} {request.headers} {request.body.decode('latin-1')}"
    return list(dict.fromkeys(re.findall(r"12125550\d{3}", everywhere)))
