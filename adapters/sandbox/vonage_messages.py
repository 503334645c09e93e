"""Vonage's Messages API (api.nexmo.com/v1/messages), channel SMS, seen from Vonage's side.

Stricter than Vonage on purpose: a field that it does not know, and a text that its encoding cannot
carry, are refused with 1020. Logins are the account's key and secret, or tokens of one application.

Sources: the Messages and Application API references (developer.vonage.com/en/api/messages,
…/application.v2), the error codes, and "Signed webhooks" of Vonage's documentation. Not here: the
account and its records (vonage_account.py).
"""

import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Literal

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters.sandbox import vonage_account as account
from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Post, Refused, Reply, Request, Submission
from adapters.sandbox.faults import Fate, Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.segments import count_segments

APPLICATION_ID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
# The two primes of the application's key; made for the sandbox, and good for nothing else.
_P = int(
    "cb0bae340bf47d2e7c6d3147ceeb9114fa1cfbb26703f0e01efd88f577f38944af988663ec53b4f9710b3f4e"
    "f2b3f58d8783fe609fd30d05ec9f4715e5eaafc21fca74e6b69019903b4d138cf59283c98088cc361087d863"
    "73adb5b07d50c8b1461c53168c8bca30977c32719136b09631065c424bd9e023f04c88b9ec64d6e5",
    16,
)
_Q = int(
    "c2dd57bc39d67b756caccb142e07c2e847a4b847c1dabbd13f0b6038a52244f1e0be943194698e7430100904"
    "eb2cc3e155629b0dc183b44f759d20472b4c361f75997110bca581e31ae02b6cc17b14b4581b5e09cd27b63b"
    "6d1d36a4c60f7f6573b24d6dd6fd97a005780dfc2e9772dc2dc8c78dfa8dd587211b5c1e66469dd9",
    16,
)

_SUBMIT, _APPLICATIONS = "/v1/messages", "/v2/applications"
_TITLES = {
    "1000": "Throttled",
    "1010": "Missing params",
    "1020": "Invalid params",
    "1050": "Number barred",
    "1070": "Partner quota exceeded",
    "1120": "Illegal Sender Address",
    "1130": "Invalid TTL",
    "1160": "Non White-listed Destination",
    "1170": "Invalid recipient",
    "1180": "Destination temporarily unavailable",
    "1190": "Absent Subscriber Permanent",
    "1210": "Anti-Spam Rejection",
    "1240": "Illegal Number",
    "1250": "Unroutable",
    "1260": "Destination unreachable",
    "1330": "Delivery failed",
    "1360": "TTL was activated",
    "1450": "Invalid client reference",
}
_REFUSALS = {
    Why.INVALID: "1170",
    Why.UNREACHABLE: "1260",
    Why.LANDLINE: "1250",
    Why.UNKNOWN_NUMBER: "1190",
    Why.OPTED_OUT: "1240",
    Why.CONTENT: "1120",
    Why.OTHER: "1160",
}
_STATUSES = {
    "queued": "submitted",
    "sent": "submitted",
    "delivered": "delivered",
    "undelivered": "rejected",
    "failed": "undeliverable",
    "expired": "rejected",
    "rejected": "rejected",
}
_CODES = {
    Why.UNREACHABLE: "1180",
    Why.UNKNOWN_NUMBER: "1190",
    Why.CONTENT: "1210",
    Why.OPTED_OUT: "1240",
    Why.LANDLINE: "1250",
    Why.INVALID: "1170",
}
_EXPIRED, _OTHER = "1360", "1330"

_NEEDED = ("channel", "message_type", "to", "from", "text")
_TAKEN = {
    *_NEEDED,
    *("ttl", "client_ref", "webhook_url", "webhook_version", "sms", "trusted_recipient"),
}


class VonageMessages:
    """Vonage's Messages API as a dialect, for one account and its application."""

    kind: ClassVar[str] = "vonage-messages"
    parts: ClassVar[bool] = False

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._signature_secret = account.signature_secret(secret)

    def settings(self, base_url: str) -> dict[str, str]:
        return {
            "base_url": base_url,
            "api_key": account.API_KEY,
            "api_secret": self._secret,
            "signature_secret": self._signature_secret,
            "sender": f"+{account.SENDER}",
        }

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        if (request.method, request.path) == ("POST", _SUBMIT):
            return "submission"
        # The other API's records have the same address: the product tells them apart.
        ours = request.path == account.RECORDS and request.query.get("product") == "MESSAGES"
        return "look_up" if ours or request.path.startswith(_APPLICATIONS) else None

    def login(self, request: Request) -> Reply | None:
        with_token = request.path == _SUBMIT and _has_token(request)
        if with_token or account.logged_in(request, self._secret):
            return None
        return account.unauthorized()

    def read(self, request: Request) -> list[Submission] | Reply:
        try:
            fields = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return account.problem(400, "#invalid-json", "Invalid JSON")
        if not isinstance(fields, dict):
            return account.problem(400, "#invalid-json", "Invalid JSON")
        if wrong := next(_wrong(fields), None):
            return _error(*wrong)
        return [
            Submission(
                to=account.number(fields["to"]) or "",
                sender=account.number(fields["from"]) or fields["from"],
                body=fields["text"],
                callback=fields.get("webhook_url", ""),
                reference=fields.get("client_ref", ""),
            )
        ]

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        (entry,) = entries
        if isinstance(entry, Refused):
            return _error(_REFUSALS[entry.why])
        return Reply(202, {"message_uuid": entry.sid})

    def failure(self, status: int, why: Why | None) -> Reply:
        if why is Why.THROTTLED or status == 429:
            return _error("1000", status=429)
        if why is Why.ACCOUNT:
            return _error("1070", status=402)
        return account.problem(status, "#internal-error", "Internal error")

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        fields: dict[str, Any] = {
            "message_uuid": message.sid,
            "to": account.digits(message.to),
            "from": account.digits(message.sender),
            "timestamp": _now(),
            "status": _STATUSES[status],
            "channel": "sms",
            "destination": {"network_code": "310090"},
            "sms": {"count_total": str(count_segments(message.body))},
        }
        if message.reference:
            fields["client_ref"] = message.reference
        if code := _error_code(status, why):
            fields["error"] = {
                "type": f"https://developer.vonage.com/api-errors/messages#{code}",
                "title": code,
                "detail": _TITLES[code],
                "instance": uuid.uuid4().hex,
            }
        if status != "failed":
            fields["usage"] = {"currency": account.CURRENCY, "price": account.PRICE}
        return [self._post(message.callback, fields)]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        if request.method != "GET":
            return account.problem(405, "#wrong-verb", "Method Not Allowed")
        if request.path == account.RECORDS:
            records = account.Records("MESSAGES", journal, outcomes, now, _records)
            return records.answer(request)
        application = {
            "id": APPLICATION_ID,
            "name": "Sandbox",
            "keys": {"public_key": _public_key()},
            "capabilities": {"messages": {"webhooks": {}, "version": "v1"}},
        }
        if request.path == f"{_APPLICATIONS}/{APPLICATION_ID}":
            return Reply(200, application)
        if request.path == _APPLICATIONS:
            page = {"page": 1, "total_pages": 1, "total_items": 1}
            links = {"self": {"href": f"https://api.nexmo.com{_APPLICATIONS}?page=1"}}
            return Reply(
                200, {**page, "_embedded": {"applications": [application]}, "_links": links}
            )
        return account.problem(404, "#not-found", "Not Found")

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        fields = {
            "channel": "sms",
            "message_uuid": self.new_id(),
            "to": account.digits(to),
            "from": account.digits(sender),
            "timestamp": _now(),
            "message_type": "text",
            "text": body,
            "sms": {"num_messages": "1", "keyword": (body.split() or [""])[0].upper()},
            "usage": {"currency": account.CURRENCY, "price": "0.0000"},
        }
        return self._post(url, fields)

    def _post(self, url: str, fields: Mapping[str, Any]) -> Post:
        body = orjson.dumps(fields)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Vonage",
            "Authorization": f"Bearer {token(self._signature_secret, body)}",
        }
        return Post("POST", url, body, headers)


def private_key() -> str:
    """Return the private key of the sandbox's application, in PEM form."""
    key = _key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key.decode()


def token(secret: str, body: bytes) -> str:
    """Return the token of a webhook: a JWT with HS256 (RFC 7519) that holds the body's digest."""
    claims = {
        "iat": int(time.time()),
        "jti": str(uuid.uuid4()),
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(body).hexdigest(),
        "api_key": account.API_KEY,
        "application_id": APPLICATION_ID,
    }
    head = orjson.dumps({"alg": "HS256", "typ": "JWT"})
    signed = f"{_encode(head)}.{_encode(orjson.dumps(claims))}"
    return f"{signed}.{_encode(hmac.new(secret.encode(), signed.encode(), 'sha256').digest())}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def _key() -> rsa.RSAPrivateKey:
    exponent = 65_537
    secret = pow(exponent, -1, (_P - 1) * (_Q - 1))
    numbers = rsa.RSAPrivateNumbers(
        _P,
        _Q,
        secret,
        rsa.rsa_crt_dmp1(secret, _P),
        rsa.rsa_crt_dmq1(secret, _Q),
        rsa.rsa_crt_iqmp(_P, _Q),
        rsa.RSAPublicNumbers(exponent, _P * _Q),
    )
    return numbers.private_key()


@cache
def _public_key() -> str:
    key = (
        _key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return key.decode()


def _has_token(request: Request) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer":
        return False
    try:
        claims = jwt.decode(
            given,
            _public_key(),
            algorithms=["RS256"],
            options={"require": ["iat", "exp", "jti", "application_id"]},
        )
    except jwt.PyJWTError:
        return False
    return bool(claims["application_id"] == APPLICATION_ID)


def _wrong(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield code and field of what is wrong with a submission; only the first counts."""
    yield from _wrong_shape(fields)
    if (fields["channel"], fields["message_type"]) != ("sms", "text"):
        yield "1020", "channel"
    if account.number(fields["to"]) is None:
        yield "1170", "to"
    if not account.is_sender(fields["from"]):
        yield "1120", "from"
    encoding = fields.get("sms", {}).get("encoding_type", "auto")
    if encoding not in {"auto", "text", "unicode"}:
        yield "1020", "sms"
    if len(fields["text"]) > 1000 or (encoding == "text" and not account.is_gsm7(fields["text"])):
        yield "1020", "text"
    if not 20 <= fields.get("ttl", 20) <= 604_800:
        yield "1130", "ttl"
    if len(fields.get("client_ref", "")) > 100:
        yield "1450", "client_ref"
    if "webhook_url" in fields and not is_url(fields["webhook_url"]):
        yield "1020", "webhook_url"
    if fields.get("webhook_version", "v1") != "v1":
        yield "1020", "webhook_version"


def _wrong_shape(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _NEEDED:
        if not fields.get(name):
            yield "1010", name
    if odd := {*fields} - _TAKEN:
        yield "1020", min(odd)
    texts = dict.fromkeys((*_NEEDED, "client_ref", "webhook_url", "webhook_version"), str)
    for name, kind in (texts | {"ttl": int, "sms": dict}).items():
        if name in fields and type(fields[name]) is not kind:
            yield "1020", name


def _error(code: str, what: str = "", status: int = 422) -> Reply:
    detail = f"{_TITLES[code]}: {what}" if what else _TITLES[code]
    return account.problem(status, f"/messages#{code}", _TITLES[code], detail)


def _error_code(status: str, why: Why | None) -> str | None:
    if status in {"queued", "sent", "delivered"}:
        return None
    return _EXPIRED if status == "expired" else _CODES.get(why or Why.OTHER, _OTHER)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _records(message: Message, fate: Fate, now: float) -> Iterator[dict[str, Any]]:
    status = fate.status_at(message, now)
    code = _error_code(status, fate.why) or ""
    yield account.entry(message, message.sid, _STATUSES[status], code, fate)
