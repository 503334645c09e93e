"""Vonage's SMS API (rest.nexmo.com/sms/json), seen from Vonage's side.

Stricter than Vonage on purpose: a parameter that it does not know, and a text that its `type`
cannot carry, are refused with status 3. Submissions that Vonage's opt-out list would take, and
report as failed, are refused with status 7 where the sandbox is to refuse them at once.

Sources: the SMS API reference (developer.vonage.com/en/api/sms), its guides to delivery receipts
and error codes, and "Signing Messages". Callbacks are forms, signed by HMAC with SHA-256. Not here:
the account and its records (vonage_account.py).
"""

import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlencode

from adapters.sandbox import vonage_account as account
from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Fate, Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import count_segments

_SUBMIT, _BALANCE = "/sms/json", "/account/get-balance"
_TEXTS = {
    "1": "Throughput Rate Exceeded - please wait [ 1000 ] and retry",
    "2": "Missing {}",
    "3": "Invalid value for param: {}",
    "4": "Bad Credentials",
    "6": "Unroutable message - rejected",
    "7": "Number barred",
    "9": "Quota Exceeded - rejected",
    "15": "Illegal Sender Address - rejected",
    "23": "Invalid Callback Url",
    "29": "Non White-listed Destination - rejected",
    "33": "Number De-activated",
}
_REFUSALS = {
    Why.INVALID: "6",
    Why.UNREACHABLE: "6",
    Why.LANDLINE: "6",
    Why.UNKNOWN_NUMBER: "33",
    Why.OPTED_OUT: "7",
    Why.CONTENT: "15",
    Why.OTHER: "29",
}
_FAILURES = {Why.THROTTLED: "1", Why.ACCOUNT: "9"}
# Delivery receipts: status, and `err-code`.
_STATUSES = {
    "queued": "accepted",
    "sent": "accepted",
    "delivered": "delivered",
    "undelivered": "failed",
    "failed": "failed",
    "expired": "expired",
    "rejected": "rejected",
}
_CODES = {
    Why.UNREACHABLE: "2",
    Why.UNKNOWN_NUMBER: "3",
    Why.CONTENT: "6",
    Why.OPTED_OUT: "9",
    Why.LANDLINE: "11",
    Why.INVALID: "12",
}
_UNKNOWN, _GENERAL = "1", "99"

_TAKEN = {"from", "to", "text", "type", "ttl", "callback", "client-ref"}
# Taken and without effect here; `status-report-req` is read.
_IGNORED = {
    *("message-class", "account-ref", "entity-id", "content-id", "trusted-number", "pool-id"),
    "status-report-req",
}


class Vonage:
    """Vonage's SMS API as a dialect, for one account."""

    kind: ClassVar[str] = "vonage"
    parts: ClassVar[bool] = True

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._signature_secret = account.signature_secret(secret)

    def settings(self, base_url: str) -> dict[str, str]:
        return {
            "base_url": base_url,
            "api_key": account.API_KEY,
            "api_secret": self._secret,
            "signature_secret": self._signature_secret,
            "signature_method": "sha256",
            "sender": f"+{account.SENDER}",
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        if (request.method, request.path) == ("POST", _SUBMIT):
            return "submission"
        # The other API's records have the same address: the product tells them apart.
        ours = request.path == account.RECORDS and request.query.get("product") == "SMS"
        return "look_up" if request.path == _BALANCE or ours else None

    def login(self, request: Request) -> Reply | None:
        if account.logged_in(request, self._secret):
            return None
        if request.path == _SUBMIT:
            return _refusal("4")
        if request.path == _BALANCE:
            label = {"error-code": "401", "error-code-label": "authentication failed"}
            return Reply(401, label)
        return account.unauthorized()

    def read(self, request: Request) -> list[Submission] | Reply:
        try:
            pairs = parse_qsl(request.body.decode(), keep_blank_values=True, errors="strict")
        except ValueError:
            return _refusal("3", "form")
        form = dict(pairs)
        if wrong := next(_wrong(form), None):
            return _refusal(*wrong)
        wants = form.get("status-report-req", "true").lower() not in {"false", "0"}
        return [
            Submission(
                to=account.number(form["to"]) or "",
                sender=account.number(form["from"]) or form["from"],
                body=form["text"],
                callback=form.get("callback", "") if wants else "",
                reference=form.get("client-ref", ""),
            )
        ]

    def new_id(self) -> str:
        # The last two digits count the parts of a long message.
        return f"{str(uuid.uuid4())[:-2]}00"

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        (entry,) = entries
        if isinstance(entry, Refused):
            return _refusal(_REFUSALS[entry.why])
        parts = [
            {
                "to": account.digits(entry.to),
                "message-id": id_,
                "status": "0",
                "remaining-balance": "3.14159265",
                "message-price": account.PRICE,
                "network": "310090",
                **({"client-ref": entry.reference} if entry.reference else {}),
            }
            for id_ in _part_ids(entry)
        ]
        return Reply(200, {"message-count": str(len(parts)), "messages": parts})

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is not None:
            return _refusal(_FAILURES[why])
        if status == 429:
            return account.problem(429, "#throttled", "Rate Limit Hit")
        return Reply(status, f"<html>{status}</html>", {"Content-Type": "text/html"})

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        now = time.time()
        form = {
            "msisdn": account.digits(message.to),
            "to": account.digits(message.sender),
            "network-code": "310090",
            "messageId": _part_ids(message)[part],
            "price": account.PRICE,
            "status": _STATUSES[status],
            "scts": datetime.fromtimestamp(now, UTC).strftime("%y%m%d%H%M"),
            "err-code": _error_code(status, why),
            "api-key": account.API_KEY,
            "message-timestamp": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        }
        if message.reference:
            form["client-ref"] = message.reference
        return [self._post(message.callback, form, now)]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        if request.method != "GET":
            return account.problem(405, "#wrong-verb", "Method Not Allowed")
        if request.path == _BALANCE:
            return Reply(200, {"value": 3.14159265, "autoReload": False})
        return account.Records("SMS", journal, outcomes, now, _records).answer(request)

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        now = time.time()
        form = {
            "msisdn": account.digits(sender),
            "to": account.digits(to),
            "messageId": self.new_id(),
            "text": body,
            "type": "text" if account.is_gsm7(body) else "unicode",
            "keyword": (body.split() or [""])[0].upper(),
            "api-key": account.API_KEY,
            "message-timestamp": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        }
        return self._post(url, form, now)

    def _post(self, url: str, form: dict[str, str], now: float) -> Post:
        form |= {"timestamp": str(int(now)), "nonce": str(uuid.uuid4())}
        form["sig"] = signature(self._signature_secret, form)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "Vonage"}
        return Post("POST", url, urlencode(form).encode(), headers)


def signature(secret: str, form: Mapping[str, str]) -> str:
    """Return `sig`: an HMAC over the sorted parameters, with & and = in values written as _."""
    signed = ""
    for name, value in sorted(form.items()):
        signed += f"&{name}=" + value.replace("&", "_").replace("=", "_")
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest().upper()


def _wrong(form: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield status and parameter of what is wrong with a submission; only the first counts."""
    for name in ("from", "to", "text"):
        if not form.get(name):
            yield "2", name
    if odd := {*form} - _TAKEN - _IGNORED:
        yield "3", min(odd)
    if account.number(form["to"]) is None:
        yield "3", "to"
    if not account.is_sender(form["from"]):
        yield "15", "from"
    kind, ttl = form.get("type", "text"), form.get("ttl", "20000")
    if kind not in {"text", "unicode"} or (kind == "text" and not account.is_gsm7(form["text"])):
        yield "3", "type"
    if not (re.fullmatch("[0-9]{5,9}", ttl) and 20_000 <= int(ttl) <= 604_800_000):
        yield "3", "ttl"
    if len(form.get("client-ref", "")) > 100:
        yield "3", "client-ref"
    callback = form.get("callback")
    if callback is not None and (len(callback) > 100 or not is_url(callback)):
        yield "23", "callback"


def _refusal(status: str, what: str = "") -> Reply:
    part = {"status": status, "error-text": _TEXTS[status].format(what)}
    return Reply(200, {"message-count": "1", "messages": [part]})


def _part_ids(message: Message) -> list[str]:
    return [f"{message.sid[:-2]}{part:02x}" for part in range(count_segments(message.body))]


def _error_code(status: str, why: Why | None) -> str:
    if status in {"queued", "sent", "delivered"}:
        return "0"
    return _UNKNOWN if why is None else _CODES.get(why, _GENERAL)


def _records(message: Message, fate: Fate, now: float) -> Iterator[dict[str, Any]]:
    status = fate.status_at(message, now)
    code = _error_code(status, fate.why)
    for id_ in _part_ids(message):
        yield account.entry(message, id_, _STATUSES[status], code, fate)
