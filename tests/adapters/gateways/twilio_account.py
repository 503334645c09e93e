"""A Twilio account for the tests."""

from typing import Any

from pydantic import SecretStr

from adapters.gateways.base import Addresses, Timeouts
from adapters.gateways.twilio import Twilio, TwilioSettings

SID = "AC" + "5" * 32
ACCOUNT = f"/2010-04-01/Accounts/{SID}"
TOKEN = "12345"
"""The token of the examples in Twilio's documentation."""


def twilio(base_url: str, **settings: Any) -> Twilio:
    made = TwilioSettings(
        account_sid=SID, auth_token=SecretStr(TOKEN), base_url=base_url, **settings
    )
    return Twilio(made, Addresses("main", "http://127.0.0.1:8780"), Timeouts(5, 5), 8)
