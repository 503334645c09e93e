"""Jasmin's HTTP API, seen from Jasmin's side: /send by POST, /balance, and its DLR and MO throwers.

Stricter than Jasmin on purpose: what asks for something that the sandbox does not do (`sdt`,
`custom_tlvs`) is refused, and so is GET. Texts are as Jasmin makes them: what GSM-7 lacks is a
question mark, and of a long text no more than long_content_max_parts = 5 parts are sent.

Source: docs.jasminsms.com/en/latest/apis/http/index.html, and jasmin/protocols/http of
github.com/jookies/jasmin for the words of errors.
"""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal
from urllib.parse import parse_qsl, urlencode

from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import as_gsm7

USER = "sandbox"
MAX_PARTS = 5

_FIELDS = {
    "to": r"\+?\d+",
    "from": r".*",
    "username": r".{1,30}",
    "password": r".{1,30}",
    "coding": r"0|8",
    "priority": r"[0-3]",
    "validity-period": r"\d+",
    "dlr": r"yes|no",
    "dlr-url": r"https?://.*",
    "dlr-level": r"[1-3]",
    "dlr-method": r"(?i:get|post)",
    "tags": r"[-a-zA-Z0-9,]*",
    "content": r"(?s:.*)",
    "hex-content": r"([0-9a-fA-F]{4})*",
}
_FILTER = "Value filter failed for user [sandbox] ({} filter mismatch)."
_REFUSALS = {
    Why.CONTENT: (400, _FILTER.format("content")),
    Why.OTHER: (412, "No route found"),
}
_FAILURES = {
    Why.THROTTLED: (403, "User throughput exceeded"),
    Why.ACCOUNT: (403, "Cannot charge submit_sm, check RouterPB log file for details"),
}
_STATES = {
    "delivered": "DELIVRD",
    "undelivered": "UNDELIV",
    "failed": "DELETED",
    "expired": "EXPIRED",
    "rejected": "REJECTD",
}
_ERRORS = {Why.UNREACHABLE: "027", Why.UNKNOWN_NUMBER: "001", Why.LANDLINE: "011"}


class Jasmin:
    """Jasmin as a dialect, with one user."""

    kind: ClassVar[str] = "jasmin"
    parts: ClassVar[bool] = False

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def settings(self, base_url: str) -> dict[str, str]:
        return {
            "base_url": base_url,
            "username": USER,
            "password": self._secret,
            "callback_token": self._secret,
            "max_parts": str(MAX_PARTS),
            "sender": "+15005550006",
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        match request.method, request.path:
            case "POST", "/send":
                return "submission"
            case "GET", "/balance":
                return "look_up"
            case _:
                return None

    def login(self, request: Request) -> Reply | None:
        balance = request.path == "/balance"
        given = request.query if balance else _form(request)
        if given.get("username") == USER and given.get("password") == self._secret:
            return None
        words = f"Authentication failure for username:{given.get('username', '')}"
        # /balance speaks JSON, errors too.
        return Reply(403, f'"{words}"', _JSON) if balance else _error(403, words)

    def read(self, request: Request) -> list[Submission] | Reply:
        form = _form(request)
        if problem := _problem(form):
            return _error(400, problem)
        if form.get("coding", "0") == "8":
            octets = bytes.fromhex(form["hex-content"])
            body = octets.decode("utf-16-be", "replace")[: 67 * MAX_PARTS]
        else:
            body = as_gsm7(form["content"])[: 153 * MAX_PARTS]
        to, url = form["to"], form.get("dlr-url", "")
        level, method = form.get("dlr-level", "1"), form.get("dlr-method", "POST").upper()
        return [
            Submission(
                to=to if to.startswith("+") else f"+{to}",
                sender=form.get("from", ""),
                body=body,
                callback=url,
                reference=url,
                extra={"level": level, "method": method} if url else {},
            )
        ]

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        (entry,) = entries
        if isinstance(entry, Refused):
            denied = (400, _FILTER.format("destination_address"))
            return _error(*_REFUSALS.get(entry.why, denied))
        return Reply(200, f'Success "{entry.sid}"')

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is not None:
            return _error(*_FAILURES[why])
        if status == 500:
            words = "Cannot send submit_sm, check SMPPClientManagerPB log file for details"
            return _error(status, words)
        return Reply(status, f"<html>{status}</html>", {"Content-Type": "text/html"})

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        level = "1" if status == "sent" else "2"
        if message.extra["level"] not in (level, "3"):
            return []
        form = {
            "id": message.sid,
            "level": level,
            "message_status": "ESME_ROK" if status == "sent" else _STATES[status],
            "connector": "sandbox",
        }
        if level == "2":
            form |= {
                "id_smsc": str(message.index),
                "sub": "001",
                "dlvrd": "001" if status == "delivered" else "000",
                "subdate": _minute(message.time),
                "donedate": _minute(time.time()),
                "err": _ERRORS.get(why, "000") if why else "000",
                "text": message.body[:20],
            }
        return [_thrown(message.extra["method"], message.callback, urlencode(form))]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        return Reply(200, {"balance": "ND", "sms_count": "ND"})

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        octets = body.encode("ascii" if body.isascii() else "utf-16-be")
        form: dict[str, str | bytes] = {
            "id": self.new_id(),
            "from": sender,
            "to": to,
            "origin-connector": "sandbox",
            "content": octets,
            "binary": octets.hex(),
            "coding": "1" if body.isascii() else "8",
        }
        return _thrown("POST", url, urlencode(form))


_JSON: Mapping[str, str] = {"Content-Type": "application/json"}


def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))


def _problem(form: Mapping[str, str]) -> str | None:
    for name, value in form.items():
        if name not in _FIELDS:
            return f"Argument [{name}] is unknown."
        if not re.fullmatch(_FIELDS[name], value):
            return f"Argument [{name}] has an invalid value: [{value}]."
    if "to" not in form:
        return "Mandatory argument [to] is not found."
    if form.get("dlr-url") and not is_url(form["dlr-url"]):
        return f"Argument [dlr-url] has an invalid value: [{form['dlr-url']}]."
    # One way for each coding, though Jasmin takes hex for both.
    expected = "hex-content" if form.get("coding", "0") == "8" else "content"
    if {"content", "hex-content"} & form.keys() != {expected}:
        return f"The sandbox takes {expected} alone with this coding."
    return None


def _error(status: int, words: str) -> Reply:
    return Reply(status, f'Error "{words}"')


def _thrown(method: str, url: str, pairs: str) -> Post:
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "Jasmin gateway/1.0 DLRThrower",
    }
    if method == "GET":
        return Post("GET", f"{url}{'&' if '?' in url else '?'}{pairs}", b"", headers)
    return Post("POST", url, pairs.encode(), headers)


def _minute(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%y%m%d%H%M")
