"""A Telnyx account for the tests."""

from typing import Any

from pydantic import SecretStr

from adapters.gateways.base import Addresses, Timeouts
from adapters.gateways.telnyx import Telnyx, TelnyxSettings
from tests.adapters.gateways.examples.telnyx import PUBLIC

KEY = "KEY-the-secret"
PROFILE = "4000eba1-a0c0-4563-9925-b25e842a7cb6"


def telnyx(base_url: str, **settings: Any) -> Telnyx:
    made = TelnyxSettings(api_key=SecretStr(KEY), public_key=PUBLIC, base_url=base_url, **settings)
    return Telnyx(made, Addresses("main", "http://127.0.0.1:8780"), Timeouts(5, 5), 8)
