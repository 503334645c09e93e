"""Sinch's wire format (XMS 1), seen from Sinch's side: batches, reports of recipients, signatures.

A batch is taken whole or not at all, so that a number which the sandbox refuses refuses its batch.
Only a rule that refuses a part of a request cannot be told to its sender: Sinch has no words for
that, and the rest of the batch is sent.

Sources: developers.sinch.com/docs/sms/api-reference (Batches, Delivery reports, Webhooks, status
codes) and the signature code of the official SDKs. Not here: what a request may ask for
(sinch_requests.py).
"""

import base64
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import orjson

from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.sinch_requests import (
    constraint,
    digits,
    error,
    first_problem,
    malformed,
    refusal,
    text_to,
)

PLAN = "sandbox-plan"
SENDER = "+15005550006"

REPORTS: Mapping[tuple[str, Why | None], tuple[str, int]] = {
    ("queued", None): ("Queued", 400),
    ("sent", None): ("Dispatched", 401),
    ("delivered", None): ("Delivered", 0),
    ("undelivered", Why.UNREACHABLE): ("Failed", 153),
    ("undelivered", Why.UNKNOWN_NUMBER): ("Failed", 150),
    ("undelivered", Why.LANDLINE): ("Failed", 152),
    ("undelivered", Why.OPTED_OUT): ("Deleted", 61),
    ("undelivered", Why.CONTENT): ("Failed", 62),
    ("failed", Why.ACCOUNT): ("Aborted", 413),
}
"""Status and code of what became of a message."""
_OTHER_REPORTS = {
    "undelivered": ("Failed", 110),
    "failed": ("Aborted", 403),
    "expired": ("Expired", 34),
    "rejected": ("Rejected", 402),
}


class Sinch:
    """Sinch as a dialect, for one service plan."""

    kind: ClassVar[str] = "sinch"
    parts: ClassVar[bool] = False

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._batches = f"/xms/v1/{PLAN}/batches"

    def settings(self, base_url: str) -> dict[str, str]:
        return {
            "base_url": base_url,
            "service_plan_id": PLAN,
            "api_token": self._secret,
            "callback_secret": self._secret,
            "sender": SENDER,
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        if request.path == self._batches and request.method == "POST":
            return "submission"
        return "look_up" if request.path.startswith("/xms/v1/") else None

    def login(self, request: Request) -> Reply | None:
        known = request.headers.get("authorization") == f"Bearer {self._secret}"
        ours = request.path.startswith(f"/xms/v1/{PLAN}/")
        return None if known and ours else Reply(401)

    def read(self, request: Request) -> list[Submission] | Reply:
        try:
            asked = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            asked = None
        if not isinstance(asked, dict):
            return error("syntax_invalid_json", "The request is no JSON object")
        if (wrong := first_problem(asked)) is not None:
            return wrong
        sent = asked.get("delivery_report", "none") != "none"
        batch = self.new_id()
        submissions = [
            Submission(
                to=f"+{digits(to)}",
                sender=asked.get("from", ""),
                body=text_to(asked, to),
                callback=asked.get("callback_url", "") if sent else "",
                reference=asked.get("client_reference", ""),
                batch=batch,
                extra={"report": asked.get("delivery_report", "none")},
            )
            for to in asked["to"]
        ]
        for place, submission in enumerate(submissions):
            if (why := Outcomes().refusal(submission.to)) is not None:
                return refusal(why, place, submission.to)
        return submissions

    def new_id(self) -> str:
        # As a ULID: 26 characters that begin with the time.
        return "01" + secrets.token_hex(12).upper()

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        taken = [entry for entry in entries if isinstance(entry, Message)]
        if not taken:
            (first, *_) = entries
            assert isinstance(first, Refused)  # noqa: S101 - for the type: none was taken
            return refusal(first.why, 0, first.submission.to)
        asked = orjson.loads(request.body)
        return Reply(201, {**asked, **_facts(taken[0]), "to": [digits(to) for to in asked["to"]]})

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is Why.THROTTLED:
            return Reply(429)
        if why is not None:
            return Reply(401)
        return Reply(status)

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        if message.extra.get("report") == "per_recipient_final" and status == "sent":
            return []
        return [self._post(message.callback, _recipient_report(message, status, why, time.time()))]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        if request.method != "GET":
            return Reply(405)
        match request.path.removeprefix(self._batches).split("/")[1:]:
            case []:
                return _listed(request, journal, now)
            case [batch]:
                return _found(_batch(journal.of_batch(batch)))
            case [batch, "delivery_report"]:
                full = request.query.get("type", "summary") == "full"
                return _found(_batch_report(journal.of_batch(batch), outcomes, now, full=full))
            case [batch, "delivery_report", number]:
                for message in journal.of_batch(batch):
                    if digits(message.to) == digits(number):
                        at = _status_at(message, outcomes, now)
                        return Reply(200, _recipient_report(message, *at, now))
        return Reply(404)

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        return self._post(
            url,
            {
                "type": "mo_text",
                "id": self.new_id(),
                "from": digits(sender),
                "to": digits(to),
                "body": body,
                "received_at": _iso(time.time()),
            },
        )

    def _post(self, url: str, content: Mapping[str, Any]) -> Post:
        body, nonce, at = orjson.dumps(content), self.new_id(), str(int(time.time()))
        signed = hmac.digest(self._secret.encode(), body + f".{nonce}.{at}".encode(), "sha256")
        headers = {
            "Content-Type": "application/json",
            "X-Sinch-Webhook-Signature": base64.b64encode(signed).decode(),
            "X-Sinch-Webhook-Signature-Nonce": nonce,
            "X-Sinch-Webhook-Signature-Timestamp": at,
            "X-Sinch-Webhook-Signature-Algorithm": "HmacSHA256",
        }
        return Post("POST", url, body, headers)


def _facts(message: Message) -> dict[str, Any]:
    """What Sinch adds to a batch."""
    at = _iso(message.time)
    return {
        "id": message.batch,
        "type": "mt_text",
        "canceled": False,
        "created_at": at,
        "modified_at": at,
    }


def _found(shown: dict[str, Any]) -> Reply:
    return Reply(200, shown) if shown else Reply(404)


def _status_at(message: Message, outcomes: Outcomes, now: float) -> tuple[str, Why | None]:
    fate = outcomes.fate(message.to)
    status = fate.status_at(message, now)
    return status, fate.why if status == fate.status else None


def _batch(messages: Sequence[Message]) -> dict[str, Any]:
    """A batch as a look-up shows it; empty where there is none."""
    if not messages:
        return {}
    first = messages[0]
    texts = {digits(message.to): message.body for message in messages}
    alike = len(set(texts.values())) == 1
    shown = {
        **_facts(first),
        "to": list(texts),
        "from": first.sender,
        "body": first.body if alike else "${text}",
        "delivery_report": first.extra.get("report", "none"),
        "client_reference": first.reference,
        "callback_url": first.callback,
        "parameters": None if alike else {"text": texts},
    }
    return {name: value for name, value in shown.items() if value not in (None, "")}


def _listed(request: Request, journal: Journal, now: float) -> Reply:
    """A page of batches, the newest first; those of the last 24 hours, unless asked otherwise."""
    query = request.query
    for name in query:
        if name not in {"page", "page_size", "start_date", "client_reference"}:
            return constraint(f"The sandbox knows no list parameter '{name}'")
    try:
        page, size = int(query.get("page", "0")), int(query.get("page_size", "30"))
        since = now - 86_400
        if "start_date" in query:
            since = datetime.fromisoformat(query["start_date"]).timestamp()
    except ValueError:
        return malformed("page, page_size or start_date", "")
    if page < 0 or not 1 <= size <= 100:
        return constraint("'page' starts at 0, and 'page_size' is 1 to 100")
    reference = query.get("client_reference")
    messages = (
        journal.newest_first() if reference is None else journal.of_reference(reference)[::-1]
    )
    ids = dict.fromkeys(message.batch for message in messages if message.time >= since)
    shown = [_batch(journal.of_batch(each)) for each in list(ids)[page * size : (page + 1) * size]]
    listed = {"count": len(ids), "page": page, "page_size": len(shown), "batches": shown}
    return Reply(200, listed)


def _recipient_report(message: Message, status: str, why: Why | None, at: float) -> dict[str, Any]:
    shown, code = REPORTS.get((status, why)) or _OTHER_REPORTS[status]
    report = {
        "type": "recipient_delivery_report_sms",
        "batch_id": message.batch,
        "recipient": digits(message.to),
        "code": code,
        "status": shown,
        "at": _iso(at),
    }
    return report | ({"client_reference": message.reference} if message.reference else {})


def _batch_report(
    messages: Sequence[Message], outcomes: Outcomes, now: float, *, full: bool
) -> dict[str, Any]:
    if not messages:
        return {}
    together: dict[tuple[str, int], list[str]] = {}
    for message in messages:
        status, why = _status_at(message, outcomes, now)
        shown = REPORTS.get((status, why)) or _OTHER_REPORTS[status]
        together.setdefault(shown, []).append(digits(message.to))
    statuses = [
        {"code": code, "status": shown, "count": len(numbers)}
        | ({"recipients": numbers} if full else {})
        for (shown, code), numbers in together.items()
    ]
    first = messages[0]
    return {
        "type": "delivery_report_sms",
        "batch_id": first.batch,
        "client_reference": first.reference,
        "total_message_count": len(messages),
        "statuses": statuses,
    }


def _iso(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
