"""The GET side of Plivo: one message, lists in pages, the account; and its errors.

Sources: plivo.com/docs/messaging/api/message (the message object, listing, pagination) and
plivo.com/docs/account/api/account. A message object has no text. Plivo answers 20 lists a minute;
the sandbox does not count.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from operator import ge, gt, le, lt
from typing import Any
from urllib.parse import urlencode

from adapters.sandbox.dialect import Reply, Request
from adapters.sandbox.faults import Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import count_segments

RATE = 0.0055
STATES = {"expired": "failed"}
CODES = {
    Why.INVALID: "50",
    Why.UNKNOWN_NUMBER: "50",
    Why.UNREACHABLE: "80",
    Why.LANDLINE: "70",
    Why.OPTED_OUT: "200",
    Why.CONTENT: "30",
    Why.ACCOUNT: "900",
    Why.OTHER: "1000",
}
"""Codes of what ends a message, in reports and look-ups."""

_ZONE = timezone(timedelta(hours=5, minutes=30))
"""The account's, in which look-ups tell the time."""
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "message_time__gt": gt,
    "message_time__gte": ge,
    "message_time__lt": lt,
    "message_time__lte": le,
}
_FILTERS = {"to_number", "from_number", "message_direction", "message_state", "limit", "offset"}
_LARGEST_PAGE = 20


class Lookups:
    """Answers about what the journal holds, at one instant."""

    def __init__(self, journal: Journal, outcomes: Outcomes, auth_id: str, now: float) -> None:
        self._journal = journal
        self._outcomes = outcomes
        self._auth_id = auth_id
        self._root = f"/v1/Account/{auth_id}/"
        self._now = now

    def answer(self, request: Request) -> Reply:
        """Answer a request that is no submission."""
        if request.method != "GET":
            return error(405, "method not allowed")
        place = request.path.removeprefix(self._root)
        if not place:
            return self._account()
        if place == "Message/":
            return self._messages(request.query)
        found = self._journal.find(place.removeprefix("Message/").removesuffix("/"))
        if found is None or not place.startswith("Message/"):
            return error(404, "not found")
        return Reply(200, {"api_id": str(uuid.uuid4()), **self._show(found)})

    def _account(self) -> Reply:
        account = {
            "account_type": "standard",
            "address": "",
            "api_id": str(uuid.uuid4()),
            "auth_id": self._auth_id,
            "auto_recharge": False,
            "billing_mode": "prepaid",
            "cash_credits": "100.00000",
            "city": "",
            "name": "SMS sandbox",
            "resource_uri": self._root,
            "state": "",
            "timezone": "Asia/Kolkata",
        }
        return Reply(200, account)

    def _messages(self, query: Mapping[str, str]) -> Reply:
        """Answer one page of messages, the newest first."""
        for name in query:
            if name not in _FILTERS and name not in _COMPARE:
                return error(400, f"the sandbox knows no list parameter {name!r}")
        try:
            limit, offset = int(query.get("limit", "20")), int(query.get("offset", "0"))
            spans = [(_COMPARE[name], _seconds(query[name])) for name in query if name in _COMPARE]
        except ValueError:
            return error(400, "a time or page of the list cannot be read")
        if not 0 < limit <= _LARGEST_PAGE or offset < 0:
            return error(400, "limit is from 1 to 20, and offset from 0")
        number = bare(query.get("to_number", ""))
        listed = (
            shown
            for message in self._journal.newest_first(f"+{number}" if number else None)
            if all(fits(message.time, instant) for fits, instant in spans)
            and _wanted(shown := self._show(message), query)
        )
        page = list(islice(listed, offset, offset + limit + 1))
        following = None
        if len(page) > limit:
            onward = {**query, "limit": str(limit), "offset": str(offset + limit)}
            following = f"{self._root}Message/?{urlencode(onward)}"
        meta = {"limit": limit, "offset": offset, "next": following, "previous": None}
        return Reply(200, {"api_id": str(uuid.uuid4()), "meta": meta, "objects": page[:limit]})

    def _show(self, message: Message) -> dict[str, Any]:
        fate = self._outcomes.fate(message.to)
        state = fate.status_at(message, self._now)
        final = state == fate.status
        code = CODES[fate.why] if final and fate.why else None
        code = "000" if state == "delivered" else "420" if state == "expired" else code
        units = count_segments(message.body)
        waiting = state == "queued"
        return {
            "error_code": code,
            "error_message": "",
            "from_number": message.sender,
            "message_direction": "outbound",
            "message_sent_time": None if waiting else _zoned(fate.sent_at(message)),
            "message_state": STATES.get(state, state),
            "message_time": _zoned(message.time),
            "message_type": "sms",
            "message_updated_time": _zoned(fate.final_at(message) if final else message.time),
            "message_uuid": message.sid,
            "resource_uri": f"{self._root}Message/{message.sid}/",
            "to_number": bare(message.to),
            "total_amount": f"{0 if waiting else RATE * units:.5f}",
            "total_rate": f"{RATE:.5f}",
            "units": units,
        }


def error(status: int, text: str) -> Reply:
    """Return an error as Plivo words it: a text, and no code."""
    return Reply(status, {"api_id": str(uuid.uuid4()), "error": text})


def bare(party: str) -> str:
    """Return a number or sender as Plivo keeps it: letters and digits."""
    return re.sub("[^0-9A-Za-z]", "", party)


def timestamp(seconds: float) -> str:
    """Return a time as callbacks have it: UTC, without a zone."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S.%f}"


def _wanted(shown: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    return (
        query.get("message_direction", "outbound") == "outbound"
        and query.get("message_state", shown["message_state"]) == shown["message_state"]
        and bare(query.get("from_number", shown["from_number"])) == shown["from_number"]
    )


def _zoned(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, _ZONE).isoformat(sep=" ")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
