"""Infobip's wire format (SMS 3), seen from Infobip's side: messages, statuses, reports, logs.

Single messages of a request are rejected inside its HTTP 200. A message id that was taken before is
rejected as a duplicate. Reports of different messages come in callbacks of their own, although
Infobip puts up to a hundred into one; nothing is signed. Reports before the final one come only
where `intermediateReport` asks for them.

Sources: infobip.com/docs/api/channels/sms (send, delivery reports, logs, inbound) and …/docs/
developer-resources/api-fundamentals (status codes, error codes, handling errors). Not here: what a
request may ask for (infobip_requests.py).
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl

import orjson

from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Outcomes, Why
from adapters.sandbox.infobip_requests import bad_request, error, first_problem
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import count_segments

SENDER = "+15005550006"
PRICE = {"pricePerMessage": 0.0081, "currency": "EUR"}

_SUBMISSIONS, _LOGS = "/sms/3/messages", "/sms/3/logs"
_LOGGED_FOR = 48 * 3600

Status = tuple[int, str, int, str]
"""Group and status, each with its number and name."""

_PENDING: Status = (1, "PENDING", 26, "PENDING_ACCEPTED")
_REJECTIONS: Mapping[Why, Status] = {
    Why.INVALID: (5, "REJECTED", 52, "REJECTED_DESTINATION"),
    Why.LANDLINE: (5, "REJECTED", 8, "REJECTED_PREFIX_MISSING"),
    Why.UNREACHABLE: (5, "REJECTED", 6, "REJECTED_NETWORK"),
    Why.UNKNOWN_NUMBER: (5, "REJECTED", 52, "REJECTED_DESTINATION"),
    Why.OPTED_OUT: (5, "REJECTED", 10, "REJECTED_DND"),
    Why.CONTENT: (5, "REJECTED", 13, "REJECTED_SENDER"),
    Why.ACCOUNT: (5, "REJECTED", 12, "REJECTED_NOT_ENOUGH_CREDITS"),
    Why.DUPLICATE: (5, "REJECTED", 23, "REJECTED_DUPLICATE_MESSAGE_ID"),
    Why.OTHER: (5, "REJECTED", 87, "SIGNALS_BLOCKED"),
}
_STATUSES: Mapping[str, Status] = {
    "queued": _PENDING,
    "sent": (1, "PENDING", 7, "PENDING_ENROUTE"),
    "delivered": (3, "DELIVERED", 5, "DELIVERED_TO_HANDSET"),
    "undelivered": (2, "UNDELIVERABLE", 9, "UNDELIVERABLE_NOT_DELIVERED"),
    "failed": (2, "UNDELIVERABLE", 4, "UNDELIVERABLE_REJECTED_OPERATOR"),
    "expired": (4, "EXPIRED", 15, "EXPIRED_EXPIRED"),
    "rejected": (5, "REJECTED", 87, "SIGNALS_BLOCKED"),
}
_ERRORS: Mapping[Why | None, tuple[int, str, int, str, bool]] = {
    None: (0, "OK", 0, "NO_ERROR", False),
    Why.UNREACHABLE: (1, "HANDSET_ERRORS", 27, "EC_ABSENT_SUBSCRIBER", False),
    Why.UNKNOWN_NUMBER: (1, "HANDSET_ERRORS", 1, "EC_UNKNOWN_SUBSCRIBER", True),
    Why.LANDLINE: (1, "HANDSET_ERRORS", 11, "EC_TELESERVICE_NOT_PROVISIONED", True),
    Why.OPTED_OUT: (2, "USER_ERRORS", 603, "EC_CONTENT_BLOCKED", True),
    Why.CONTENT: (2, "USER_ERRORS", 607, "EC_REJECTED_SPAM_BY_OPERATOR", True),
    Why.ACCOUNT: (2, "USER_ERRORS", 4099, "EC_MONTHLY_LIMIT_REACHED", True),
}
_OTHER_ERROR = (1, "HANDSET_ERRORS", 255, "EC_UNKNOWN_ERROR", False)


class Infobip:
    """Infobip as a dialect, for one account."""

    kind: ClassVar[str] = "infobip"
    parts: ClassVar[bool] = False

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def settings(self, base_url: str) -> dict[str, str]:
        return {
            "base_url": base_url,
            "api_key": self._secret,
            "callback_token": self._secret,
            "sender": SENDER,
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        if request.path == _SUBMISSIONS and request.method == "POST":
            return "submission"
        return "look_up" if request.path.startswith("/sms/3/") else None

    def login(self, request: Request) -> Reply | None:
        known = request.headers.get("authorization") == f"App {self._secret}"
        return None if known else error(401)

    def read(self, request: Request) -> list[Submission] | Reply:
        try:
            asked = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            asked = None
        if not isinstance(asked, dict):
            return bad_request("", "Malformed JSON")
        if (wrong := first_problem(asked)) is not None:
            return wrong
        bulk = self.new_id()
        return [
            Submission(
                to=f"+{_digits(to['to'])}",
                sender=message.get("sender", ""),
                body=message["content"]["text"],
                callback=_delivery(message).get("url", ""),
                reference=message.get("webhooks", {}).get("callbackData", ""),
                id=to.get("messageId", ""),
                batch=bulk,
                extra={"each": "1"} if _delivery(message).get("intermediateReport") else {},
            )
            for message, to in _destinations(asked)
        ]

    def new_id(self) -> str:
        return str(secrets.randbelow(10**19)).zfill(19)

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        options = orjson.loads(request.body).get("options", {})
        counts = bool(options.get("includeSmsCountInResponse"))
        messages = []
        for entry in entries:
            if isinstance(entry, Refused):
                submission, status = entry.submission, _REJECTIONS[entry.why]
                to, message_id, body = submission.to, submission.id or self.new_id(), ""
                bulk = submission.batch
            else:
                to, message_id, body, status = entry.to, entry.sid, entry.body, _PENDING
                bulk = entry.batch
            shown = {"messageId": message_id, "status": _status(status), "destination": _digits(to)}
            details = {"details": {"messageCount": count_segments(body)}} if counts and body else {}
            messages.append(shown | details)
        return Reply(200, {"bulkId": bulk, "messages": messages})

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is Why.THROTTLED:
            return error(429)
        return error(403 if why is Why.ACCOUNT else status)

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        if status == "sent" and not message.extra:
            return []
        at = datetime.now(UTC).timestamp()
        report = {**_outcome(message, status, why, at), "to": _digits(message.to)}
        if message.reference:
            report["callbackData"] = message.reference
        return [_post(message.callback, {"results": [report]})]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        if request.method != "GET":
            return error(405)
        if request.path != _LOGS:
            # Reports that are handed out only once: the sandbox calls back instead.
            return error(404)
        query = dict(parse_qsl(request.query_string, keep_blank_values=True))
        if unknown := set(query) - {"messageId", "bulkId", "limit"}:
            return bad_request(min(unknown), "The sandbox knows no such parameter")
        limit = query.get("limit", "50")
        if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
            return bad_request("limit", "must be between 1 and 1000")
        found = (
            message
            for message in _wanted(parse_qsl(request.query_string), journal)
            if message.time > now - _LOGGED_FOR
        )
        logs = [_log(message, outcomes, now) for message in islice(found, int(limit))]
        return Reply(200, {"results": logs})

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        message = {
            "messageId": self.new_id(),
            "from": _digits(sender),
            "to": _digits(to),
            "text": body,
            "cleanText": body,
            "keyword": "",
            "receivedAt": _iso(datetime.now(UTC).timestamp()),
            "smsCount": count_segments(body),
            "price": {"pricePerMessage": 0, "currency": "EUR"},
        }
        return _post(url, {"results": [message], "messageCount": 1, "pendingMessageCount": 0})


def _destinations(asked: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every destination, with the message that goes there."""
    for message in asked["messages"]:
        for destination in message["destinations"]:
            yield message, destination


def _delivery(message: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = message.get("webhooks", {}).get("delivery", {})
    return found


def _wanted(query: Sequence[tuple[str, str]], journal: Journal) -> Iterator[Message]:
    """What the logs are asked for: by ids (repeated, or with commas), by request, or the newest."""
    ids = [each for name, value in query if name == "messageId" for each in value.split(",")]
    bulks = [each for name, value in query if name == "bulkId" for each in value.split(",")]
    if ids:
        found = (journal.find(each) for each in ids)
        return (message for message in found if message is not None)
    if bulks:
        return (message for each in bulks for message in journal.of_batch(each))
    return journal.newest_first()


def _log(message: Message, outcomes: Outcomes, now: float) -> dict[str, Any]:
    fate = outcomes.fate(message.to)
    status = fate.status_at(message, now)
    why = fate.why if status == fate.status else None
    done = min(now, fate.final_at(message))
    log = {**_outcome(message, status, why, done), "destination": _digits(message.to)}
    return log | {"content": {"text": message.body}}


def _outcome(message: Message, status: str, why: Why | None, done: float) -> dict[str, Any]:
    """What reports and logs say alike."""
    group, group_name, number, name, permanent = _ERRORS.get(why, _OTHER_ERROR)
    return {
        "bulkId": message.batch,
        "messageId": message.sid,
        "sender": message.sender,
        "sentAt": _iso(message.time),
        "doneAt": _iso(done),
        "messageCount": count_segments(message.body),
        "mccMnc": "310012",
        "price": PRICE,
        "status": _status(_STATUSES[status]),
        "error": {
            "groupId": group,
            "groupName": group_name,
            "id": number,
            "name": name,
            "description": name.removeprefix("EC_").replace("_", " ").capitalize(),
            "permanent": permanent,
        },
    }


def _status(status: Status) -> dict[str, Any]:
    group, group_name, number, name = status
    return {
        "groupId": group,
        "groupName": group_name,
        "id": number,
        "name": name,
        "description": name.replace("_", " ").capitalize(),
    }


def _post(url: str, content: Mapping[str, Any]) -> Post:
    return Post("POST", url, orjson.dumps(content), {"Content-Type": "application/json"})


def _digits(number: str) -> str:
    return number.removeprefix("+")


def _iso(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "+0000")
