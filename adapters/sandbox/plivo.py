"""Plivo's wire format, seen from Plivo's side: submissions, reports and signatures.

Stricter than Plivo on purpose: a parameter that the sandbox does not know, or that asks for what it
does not do (powerpacks, media, templates), is refused. Ids are told in an order that says nothing,
because Plivo promises none. Refusals by number are listed as invalid, or are the error of a request
of which nothing is taken. Every callback has the signatures of version 2 and 3.

Sources: plivo.com/docs/messaging, its pages on sending, bulk messaging, status callbacks, incoming
messages and error codes, and on signature validation. Not here: what is looked up
(plivo_lookups.py).
"""

import base64
import hmac
import re
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson

from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.plivo_lookups import (
    CODES,
    RATE,
    STATES,
    Lookups,
    bare,
    error,
    timestamp,
)
from adapters.sandbox.segments import count_segments

AUTH_ID = "MASANDBOX00000000000"
SENDER = "15005550006"
MOST = 1000

_ROOT = f"/v1/Account/{AUTH_ID}/"
_SUBMISSIONS = f"{_ROOT}Message/"
_TAKEN = {"src", "dst", "text", "type", "url", "method", "message_expiry"}
_IGNORED = {"log", "trackable"}
_NUMBER = re.compile(r"[1-9]\d{6,13}")
_SENDER = re.compile(r"\d{3,14}|(?=.*[A-Za-z])[A-Za-z0-9]{1,11}")
_REFUSALS = {
    Why.INVALID: (400, "dst is not a valid phone number"),
    Why.UNKNOWN_NUMBER: (400, "dst is not a valid phone number"),
    Why.UNREACHABLE: (400, "dst cannot be reached"),
    Why.LANDLINE: (400, "dst is a landline"),
    Why.OPTED_OUT: (400, "dst has opted out of messages from src"),
    Why.CONTENT: (400, "text is not allowed"),
    Why.OTHER: (403, "messages to this region are not enabled"),
}
_FAILURES = {
    Why.THROTTLED: (429, "too many requests"),
    Why.ACCOUNT: (402, "insufficient credits in your account"),
}
_ORDER = {"sent": "2"}


class Plivo:
    """Plivo as a dialect, for one account."""

    kind: ClassVar[str] = "plivo"
    parts: ClassVar[bool] = False

    def __init__(self, secret: str) -> None:
        self._secret = secret
        login = base64.b64encode(f"{AUTH_ID}:{secret}".encode())
        self._authorization = f"Basic {login.decode()}"

    def settings(self, base_url: str) -> dict[str, str]:
        return {
            "base_url": base_url,
            "auth_id": AUTH_ID,
            "auth_token": self._secret,
            "sender": f"+{SENDER}",
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        if request.path == _SUBMISSIONS and request.method == "POST":
            return "submission"
        return "look_up" if request.path.startswith("/v1/Account/") else None

    def login(self, request: Request) -> Reply | None:
        known = request.headers.get("authorization") == self._authorization
        if known and request.path.startswith(_ROOT):
            return None
        return Reply(401, "Could not verify your access level for that URL.")

    def read(self, request: Request) -> list[Submission] | Reply:
        try:
            asked = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return error(400, "the body is no JSON")
        if not isinstance(asked, dict):
            return error(400, "the body is no JSON object")
        if problem := _problem(asked):
            return error(400, problem)
        sender, url = bare(asked["src"]), asked.get("url") or ""
        extra = {"method": asked.get("method") or "POST"} if url else {}
        # Numbers that are none are left out here; the answer lists them.
        return [
            Submission(f"+{to}", sender, asked["text"], url, reference=url, extra=extra)
            for to in _numbers(asked)
            if _NUMBER.fullmatch(to)
        ]

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        taken = sorted(entry.sid for entry in entries if isinstance(entry, Message))
        refused = [entry for entry in entries if isinstance(entry, Refused)]
        invalid = [to for to in _numbers(orjson.loads(request.body)) if not _NUMBER.fullmatch(to)]
        invalid += [bare(entry.submission.to) for entry in refused]
        if not taken:
            status, text = _REFUSALS[refused[0].why if refused else Why.INVALID]
            return error(status, text)
        body: dict[str, object] = {
            "api_id": self.new_id(),
            "message": "message(s) queued",
            "message_uuid": taken,
        }
        if invalid:
            body["invalid_number"] = invalid
        return Reply(202, body)

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is not None:
            return error(*_FAILURES[why])
        return error(status, "server error" if status >= 500 else "the request failed")

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        code = "420" if status == "expired" else CODES[why] if why else ""
        units = count_segments(message.body)
        now, accepted = timestamp(time.time()), timestamp(message.time)
        form = {
            "MessageUUID": message.sid,
            "ParentMessageUUID": message.sid,
            "PartInfo": "1 of 1",
            "From": message.sender,
            "To": bare(message.to),
            "Type": "sms",
            "Status": STATES.get(status, status),
            "Sequence": _ORDER.get(status, "3"),
            "Units": str(units),
            "TotalRate": f"{RATE:.5f}",
            "TotalAmount": f"{RATE * units:.5f}",
            "MCC": "310",
            "MNC": "004",
            "MessageTime": accepted,
            "QueuedTime": accepted,
            "SentTime": now,
            "DeliveryReportTime": "" if status == "sent" else now,
            "PowerpackUUID": "",
        }
        if code:
            form["ErrorCode"] = code
        return [self._post(message.extra.get("method", "POST"), message.callback, form)]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        return Lookups(journal, outcomes, AUTH_ID, now).answer(request)

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        units = count_segments(body)
        form = {
            "MessageUUID": self.new_id(),
            "From": bare(sender),
            "To": bare(to),
            "Text": body,
            "Type": "sms",
            "Units": str(units),
            "TotalRate": f"{RATE:.5f}",
            "TotalAmount": f"{RATE * units:.5f}",
            "MessageIntent": "optout" if body.strip().upper() == "STOP" else "",
            "PowerpackUUID": "",
        }
        return self._post("POST", url, form)

    def _post(self, method: str, url: str, form: Mapping[str, str]) -> Post:
        nonce = "".join(secrets.choice("0123456789") for _ in range(20))
        headers = {"User-Agent": "Plivo", "X-Plivo-Signature-V2-Nonce": nonce}
        headers["X-Plivo-Signature-V3-Nonce"] = nonce
        if method == "GET":
            url, body = f"{url}{'&' if '?' in url else '?'}{urlencode(form)}", b""
            signed = signed_get(url)
        else:
            body, signed = urlencode(form).encode(), signed_post(url, form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        versions = {"V3": f"{signed}.{nonce}", "V2": f"{_base(url)}{nonce}"}
        for version, text in versions.items():
            digest = hmac.digest(self._secret.encode(), text.encode(), "sha256")
            for account in ("", "Ma-"):
                name = f"X-Plivo-Signature-{account}{version}"
                headers[name] = base64.b64encode(digest).decode()
        return Post(method, url, body, headers)


def signed_post(url: str, form: Mapping[str, str]) -> str:
    """Return what version 3 signs of a POST, without the nonce."""
    query = _joined(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    params = "".join(name + form[name] for name in sorted(form))
    if query and params:
        return f"{_base(url)}?{query}.{params}"
    return f"{_base(url)}?{query}{params}" if query or params else _base(url)


def signed_get(url: str) -> str:
    """Return what version 3 signs of a GET, without the nonce."""
    query = _joined(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    return f"{_base(url)}?{query}" if query else _base(url)


def _base(url: str) -> str:
    return url.partition("?")[0]


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _numbers(asked: Mapping[str, Any]) -> list[str]:
    """Return the recipients, sanitized, each once."""
    return list(dict.fromkeys(re.sub(r"[/\-.+()\s]", "", to) for to in asked["dst"].split("<")))


def _problem(asked: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a submission as a whole, or None."""
    for name in asked:
        if name not in _TAKEN and name not in _IGNORED:
            return f"the sandbox does not take the parameter {name!r}"
    for name in ("src", "dst", "text"):
        if not isinstance(asked.get(name), str) or not asked[name]:
            return f"{name} parameter not present"
    sender, numbers, text = bare(asked["src"]), _numbers(asked), asked["text"]
    url, expiry = asked.get("url") or "", asked.get("message_expiry", 10_799)
    problems = (
        (asked.get("type", "sms") != "sms", "the sandbox takes type sms only"),
        (not _SENDER.fullmatch(sender), "src is not a valid sender"),
        (sender in numbers, "src and dst cannot be the same"),
        (len(numbers) > MOST, f"dst has more than {MOST} numbers"),
        # 1,600 characters of GSM-7 and 737 of UCS-2 are eleven segments.
        (len(text) > 1600 or count_segments(text) > 11, "text is too long"),
        (url and not (isinstance(url, str) and is_url(url)), "url is not valid"),
        (asked.get("method", "POST") not in ("GET", "POST"), "method is neither GET nor POST"),
        (
            not isinstance(expiry, int) or not 5 <= expiry <= 10_799,
            "message_expiry is not between 5 and 10799",
        ),
    )
    return next((words for wrong, words in problems if wrong), None)
