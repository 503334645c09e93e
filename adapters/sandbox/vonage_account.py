"""What Vonage's two wire formats share, seen from Vonage's side: the account and its records.

Sources: the Account and Reports API references (developer.vonage.com/en/api/account, …/reports).
Not here: sending, and callbacks.
"""

import base64
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from adapters.sandbox.dialect import Reply, Request
from adapters.sandbox.faults import Fate, Outcomes
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import count_segments

API_KEY = "abcd1234"
SENDER = "15005550006"
PRICE = "0.03330000"
CURRENCY = "EUR"
RECORDS = "/v2/reports/records"

_MOST_IDS = 20
_LONGEST = timedelta(hours=24)
_WITH_ID = {"product", "account_id", "direction", "id", "include_message", "show_concatenated"}
_WITH_DATES = {
    *("product", "account_id", "direction", "date_start", "date_end", "status", "from", "to"),
    *("country", "network", "include_message", "show_concatenated", "cursor", "iv"),
}
_NUMBER = re.compile(r"\d{7,15}")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")


def signature_secret(secret: str) -> str:
    """Return the secret that callbacks are signed with; it is another one than the API secret."""
    return f"{secret}-signs-callbacks-of-vonage"


def logged_in(request: Request, secret: str) -> bool:
    """Whether a request has the account's Basic login."""
    login = base64.b64encode(f"{API_KEY}:{secret}".encode()).decode()
    return request.headers.get("authorization") == f"Basic {login}"


def problem(status: int, kind: str, title: str, detail: str = "") -> Reply:
    """Return an error as RFC 7807 has it; `kind` is what follows the errors' address."""
    content = {
        "type": f"https://developer.vonage.com/api-errors{kind}",
        "title": title,
        "detail": detail or title,
        "instance": uuid.uuid4().hex,
    }
    return Reply(status, content, {"Content-Type": "application/problem+json"})


def unauthorized() -> Reply:
    """Return the answer to wrong credentials."""
    return problem(401, "#unauthorized", "Unauthorized", "You did not provide correct credentials.")


def number(text: object) -> str | None:
    """Return E.164 of a number as Vonage wants it, without +; None for what is none."""
    return f"+{text}" if isinstance(text, str) and _NUMBER.fullmatch(text) else None


def digits(text: str) -> str:
    """Write a number as Vonage does."""
    return text.removeprefix("+")


def is_sender(text: str) -> bool:
    """Whether this can be sent from: a number, a short code, or up to 11 letters and digits."""
    return bool(re.fullmatch(r"\d{3,15}|(?=.*[A-Za-z])[A-Za-z0-9 &_-]{1,11}", text))


def is_gsm7(text: str) -> bool:
    """Whether a text can be sent without Unicode.

    The alphabet of GSM-7 fits into one segment, and 71 characters of any other do not.
    """
    return count_segments("".join(set(text)).ljust(71, "a")) == 1


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one product, as the synchronous queries of the Reports API show them."""

    product: str
    journal: Journal
    outcomes: Outcomes
    now: float
    record: Callable[[Message, Fate, float], Iterator[dict[str, Any]]]
    """Makes the records of one message: of each part, where parts have their own."""

    def answer(self, request: Request) -> Reply:
        """Answer a query by ids, or by dates and other fields."""
        query = request.query
        if query.get("account_id") != API_KEY:
            return problem(403, "#forbidden", "Forbidden", "User not authorized to query the data")
        allowed = _WITH_ID if "id" in query else _WITH_DATES
        if query.get("direction") != "outbound" or not {*query} <= allowed:
            return _unprocessable("a parameter is missing, or is not supported with the others")
        return self._by_ids(query) if "id" in query else self._by_dates(query)

    def _by_ids(self, query: Mapping[str, str]) -> Reply:
        ids = query["id"].split(",")
        if len(ids) > _MOST_IDS:
            return _unprocessable(f"id takes {_MOST_IDS} ids")
        # Ids of parts differ from their message's in the last two digits.
        messages = (self.journal.find(id_) or self.journal.find(f"{id_[:-2]}00") for id_ in ids)
        entries = (entry for message in messages if message for entry in self._of(message))
        found = {entry["message_id"]: entry for entry in entries if entry["message_id"] in ids}
        missing = ",".join(id_ for id_ in ids if id_ not in found)
        return self._found([*found.values()], {"ids_not_found": missing} if missing else {})

    def _by_dates(self, query: Mapping[str, str]) -> Reply:
        window = _window(query)
        if window is None:
            return _unprocessable("date_start and date_end must be at most 24 hours apart")
        start, end = window
        newest = self.journal.newest_first(f"+{query['to']}" if "to" in query else None)
        messages = takewhile(lambda message: message.time >= start, newest)
        entries = [entry for m in messages if m.time < end for entry in self._of(m)]
        wanted = {name: query[name] for name in ("status", "from") if name in query}
        return self._found([entry for entry in entries if entry | wanted == entry], {})

    def _of(self, message: Message) -> Iterator[dict[str, Any]]:
        return self.record(message, self.outcomes.fate(message.to), self.now)

    def _found(self, found: list[dict[str, Any]], more: Mapping[str, str]) -> Reply:
        content = {
            "request_id": str(uuid.uuid4()),
            "request_status": "SUCCESS",
            "account_id": API_KEY,
            "product": self.product,
            "direction": "outbound",
            "items_count": len(found),
            "records": found,
            **more,
        }
        return Reply(200, content)


def entry(message: Message, id_: str, status: str, code: str, fate: Fate) -> dict[str, Any]:
    """Return the fields that records of both products have."""
    final_at = fate.final_at(message)
    return {
        "account_id": API_KEY,
        "message_id": id_,
        "client_ref": message.reference or None,
        "direction": "outbound",
        "from": digits(message.sender),
        "to": digits(message.to),
        "network": "310090",
        "network_name": "Sandbox",
        "country": "US",
        "country_name": "United States",
        "date_received": _iso(message.time),
        "date_finalized": _iso(final_at),
        "latency": str(round((final_at - message.time) * 1000)),
        "status": status,
        "error_code": code,
        "currency": CURRENCY,
        "total_price": PRICE,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def _window(query: Mapping[str, str]) -> tuple[float, float] | None:
    texts = query.get("date_start", ""), query.get("date_end", "")
    if not all(_DATE.fullmatch(text) for text in texts):
        return None
    start, end = map(datetime.fromisoformat, texts)
    return (start.timestamp(), end.timestamp()) if start <= end <= start + _LONGEST else None


def _unprocessable(detail: str) -> Reply:
    return problem(422, "/reports#invalid-filter", "Invalid filter", detail)
