"""The GET side of the wire format: one message, lists in pages, the account and its numbers.

Source: Twilio's Messages and IncomingPhoneNumbers references and its page on paging. Not here:
the Message resource itself (twilio_resources.py).
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from adapters.sandbox.dialect import Reply, Request
from adapters.sandbox.faults import Outcomes
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.twilio_resources import API, error, resource, rfc2822, status_at

MAGIC_FROM = {"+15005550001": 21212, "+15005550007": 21606, "+15005550008": 21611}
"""Senders that are refused: https://www.twilio.com/docs/iam/test-credentials"""

_FILTERS = {"To", "From", "DateSent", "DateSent<", "DateSent>", "PageSize", "Page", "PageToken"}
_DAY = 86_400
_OPENED = rfc2822(1_767_225_600)


class Lookups:
    """Answers about what the journal holds, at one instant."""

    def __init__(self, journal: Journal, outcomes: Outcomes, account_sid: str, now: float) -> None:
        self._journal = journal
        self._outcomes = outcomes
        self._account_sid = account_sid
        self._root = f"{API}/{account_sid}"
        self._now = now

    def answer(self, request: Request) -> Reply:
        """Answer a request that is no submission."""
        if request.method != "GET":
            return error(20004)
        place = request.path.removeprefix(self._root)
        if place == ".json":
            return self.account()
        if place == "/Messages.json":
            return self.messages(request.query)
        if place == "/IncomingPhoneNumbers.json":
            return self.numbers(request.query)
        if place.startswith("/Messages/") and place.endswith(".json"):
            return self.message(place.removeprefix("/Messages/").removesuffix(".json"))
        return error(20404)

    def message(self, sid: str) -> Reply:
        """Answer for one message by its id."""
        found = self._journal.find(sid)
        return error(20404) if found is None else Reply(200, self._show(found))

    def messages(self, query: Mapping[str, str]) -> Reply:
        """Answer one page of messages, the newest first.

        A date filter passes over messages that have not been sent: they have no `date_sent` yet.
        """
        for name in query:
            if name not in _FILTERS:
                return error(20001, f"The sandbox knows no list parameter {name!r}")
        try:
            earliest, latest = _span(query)
            size = min(int(query.get("PageSize", "50")), 1000)
            page = int(query.get("Page", "0"))
        except ValueError:
            return error(20001, "A date or page of the list cannot be read")
        if size < 1 or page < 0:
            return error(20001, "Page starts at 0 and PageSize at 1")
        after = self._journal.find(query.get("PageToken", "").removeprefix("PA"))
        found: Iterator[Message] = (
            message
            for message in self._journal.newest_first(query.get("To"), after)
            if query.get("From", message.sender) == message.sender
            and (earliest is None or self._sent_within(message, earliest, latest))
        )
        if after is None:
            found = islice(found, page * size, None)
        shown, more = _page(found, size)
        kept = {k: v for k, v in query.items() if not k.startswith("Page")}
        token = f"PA{shown[-1].sid}" if more else None
        frame = _frame(
            f"{self._root}/Messages.json",
            "messages",
            [self._show(message) for message in shown],
            kept,
            size=size,
            page=page,
            token=token,
        )
        return Reply(200, frame)

    def account(self) -> Reply:
        """Answer for the account."""
        account = {
            "sid": self._account_sid,
            "friendly_name": "SMS sandbox",
            "status": "active",
            "type": "Full",
            "owner_account_sid": self._account_sid,
            "date_created": _OPENED,
            "date_updated": _OPENED,
            "uri": f"{self._root}.json",
            "subresource_uris": {"messages": f"{self._root}/Messages.json"},
        }
        return Reply(200, account)

    def numbers(self, query: Mapping[str, str]) -> Reply:
        """Answer that the number asked for is owned, except those that Twilio's tests disown."""
        number = query.get("PhoneNumber", "")
        owned = [self._number(number)] if number and number not in MAGIC_FROM else []
        frame = _frame(
            f"{self._root}/IncomingPhoneNumbers.json",
            "incoming_phone_numbers",
            owned,
            {"PhoneNumber": number} if number else {},
            size=50,
            page=0,
            token=None,
        )
        return Reply(200, frame)

    def _show(self, message: Message) -> dict[str, Any]:
        fate = self._outcomes.fate(message.to)
        return resource(message, fate, self._account_sid, self._now)

    def _number(self, number: str) -> dict[str, Any]:
        sid = f"PN{hashlib.sha256(number.encode()).hexdigest()[:32]}"
        return {
            "sid": sid,
            "account_sid": self._account_sid,
            "phone_number": number,
            "friendly_name": number,
            "capabilities": {"voice": False, "sms": True, "mms": False, "fax": False},
            "status": "in-use",
            "date_created": _OPENED,
            "date_updated": _OPENED,
            "uri": f"{self._root}/IncomingPhoneNumbers/{sid}.json",
        }

    def _sent_within(self, message: Message, earliest: int, latest: int) -> bool:
        fate = self._outcomes.fate(message.to)
        if status_at(message, fate, self._now) in ("queued", "accepted"):
            return False
        return earliest <= int(fate.sent_at(message)) <= latest


def _span(query: Mapping[str, str]) -> tuple[int | None, int]:
    """Return the first and last second that `DateSent…` allows; None: no such filter.

    `DateSent>=2026-11-24` is a parameter named `DateSent>`, and both inequalities include.
    """
    earliest, latest, given = 0, 2**53, False
    for name in ("DateSent", "DateSent>", "DateSent<"):
        if name in query:
            given = True
            start, end = _instant(query[name])
            if name != "DateSent<":
                earliest = max(earliest, start)
            if name != "DateSent>":
                latest = min(latest, end)
    return (earliest if given else None), latest


def _instant(text: str) -> tuple[int, int]:
    """Return the first and last second of a day or of an instant, both in GMT."""
    if len(text) == 10:
        start = int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
        return start, start + _DAY - 1
    start = int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    return start, start


def _page(found: Iterator[Message], size: int) -> tuple[list[Message], bool]:
    shown = list(islice(found, size))
    return shown, next(found, None) is not None


def _frame(
    path: str,
    name: str,
    items: list[dict[str, Any]],
    filters: Mapping[str, str],
    *,
    size: int,
    page: int,
    token: str | None,
) -> dict[str, Any]:
    def uri(number: int, **more: str) -> str:
        return f"{path}?{urlencode({**filters, 'PageSize': size, 'Page': number, **more})}"

    return {
        name: items,
        "page": page,
        "page_size": size,
        "start": page * size,
        "end": page * size + max(len(items) - 1, 0),
        "uri": uri(page),
        "first_page_uri": uri(0),
        "previous_page_uri": uri(page - 1) if page else None,
        "next_page_uri": uri(page + 1, PageToken=token) if token else None,
    }
