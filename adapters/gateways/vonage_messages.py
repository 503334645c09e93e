"""Vonage's Messages API, channel SMS (developer.vonage.com/en/api/messages).

One JSON POST for each message, whose parts are Vonage's business: one id, one status. Our reference
travels as `client_ref`. Not here: the SMS API (`vonage.py`), other channels.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self
from uuid import uuid4

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from pydantic import Field, SecretStr, field_validator, model_validator

from adapters.gateways import base, callbacks, checks, http, values, vonage_account
from adapters.gateways.base import Answer, ErrorClass, Inbound, Report, Status
from adapters.gateways.vonage_account import digits, instant, mapping, of_ours, of_person

# What follows "#" in the `type` of an error: developer.vonage.com/en/api-errors/messages, and for
# the words developer.vonage.com/en/api-errors. The numbers come in status webhooks too.
ERRORS = {
    code: error_class
    for error_class, codes in {
        # 1100: "not submitted because there was a communication failure".
        ErrorClass.RETRY: "1000 1100 throttled",
        # 1020 (a wrong parameter) may be the number's; 1160 (account in demo mode) depends on it.
        ErrorClass.RECIPIENT: "1020 1040 1050 1160 1170 1190 1200 1250 1251 1260 1270 1280 1300"
        " 1310 1430 1483",
        ErrorClass.OPTOUT: "1240",
        ErrorClass.CONTENT: "1010 1021 1022 1090 1120 1130 1150 1210 1282 1420 1476 1480 1481 1482"
        " 1484",
        ErrorClass.ACCOUNT: "1060 1070 1080 1140 1242 1400 1440 1460 low-balance unauthorized"
        " forbidden not-found unprovisioned account-suspended application-suspended jwt-expired"
        " jwt-revoked invalid-api-key invalid-signature invalid-ip multiple-auth-methods"
        " invalid-json wrong-verb accept-header content-type-header unavailable-legal",
    }.items()
    for code in codes.split()
}
# Errors while Vonage or the network worked on it, and "already sent": they prove nothing.
UNCLEAR = {"1030", "1320", "1331"}
HTTP_ERRORS = dict.fromkeys((401, 402, 403, 404), ErrorClass.ACCOUNT) | {429: ErrorClass.RETRY}
# What accounts, throttles and time mend says nothing of a message that was taken.
_OF_REPORTS = {ErrorClass.RECIPIENT, ErrorClass.OPTOUT, ErrorClass.CONTENT}

# developer.vonage.com/en/messages/concepts/messages-status-callbacks
STATUSES = {
    "submitted": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.DELIVERED,
    "rejected": Status.REJECTED,
    "undeliverable": Status.UNDELIVERED,
}
# 1360: "expired before delivered". 1490: reports of some parts are missing, "status unknown".
BY_ERROR = {"1360": Status.EXPIRED, "1490": Status.UNKNOWN}

VALIDITY = (20, 604_800)
"""Seconds, least and most, of `ttl`."""
TOKEN_FOR = 900
"""Seconds that a login token counts; Vonage takes up to a day."""
TOKEN_SPARE = 300


class VonageMessagesSettings(vonage_account.AccountSettings):
    """Settings of a Vonage account that sends with the Messages API."""

    kind: Literal["vonage-messages"] = "vonage-messages"
    application_id: str = Field(
        "",
        pattern="^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$",
        description="Application that messages belong to, which logs in by a token (JWT) instead"
        " of the API secret",
    )
    private_key: SecretStr | None = Field(
        None, description="Private key of the application, the whole PEM text"
    )
    base_url: str = Field(
        "https://api.nexmo.com", pattern="^https?://[^/?#]", description="Where the API answers"
    )

    @field_validator("private_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value().strip():
            return None
        try:
            _load(value)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("is no RSA private key in PEM form without a password") from None
        return value

    @model_validator(mode="after")
    def _application_is_whole(self) -> Self:
        if bool(self.application_id) != (self.private_key is not None):
            raise ValueError("application_id and private_key go together: set both or neither")
        return self


class VonageMessages(vonage_account.Account):
    """A Vonage account or application, by the Messages API."""

    product = "MESSAGES"
    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        reference="field",
        recovery=base.Recovery.BY_REFERENCE,
        polls=True,
        inbound=True,
        opt_outs=("answer", "report"),
        validity=True,
        price="report",
        max_text=1000,
    )

    def __init__(
        self,
        settings: VonageMessagesSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
    ) -> None:
        key = settings.private_key
        super().__init__(
            settings,
            settings.base_url,
            addresses,
            timeouts,
            requests_in_flight,
            send_login=key is None,
        )
        self._settings = settings
        # Without our reference in it: that comes back in the body, which is signed.
        self._reports, _, _ = addresses.reports("").partition("?")
        self._private_key = None if key is None else _load(key)
        self._token, self._token_until = "", 0.0

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit messages, each with a request of its own."""
        return await http.submit_each(messages, self._send, _answer)

    def _login(self) -> dict[str, str]:
        """Return the header with a token that is still good, where the login is by token."""
        if self._private_key is None:
            return {}
        now = time.time()
        if now > self._token_until - TOKEN_SPARE:
            self._token_until = now + TOKEN_FOR
            claims = {
                "application_id": self._settings.application_id,
                "iat": int(now),
                "exp": int(self._token_until),
                "jti": str(uuid4()),
            }
            self._token = jwt.encode(claims, self._private_key, algorithm="RS256")
        return {"authorization": f"Bearer {self._token}"}

    async def _send(self, message: base.Outgoing) -> http.Reply:
        fields: dict[str, Any] = {
            "channel": "sms",
            "message_type": "text",
            "to": digits(message.to),
            "text": message.text,
            "client_ref": message.id,
            "webhook_url": self._reports,
            "webhook_version": "v1",
            "sms": {"encoding_type": "text" if message.encoding == "GSM-7" else "unicode"},
        }
        if message.sender:
            fields["from"] = digits(message.sender)
        if message.deadline is not None:
            least, most = VALIDITY
            left = int((message.deadline - datetime.now(UTC)).total_seconds())
            # Whether it is too late was the ledger's question, and has been asked.
            fields["ttl"] = min(max(left, least), most)
        headers = {"content-type": "application/json", **self._login()}
        return await self.http.post("/v1/messages", orjson.dumps(fields), headers)

    async def check(self, sender: str | None = None) -> list[str]:
        """Read the account's applications, or ours, and look at the form of the sender.

        Of ours it is looked at whether it has our key and may send messages. Whether the signature
        secret is right shows with the first callback.
        """
        base_url, sender = self._settings.base_url, sender or self._settings.sender
        problems = [
            checks.receiver_problem(self.addresses, base_url),
            checks.sender_problem(sender, self._mend("sender")),
        ]
        application = self._settings.application_id
        path = f"/v2/applications/{application}" if application else "/v2/applications?page_size=1"
        try:
            problems.append(self._account_problem(await self.account.get(path)))
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        return [problem for problem in problems if problem]

    def _account_problem(self, reply: http.Reply) -> str | None:
        if reply.status == 404 and self._private_key is not None:
            return f"the account has no such application: {self._mend('application_id')}"
        mend = self._mend("api_secret" if reply.status in {401, 403} else "base_url")
        shows = "total_items" if self._private_key is None else "id"
        problem = checks.account_problem(
            reply, self.account_url, "api_key or api_secret", mend, shows
        )
        if problem or self._private_key is None:
            return problem
        if "messages" not in mapping(reply.fields.get("capabilities")):
            return "the application may not send messages: switch Messages on in the dashboard"
        ours = self._private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        theirs = values.text(mapping(reply.fields.get("keys")).get("public_key"))
        if theirs and theirs.split() != ours.decode().split():
            return f"the application has another public key: {self._mend('private_key')}"
        return None

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    def polled(self, record: dict[str, Any]) -> Report:
        """Make a report of a record of the Reports API."""
        status, code, error_class = _meaning(record.get("status"), record.get("error_code"))
        price, currency = values.money(record.get("total_price"), record.get("currency"))
        return Report(
            status=status,
            reference=values.text(record.get("client_ref")),
            gateway_message_id=values.text(record.get("message_id")),
            recipient=of_person(values.text(record.get("to")) or "") or None,
            error_code=code,
            error_class=error_class,
            occurred_at=instant(record.get("date_finalized")),
            price=price,
            currency=currency,
        )

    def verify(self, callback: base.Callback) -> bool:
        """Check the token (JWT) of a webhook (developer.vonage.com, "Signed webhooks").

        It is signed with the signature secret and holds a digest of the body. It counts for 5
        minutes.
        """
        scheme, _, token = callback.headers.get("authorization", "").partition(" ")
        secret = self._settings.signature_secret.get_secret_value()
        try:
            claims = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                leeway=vonage_account.SIGNED_FOR,
                options={"require": ["iat", "payload_hash"], "verify_aud": False},
            )
            age = time.time() - float(claims["iat"])
        except (jwt.PyJWTError, TypeError, ValueError):
            return False
        given = str(claims["payload_hash"]).lower()
        genuine = callbacks.same(given, hashlib.sha256(callback.body).hexdigest())
        return genuine and scheme.lower() == "bearer" and abs(age) <= vonage_account.SIGNED_FOR

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read a status webhook or an inbound message; those of other channels hold nothing."""
        try:
            fields = orjson.loads(callback.body)
        except orjson.JSONDecodeError:
            fields = None
        message_id = values.text(fields.get("message_uuid")) if isinstance(fields, dict) else None
        if not message_id:
            raise base.CallbackError("Vonage webhook without message_uuid: is the address right?")
        if fields.get("channel") not in {None, "sms"}:
            return [], []
        if "status" in fields:
            return [_report(fields, message_id)], []
        text, ours, person = (values.text(fields.get(name)) for name in ("text", "to", "from"))
        if person is None:
            raise base.CallbackError(
                "Vonage webhook with neither status nor from: the application's webhook version"
                " must be v1"
            )
        return [], [Inbound(message_id, of_person(person), of_ours(ours or ""), text or "")]


def _load(key: SecretStr) -> RSAPrivateKey:
    loaded = serialization.load_pem_private_key(key.get_secret_value().encode(), None)
    if not isinstance(loaded, RSAPrivateKey):
        raise TypeError("no RSA key")
    return loaded


def _report(fields: Mapping[str, Any], message_id: str) -> Report:
    status, code, error_class = _meaning(fields["status"], _code(fields.get("error")))
    usage = mapping(fields.get("usage"))
    price, currency = values.money(usage.get("price"), usage.get("currency"))
    return Report(
        status=status,
        reference=values.text(fields.get("client_ref")),
        gateway_message_id=message_id,
        recipient=of_person(values.text(fields.get("to")) or "") or None,
        error_code=code,
        error_class=error_class,
        occurred_at=instant(fields.get("timestamp")),
        price=price,
        currency=currency,
    )


def _meaning(status: object, code: object) -> tuple[Status, str | None, ErrorClass | None]:
    """Status, error code and its class, of a webhook or a record."""
    error = values.text(code)
    known = STATUSES.get(values.text(status) or "", Status.UNKNOWN)
    error_class = ERRORS.get(error or "")
    if known in {Status.REJECTED, Status.UNDELIVERED}:
        known = BY_ERROR.get(error or "", known)
    return known, error, error_class if error_class in _OF_REPORTS else None


def _code(error: object) -> str | None:
    """Return the code of an error: its `type` is the address of its explanation."""
    kind = values.text(mapping(error).get("type"))
    return kind.rpartition("#")[2] or None if kind and "#" in kind else None


def _answer(message_id: str, reply: http.Reply) -> Answer:
    fields = reply.fields
    uuid = values.text(fields.get("message_uuid"))
    if 200 <= reply.status < 300 and uuid:
        return Answer(message_id, "accepted", uuid)
    code = _code(fields)
    said = (values.text(fields.get(name)) for name in ("title", "detail"))
    return http.no_success(
        message_id,
        reply,
        error_class=_refusal(reply.status, code),
        code=code,
        text=": ".join(text for text in said if text),
    )


def _refusal(status: int, code: str | None) -> ErrorClass | None:
    """Class of a refusal; None where Vonage does not say that it has not taken the message."""
    if not 400 <= status < 500 or status == 408 or code in UNCLEAR:
        return None
    known = ERRORS.get(code or "") or HTTP_ERRORS.get(status)
    return known or (ErrorClass.RECIPIENT if code else None)
