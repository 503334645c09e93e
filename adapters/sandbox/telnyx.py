"""Telnyx' wire format, seen from Telnyx' side: submissions, events, look-ups and signatures.

Stricter than Telnyx on purpose: a parameter that the sandbox does not know, or that asks for what
it does not do (media, `send_at`), is refused. A request with an `Idempotency-Key` that was taken
before gets the answer of then, even where the answer of then never came, and without a look at
whether the rest is the same.

Sources: developers.telnyx.com/docs/messaging/messages, its pages on sending, encoding, error codes
and receiving webhooks; …/development/api-fundamentals, on errors and idempotency.
"""

import base64
import hashlib
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import count_segments

SENDER = "+15005550006"
RATE = 0.004

_SUBMISSIONS = "/v2/messages"
_TAKEN = {"to", "from", "text", "type", "encoding", "webhook_url", "messaging_profile_id"}
_IGNORED = {"use_profile_webhooks", "webhook_failover_url", "auto_detect"}
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_SENDER = re.compile(r"\+[1-9]\d{6,14}|\d{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_KEY = re.compile("[A-Za-z0-9_:-]{1,255}")

_TITLES = {
    "10003": "Invalid URL",
    "10004": "Missing required parameter",
    "10005": "Resource not found",
    "10007": "Unexpected error",
    "10009": "Authentication failed",
    "10010": "Authorization failed",
    "10011": "Too many requests",
    "10015": "Bad Request",
    "20012": "Account inactive",
    "40001": "Not routable",
    "40004": "Rejected by destination",
    "40005": "Message expired during transmission",
    "40006": "Recipient server unavailable",
    "40012": "Invalid messaging destination number",
    "40300": "Blocked due to STOP message",
    "40302": "Message too large",
    "40305": "Invalid 'from' address",
    "40309": "Invalid destination region",
    "40310": "Invalid 'to' address",
    "40316": "No content provided for message",
    "40322": "Blocked due to content",
}
_REFUSALS = {
    Why.INVALID: "40310",
    Why.UNKNOWN_NUMBER: "40310",
    Why.UNREACHABLE: "40310",
    Why.LANDLINE: "40001",
    Why.OPTED_OUT: "40300",
    Why.CONTENT: "40322",
    Why.OTHER: "40309",
}
_FAILURES = {Why.THROTTLED: (429, "10011"), Why.ACCOUNT: (403, "20012")}
_ERRORS = {401: "10009", 403: "10010", 404: "10005", 429: "10011"}
_ENDS = {
    Why.INVALID: "40012",
    Why.UNKNOWN_NUMBER: "40012",
    Why.UNREACHABLE: "40006",
    Why.LANDLINE: "40001",
    Why.OPTED_OUT: "40300",
    Why.CONTENT: "40322",
    Why.OTHER: "40004",
}
"""Codes of what ends a message, in events and look-ups."""
_STATUSES = {
    "undelivered": "delivery_failed",
    "failed": "sending_failed",
    "rejected": "sending_failed",
}


class Telnyx:
    """Telnyx as a dialect, for one account."""

    kind: ClassVar[str] = "telnyx"
    parts: ClassVar[bool] = False

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._signer = Ed25519PrivateKey.from_private_bytes(
            hashlib.sha256(secret.encode()).digest()
        )

    def settings(self, base_url: str) -> dict[str, str]:
        public = self._signer.public_key().public_bytes_raw()
        return {
            "base_url": base_url,
            "api_key": self._secret,
            "public_key": base64.b64encode(public).decode(),
            "sender": SENDER,
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        if request.path == _SUBMISSIONS and request.method == "POST":
            return "submission"
        known = request.path == "/v2/balance" or request.path.startswith(_SUBMISSIONS)
        return "look_up" if known else None

    def login(self, request: Request) -> Reply | None:
        known = request.headers.get("authorization") == f"Bearer {self._secret}"
        return None if known else _error(401, "10009")

    def read(self, request: Request) -> list[Submission] | Reply:
        try:
            asked = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return _error(400, "10015", "the body is no JSON")
        key = request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            return _error(400, "10015", "the Idempotency-Key is malformed")
        if not isinstance(asked, dict):
            return _error(400, "10015", "the body is no JSON object")
        if problem := _problem(asked):
            return _error(400, *problem)
        url = asked.get("webhook_url") or ""
        # One key makes one id, so that the server finds what was taken under it before.
        sid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"telnyx:{key}")) if key else ""
        sender = asked.get("from") or SENDER
        return [Submission(asked["to"], sender, asked["text"], url, reference=url, id=sid)]

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        (entry,) = entries
        if isinstance(entry, Message):
            return Reply(200, {"data": _payload(entry, "queued", None)})
        if entry.why is not Why.DUPLICATE:
            return _error(400, _REFUSALS[entry.why])
        again = entry.submission
        first = Message(again.id, again.to, again.sender, again.body, "", time.time(), self.kind)
        return Reply(200, {"data": _payload(first, "queued", None)})

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is not None:
            return _error(*_FAILURES[why])
        return _error(status, _ERRORS.get(status, "10007"))

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        kind = "message.sent" if status == "sent" else "message.finalized"
        return [self._event(message.callback, kind, _payload(message, status, why))]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        if request.method != "GET":
            return _error(405, "10015", "method not allowed")
        if request.path == "/v2/balance":
            balance = {"record_type": "balance", "balance": "100.00", "currency": "USD"}
            return Reply(200, {"data": balance})
        message = journal.find(request.path.removeprefix(f"{_SUBMISSIONS}/"))
        if message is None:
            return _error(404, "10005")
        fate = outcomes.fate(message.to)
        status = fate.status_at(message, now)
        why = fate.why if status == fate.status else None
        return Reply(200, {"data": _payload(message, status, why)})

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        payload = {
            "record_type": "message",
            "direction": "inbound",
            "id": self.new_id(),
            "type": "SMS",
            "from": {"phone_number": sender, "carrier": "", "line_type": "Wireless"},
            "to": [{"phone_number": to, "status": "webhook_delivered", "carrier": "Telnyx"}],
            "text": body,
            "media": [],
            "encoding": "GSM-7",
            "parts": count_segments(body),
            "received_at": _iso(time.time()),
            "errors": [],
        }
        return self._event(url, "message.received", payload)

    def _event(self, url: str, kind: str, payload: Mapping[str, Any]) -> Post:
        now = time.time()
        event = {
            "record_type": "event",
            "id": self.new_id(),
            "event_type": kind,
            "occurred_at": _iso(now),
            "payload": payload,
        }
        body = orjson.dumps({"data": event, "meta": {"attempt": 1, "delivered_to": url}})
        moment = str(int(now))
        signature = self._signer.sign(moment.encode() + b"|" + body)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "telnyx-webhooks",
            "telnyx-timestamp": moment,
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
        }
        return Post("POST", url, body, headers)


def _problem(asked: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return code and words of what is wrong with a submission, or None."""
    for name, value in asked.items():
        if name not in _TAKEN and name not in _IGNORED:
            return "10015", f"the sandbox does not take the parameter {name!r}"
        if name in _TAKEN and not isinstance(value, str):
            return "10015", f"{name} is no text"
    to, sender, text = (asked.get(name, "") for name in ("to", "from", "text"))
    profile, encodings = asked.get("messaging_profile_id"), ("auto", "gsm7", "ucs2")
    problems = (
        (not to, "10004", "to is missing"),
        (not _E164.fullmatch(to), "40310", ""),
        (not (sender or profile), "10004", "from is missing"),
        (sender and not _SENDER.fullmatch(sender), "40305", ""),
        (
            sender.strip("+0123456789") and not profile,
            "10004",
            "messaging_profile_id is missing",
        ),
        (not text, "40316", ""),
        (count_segments(text) > 10, "40302", "The maximum is 10 parts."),
        (asked.get("type", "SMS") != "SMS", "10015", "the sandbox takes type SMS only"),
        (asked.get("encoding", "auto") not in encodings, "10015", "encoding is unknown"),
        ("webhook_url" in asked and not is_url(asked["webhook_url"]), "10003", ""),
    )
    return next(((code, words) for wrong, code, words in problems if wrong), None)


def _payload(message: Message, status: str, why: Why | None) -> dict[str, Any]:
    """Return a message as answers, events and look-ups show it."""
    parts = count_segments(message.body)
    code = "40005" if status == "expired" else _ENDS[why] if why else None
    final = status not in ("queued", "sent")
    return {
        "record_type": "message",
        "direction": "outbound",
        "id": message.sid,
        "type": "SMS",
        "messaging_profile_id": "4000eba1-a0c0-4563-9925-b25e842a7cb6",
        "from": {"phone_number": message.sender, "carrier": "Telnyx", "line_type": "Wireless"},
        "to": [
            {
                "phone_number": message.to,
                "status": _STATUSES.get(status, status),
                "carrier": "",
                "line_type": "Wireless",
            }
        ],
        "cc": [],
        "text": message.body,
        "media": [],
        "webhook_url": message.callback,
        "encoding": "GSM-7",
        "parts": parts,
        "tags": [],
        "cost": {"amount": f"{RATE * parts:.4f}", "currency": "USD"} if final else None,
        "received_at": _iso(message.time),
        "sent_at": None if status == "queued" else _iso(message.time),
        "completed_at": _iso(time.time()) if final else None,
        "valid_until": None,
        "errors": [_described(code)] if code else [],
    }


def _described(code: str, detail: str = "") -> dict[str, str]:
    title = _TITLES[code]
    return {"code": code, "title": title, "detail": detail or f"{title}."}


def _error(status: int, code: str, detail: str = "") -> Reply:
    return Reply(status, {"errors": [_described(code, detail)]})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
