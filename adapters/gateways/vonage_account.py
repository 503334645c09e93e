"""What both gateways of Vonage have in common: the account, and looking messages up.

Sources: developer.vonage.com/en/api/reports (version 3), and the Reports and Application APIs'
guides there. Not here: sending, callbacks, and the codes of the two sending APIs.
"""

import asyncio
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self
from urllib.parse import urlencode, urlsplit

from pydantic import Field, SecretStr

from adapters.gateways import base, http, values
from adapters.gateways.matching import CLOCK_SKEW

API = "https://api.nexmo.com"
IDS_A_LOOK_UP = 20
LONGEST_LOOK_BACK = timedelta(hours=24)
SIGNED_FOR = 300.0
"""Seconds that a signature counts, before and after: developer.vonage.com, "Signing Messages"."""

_OF_A_PERSON = re.compile(r"\d{7,15}")
# Short codes have up to 8 digits.
_OF_OURS = re.compile(r"[1-9]\d{8,14}")


class AccountSettings(base.GatewaySettings):
    """Settings of a Vonage account, whichever API it sends with."""

    api_key: str = Field(
        pattern="^[0-9A-Za-z]+$", description="API key of the account, from the Vonage dashboard"
    )
    api_secret: SecretStr = Field(min_length=1, description="API secret of the account")
    signature_secret: SecretStr = Field(
        min_length=1,
        description="Signature secret, from the dashboard's API settings; callbacks are signed"
        " with it",
    )


class Account(http.HttpAdapter):
    """An adapter that looks messages up in the Reports API.

    Reports is a product that Vonage charges for, a little a record. An account without it is
    answered with 403: messages in doubt then stay so, and nothing is polled.
    """

    product: ClassVar[str]

    def __init__(
        self,
        settings: AccountSettings,
        base_url: str,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
        *,
        send_login: bool = True,
    ) -> None:
        """Make it; without `send_login`, submissions carry a login that the adapter gives them."""
        login = http.basic_login(settings.api_key, settings.api_secret.get_secret_value())
        super().__init__(
            base_url,
            addresses,
            headers=login if send_login else {},
            timeouts=timeouts,
            requests_in_flight=requests_in_flight,
        )
        self._api_key = settings.api_key
        self.account_url = account_url(base_url)
        self.account = http.Client(
            self.account_url,
            headers=login,
            timeouts=timeouts,
            requests_in_flight=requests_in_flight,
        )

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.account.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.account.__aexit__()
        await super().__aexit__(*error)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[base.Finding]:
        """Look suspects up by number and time; a record with their reference proves acceptance.

        The synchronous look-up takes no reference to search for. Nothing says how soon a message
        is in the records, so a missing one proves nothing.
        """
        found = await asyncio.gather(*map(self._find, suspects))
        return [finding for finding in found if finding is not None]

    async def _find(self, suspect: base.Suspect) -> base.Finding | None:
        tail = CLOCK_SKEW + timedelta(seconds=self.timeouts.request)
        start = suspect.submitted_after - CLOCK_SKEW
        end = min(suspect.lease_until + tail, start + LONGEST_LOOK_BACK)
        times = {"date_start": _zulu(start), "date_end": _zulu(end)}
        for record in await self._records({"to": digits(suspect.to), **times}):
            message_id = values.text(record.get("message_id"))
            if message_id and values.text(record.get("client_ref")) == suspect.id:
                return base.Finding(suspect.id, "accepted", message_id)
        return None

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[base.Report]:
        """Fetch the records of messages, by their ids."""
        pages = (
            self._records({"id": ",".join(gateway_message_ids[start : start + IDS_A_LOOK_UP])})
            for start in range(0, len(gateway_message_ids), IDS_A_LOOK_UP)
        )
        records = (record for page in await asyncio.gather(*pages) for record in page)
        return [self.polled(record) for record in records if values.text(record.get("message_id"))]

    async def _records(self, what: Mapping[str, str]) -> list[dict[str, Any]]:
        """Ask for records; one page has 1,000, more than any of our questions has answers."""
        query = {"account_id": self._api_key, "product": self.product, "direction": "outbound"}
        page = await self.account.look_up(f"/v2/reports/records?{urlencode({**query, **what})}")
        return values.objects((page or {}).get("records"))

    @abstractmethod
    def polled(self, record: dict[str, Any]) -> base.Report:
        """Make a report of a record."""


def account_url(base_url: str) -> str:
    """Return where the account's APIs answer: Vonage has a host for them, a stand-in has one."""
    host = urlsplit(base_url).hostname or ""
    return API if host.endswith(".nexmo.com") else base_url


def digits(number: str) -> str:
    """Write a number as Vonage wants it: without the +. Names stay as they are."""
    return number.removeprefix("+")


def of_person(number: str) -> str:
    """Read the number of a person: E.164 with +."""
    return f"+{number}" if _OF_A_PERSON.fullmatch(number) else number


def of_ours(number: str) -> str:
    """Read a sender of ours: E.164 with +, or a short code or name as it is."""
    return f"+{number}" if _OF_OURS.fullmatch(number) else number


def instant(value: object) -> datetime | None:
    """Read an ISO 8601 time; None where it names no zone."""
    try:
        read = datetime.fromisoformat(values.text(value) or "")
        # Here, because an overflow (year 1, zone +14) is nobody's to catch later.
        return read.astimezone(UTC) if read.tzinfo else None
    except (ValueError, OverflowError):
        return None


def mapping(value: object) -> dict[str, Any]:
    """Return a JSON object, and an empty one where it is none."""
    return value if isinstance(value, dict) else {}


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
