"""Kannel's sendsms interface, seen from smsbox: submissions by POST, and its requests to others.

Stricter than Kannel on purpose: a header that the sandbox does not know is refused, as is a list of
several receivers. Texts, reports and replies are as Kannel makes them: what the coding lacks is a
question mark, and escape codes stand wherever the address has them. The sendsms-user has
max-messages = 10; what is longer is cut off.

Source: Kannel 1.4.5 User's Guide, tables 7-10, 7-11, 7-16 and 7-17. Its GET and XML are not here.
"""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal
from urllib.parse import quote_plus

from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import as_gsm7

USER = "sandbox"
MAX_MESSAGES = 10

_SENDSMS = "/cgi-bin/sendsms"
_HEADERS: Mapping[str, str] = {"Server": "Kannel/1.4.5", "Content-Type": "text/html"}
_PREFIX = "x-kannel-"
_TAKEN = {
    *("username", "password", "from", "to", "coding", "validity", "dlr-mask", "dlr-url"),
    *("priority", "account", "binfo"),
}
_NUMBER = re.compile(r"\+?\d{3,15}")
_ESCAPE = re.compile("%(.)", re.DOTALL)

DENIED = "Number(s) has/have been denied by white- and/or black-lists."
_REFUSALS = {
    Why.CONTENT: (400, "Charset or body misformed, rejected"),
    Why.OTHER: (403, "Not routable. Do not try again."),
}
_FAILURES = {
    Why.THROTTLED: (503, "Temporal failure, try again later."),
    Why.ACCOUNT: (403, "Authorization failed for sendsms"),
}
_TYPES = {"delivered": 1, "undelivered": 2, "failed": 2, "expired": 2, "sent": 8, "rejected": 16}
_ERRORS = {Why.UNREACHABLE: "027", Why.UNKNOWN_NUMBER: "001", Why.LANDLINE: "011"}


class Kannel:
    """A smsbox as a dialect, with one sendsms-user."""

    kind: ClassVar[str] = "kannel"
    parts: ClassVar[bool] = False

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def settings(self, base_url: str) -> dict[str, str]:
        return {
            "base_url": base_url,
            "username": USER,
            "password": self._secret,
            "callback_token": self._secret,
            "max_parts": str(MAX_MESSAGES),
            "sender": "+15005550006",
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        return "submission" if (request.method, request.path) == ("POST", _SENDSMS) else None

    def login(self, request: Request) -> Reply | None:
        given = _given(request)
        # smsbox looks at what it got before it looks at who sent it.
        if _content_type(request)[0] != "text/plain":
            return _say(400, "Invalid content-type")
        known = given.get("username") == USER and given.get("password") == self._secret
        return None if known else self.failure(0, Why.ACCOUNT)

    def read(self, request: Request) -> list[Submission] | Reply:
        given, (_, charset) = _given(request), _content_type(request)
        if problem := _problem(given):
            return _say(400, problem)
        coding = given.get("coding", "0")
        try:
            text = request.body.decode(charset or ("utf-16-be" if coding == "2" else "utf-8"))
        except (UnicodeDecodeError, LookupError):
            return _say(400, "Charset or body misformed, rejected")
        url, to = given.get("dlr-url", ""), given["to"]
        body = as_gsm7(text)[: 153 * MAX_MESSAGES] if coding == "0" else text[: 67 * MAX_MESSAGES]
        extra = {"mask": given.get("dlr-mask", "0")}
        return [
            Submission(
                to=to if to.startswith("+") else f"+{to}",
                sender=given["from"],
                body=body,
                # Where nothing is asked for, nothing is reported.
                callback=url if extra["mask"] != "0" else "",
                reference=url,
                extra=extra,
            )
        ]

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        (entry,) = entries
        if isinstance(entry, Refused):
            return _say(*_REFUSALS.get(entry.why, (400, DENIED)))
        return _say(202, "0: Accepted for delivery")

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is not None:
            return _say(*_FAILURES[why])
        # Kannel's own 503 says that nothing was taken: another server must not use its words.
        return Reply(status, f"<html>{status}</html>", {"Content-Type": "text/html"})

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        kind = _TYPES[status]
        if not kind & int(message.extra["mask"]):
            return []
        error = _ERRORS.get(why, "000") if why else "000"
        answer = {
            1: "",
            2: f"id:{message.sid} stat:UNDELIV err:{error} text:{message.body[:20]}",
            8: "ACK/",
            16: "NACK/0x00000008/System Error",
        }[kind]
        codes = {
            "d": str(kind),
            "F": "" if kind == 8 else message.sid,
            "A": answer,
            # The report comes from the recipient.
            **_parties(message.to, message.sender, time.time()),
        }
        return [Post("GET", _filled(message.callback, codes), b"", {"User-Agent": "Kannel/1.4.5"})]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        return _say(404, "Unknown request.")

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        """Return the request that a sms-service makes of a get-url with escape codes."""
        wide = as_gsm7(body) != body
        codes = {
            "a": " ".join(body.split()),
            "b": body,
            "c": "2" if wide else "0",
            "C": "UTF-16BE" if wide else "UTF-8",
            **_parties(sender, to, time.time()),
        }
        filled = _filled(url, codes, "utf-16-be" if wide else "utf-8")
        return Post("GET", filled, b"", {"User-Agent": "Kannel/1.4.5"})


def _given(request: Request) -> dict[str, str]:
    headers = request.headers.items()
    return {name[len(_PREFIX) :]: value for name, value in headers if name.startswith(_PREFIX)}


def _content_type(request: Request) -> tuple[str, str]:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    return kind.strip(), parameters.partition("charset=")[2].strip()


def _problem(given: Mapping[str, str]) -> str | None:
    to, mask, url = given.get("to"), given.get("dlr-mask", "0"), given.get("dlr-url")
    unknown = given.keys() - _TAKEN
    wrong = {
        f"The sandbox does not take the headers {', '.join(sorted(unknown))}": bool(unknown),
        "Missing receiver(s) number(s), rejected": to is None,
        "Empty receiver number not allowed, rejected": to == "",
        DENIED: not _NUMBER.fullmatch(to or ""),
        "Sender missing and no global set, rejected": not given.get("from"),
        "Coding field misformed, rejected": given.get("coding", "0") not in ("0", "1", "2"),
        "Validity field misformed, rejected": not given.get("validity", "1").isdecimal(),
        "DLR-Mask field misformed, rejected": not mask.isdecimal() or int(mask) > 63,
        "DLR-URL field misformed, rejected": bool(url) and not is_url(url or ""),
    }
    return next((words for words, applies in wrong.items() if applies), None)


def _say(status: int, words: str) -> Reply:
    return Reply(status, words, _HEADERS)


def _parties(sender: str, to: str, now: float) -> dict[str, str]:
    at = datetime.fromtimestamp(now, UTC)
    return {
        "p": sender,
        "P": to,
        "t": at.strftime("%Y-%m-%d %H:%M:%S"),
        "T": str(int(now)),
        "I": str(uuid.uuid4()),
        "i": "sandbox",
        "%": "%",
    }


def _filled(url: str, codes: Mapping[str, str], charset: str = "utf-8") -> str:
    """Fill in escape codes; what is none stays as it is."""

    def fill(found: re.Match[str]) -> str:
        code = found[1]
        if code == "%" or code not in codes:
            return "%" if code == "%" else found[0]
        return quote_plus(codes[code], encoding=charset if code in "ab" else "utf-8")

    return _ESCAPE.sub(fill, url)
