"""A Plivo account for the tests."""

from typing import Any

from pydantic import SecretStr

from adapters.gateways.base import Addresses, Timeouts
from adapters.gateways.plivo import Plivo, PlivoSettings

AUTH_ID = "MA" + "0" * 18
TOKEN = "the-token"
ACCOUNT = f"/v1/Account/{AUTH_ID}/"
MESSAGES = f"{ACCOUNT}Message/"


def plivo(base_url: str, **settings: Any) -> Plivo:
    made = PlivoSettings(
        auth_id=AUTH_ID, auth_token=SecretStr(TOKEN), base_url=base_url, **settings
    )
    return Plivo(made, Addresses("main", "http://127.0.0.1:8780"), Timeouts(5, 5), 8)
