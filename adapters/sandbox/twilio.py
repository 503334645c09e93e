"""Twilio's wire format, seen from Twilio's side: submissions, reports and signatures.

Stricter than Twilio on purpose: a parameter that the sandbox does not know, or that asks for what
it does not do (`SendAt`, `MediaUrl`, `ContentSid` …), is refused with 20001 instead of being
passed over. Bodies over 256 KB are 413. Every number is owned, but for Twilio's magic ones. A list
by date passes over messages not sent yet: their `date_sent` is null.

Sources: the Messages API reference, the error dictionary (twilio.com/docs/api/errors) and the
webhook security page of Twilio's documentation. Not here: what is looked up (twilio_lookups.py).
"""

import base64
import hmac
import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal
from urllib.parse import parse_qsl, quote_plus

from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Fate, Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import count_segments
from adapters.sandbox.twilio_lookups import MAGIC_FROM, Lookups
from adapters.sandbox.twilio_resources import API, POOL_SENDER, REPORT_CODES, error, resource

_BODY_LIMIT = 256 * 1024
_REFUSALS = {
    Why.INVALID: 21211,
    Why.UNKNOWN_NUMBER: 21211,
    Why.UNREACHABLE: 21612,
    Why.LANDLINE: 21614,
    Why.OPTED_OUT: 21610,
    Why.CONTENT: 21606,
}
_REFUSED_ELSE = 21408
_FAILURES = {Why.THROTTLED: 20429, Why.ACCOUNT: 20005}
_ERRORS = {401: 20003, 404: 20404, 413: 20001, 429: 20429}
_NEW = Fate("delivered", None, 0, 0)
"""What the answer to a submission shows is the same whatever becomes of the message."""
_PLAIN: Mapping[str, str] = {}

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_ALPHANUMERIC = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 +\-_&]{1,11}")
_SHORT_CODE = re.compile(r"\d{3,6}")
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")

# Taken and without effect here.
_IGNORED = {
    "ProvideFeedback",
    "MaxPrice",
    "Attempt",
    "ForceDelivery",
    "ContentRetention",
    "AddressRetention",
    "SmartEncoded",
    "ShortenUrls",
    "RiskCheck",
    "TrafficType",
}
_TAKEN = {"To", "From", "MessagingServiceSid", "Body", "StatusCallback", "ValidityPeriod"}


class Twilio:
    """Twilio as a dialect, for one account."""

    kind: ClassVar[str] = "twilio"
    parts: ClassVar[bool] = False

    def __init__(self, secret: str, account_sid: str) -> None:
        self._secret = secret
        self._account_sid = account_sid
        login = base64.b64encode(f"{account_sid}:{secret}".encode())
        self._authorization = f"Basic {login.decode()}"
        self._root = f"{API}/{account_sid}"
        self._submissions = f"{self._root}/Messages.json"

    def settings(self, base_url: str) -> dict[str, str]:
        return {
            "base_url": base_url,
            "account_sid": self._account_sid,
            "auth_token": self._secret,
            "sender": POOL_SENDER,
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        if request.path == self._submissions and request.method == "POST":
            return "submission"
        return "look_up" if request.path.startswith(f"{API}/") else None

    def login(self, request: Request) -> Reply | None:
        known = request.headers.get("authorization") == self._authorization
        return None if known and request.path.startswith(self._root) else error(20003)

    def read(self, request: Request) -> list[Submission] | Reply:
        if len(request.body) > _BODY_LIMIT:
            return self.failure(413, None)
        try:
            pairs = parse_qsl(request.body.decode(), keep_blank_values=True, errors="strict")
        except ValueError:
            return error(20001, "The form is not UTF-8")
        form = dict(pairs)
        sender = form.get("From", "")
        if refusal := check_submission(form):
            return error(*refusal)
        if sender in MAGIC_FROM:
            return error(MAGIC_FROM[sender])
        service, callback = form.get("MessagingServiceSid"), form.get("StatusCallback", "")
        extra = {"service": service} if service else _PLAIN
        return [
            Submission(form["To"], sender, form["Body"], callback, reference=callback, extra=extra)
        ]

    def new_id(self) -> str:
        return f"SM{os.urandom(16).hex()}"

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        (entry,) = entries
        if isinstance(entry, Refused):
            return error(_REFUSALS.get(entry.why, _REFUSED_ELSE))
        return Reply(201, resource(entry, _NEW, self._account_sid, entry.time))

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is not None:
            return error(_FAILURES[why])
        text = "The request body is too large" if status == 413 else ""
        return error(_ERRORS.get(status, 20500), text, status)

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        code = None if why is None else REPORT_CODES[why]
        form = report_form(message, status, code, self._account_sid, time.time())
        return [self._post(message.callback, form)]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        return Lookups(journal, outcomes, self._account_sid, now).answer(request)

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        return self._post(url, inbound_form(self.new_id(), sender, to, body, self._account_sid))

    def _post(self, url: str, form: Mapping[str, str]) -> Post:
        headers = {
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "X-Twilio-Signature": signature(self._secret, url, form),
        }
        return Post("POST", url, _encode(form), headers)


def check_submission(form: Mapping[str, str]) -> tuple[int, str] | None:
    """Return code and text of what is wrong with a submission, or None.

    A parameter that Twilio would pass over in silence is refused, and so is one that asks for what
    the sandbox does not do: both would otherwise hide a mistake of the sender.
    """
    for name in form:
        if name not in _TAKEN and name not in _IGNORED:
            return 20001, f"The sandbox does not take the parameter {name!r}"
    to, sender, body = form.get("To", ""), form.get("From", ""), form.get("Body", "")
    callback = form.get("StatusCallback")
    code = _check_parties(to, sender, form.get("MessagingServiceSid", ""))
    if code is None and not body:
        code = 21602
    elif code is None and len(body) > 1600:
        code = 21617
    elif code is None and callback is not None and not is_url(callback):
        code = 21609
    elif code is None and not _is_validity(form.get("ValidityPeriod", "36000")):
        code = 21624
    return None if code is None else (code, "")


def _check_parties(to: str, sender: str, service: str) -> int | None:
    if not to:
        return 21604
    if not _E164.fullmatch(to):
        return 21211
    if not sender and not service:
        return 21603
    if service and not _SERVICE.fullmatch(service):
        return 21603
    if sender and not any(p.fullmatch(sender) for p in (_E164, _SHORT_CODE, _ALPHANUMERIC)):
        return 21212
    return 21266 if to == sender else None


def _is_validity(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= 36_000


def signature(auth_token: str, url: str, form: Mapping[str, str]) -> str:
    """Return X-Twilio-Signature: HMAC-SHA1 over the address and the sorted parameters."""
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(auth_token.encode(), signed.encode(), "sha1")).decode()


def report_form(
    message: Message, status: str, error_code: int | None, account_sid: str, now: float
) -> dict[str, str]:
    """Return the parameters of a status callback."""
    form = {
        "ApiVersion": "2010-04-01",
        "AccountSid": account_sid,
        "From": message.sender or POOL_SENDER,
        "To": message.to,
        "MessageSid": message.sid,
        "MessageStatus": status,
        "SmsSid": message.sid,
        "SmsStatus": status,
    }
    if message.extra:
        form["MessagingServiceSid"] = message.extra["service"]
    if error_code is not None:
        form["ErrorCode"] = str(error_code)
    if status in ("delivered", "undelivered", "failed"):
        form["RawDlrDoneDate"] = datetime.fromtimestamp(now, UTC).strftime("%y%m%d%H%M")
    return form


def inbound_form(sid: str, sender: str, to: str, body: str, account_sid: str) -> dict[str, str]:
    """Return the parameters of the webhook for an inbound message (MO)."""
    return {
        "ApiVersion": "2010-04-01",
        "AccountSid": account_sid,
        "Body": body,
        "From": sender,
        "To": to,
        "MessageSid": sid,
        "SmsMessageSid": sid,
        "SmsSid": sid,
        "SmsStatus": "received",
        "NumMedia": "0",
        "NumSegments": str(count_segments(body)),
    }


def _encode(form: Mapping[str, str]) -> bytes:
    # Most values are letters and digits, and quoting those was a quarter of a callback's cost.
    return "&".join(
        f"{name}={value if value.isascii() and value.isalnum() else quote_plus(value)}"
        for name, value in form.items()
    ).encode()
