"""Telnyx messaging, API v2 (developers.telnyx.com/docs/messaging).

One JSON POST for each message; our reference travels in the query of its callback address, which
reports repeat, signed. It is the idempotency key, too, but a message in doubt is not sent again
under it: Telnyx promises to remember successful answers only.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, SecretStr, field_validator

from adapters.gateways import base, callbacks, checks, http, values
from adapters.gateways.base import Answer, ErrorClass, Inbound, Report, Status

# developers.telnyx.com/api-reference/messages/retrieve-a-message: `to[].status`
STATUSES = {
    "scheduled": Status.ACCEPTED,
    "queued": Status.QUEUED,
    "sending": Status.QUEUED,
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.DELIVERED,
    "delivery_failed": Status.UNDELIVERED,
    "sending_failed": Status.FAILED,
    "expired": Status.EXPIRED,
    "delivery_unconfirmed": Status.UNKNOWN,
}

# developers.telnyx.com/docs/messaging/messages/error-codes: refusals and reports share the codes.
# Those that may pass (40002, 40004, 40006, 40011, 40016, 40018) have no class in reports.
ERRORS = {
    code: error_class
    for error_class, codes in {
        # 40318: the queue is full.
        ErrorClass.RETRY: "10011 40318",
        # 40309, a country that the profile does not allow, depends on the number.
        ErrorClass.RECIPIENT: "10001 10002 10016 40001 40008 40012 40301 40309 40310 40319",
        ErrorClass.OPTOUT: "40300",
        ErrorClass.CONTENT: "40003 40009 40010 40013 40015 40017 40100 40150 40151 40302 40304"
        " 40305 40306 40308 40315 40316 40317 40320 40321 40322 40328 40329",
        # 40333, with HTTP 429: the spend limit of the day is reached.
        ErrorClass.ACCOUNT: "10005 10009 10010 20002 20006 20012 20013 20014 20015 20016 20017"
        " 20100 40311 40312 40313 40314 40333",
    }.items()
    for code in codes.split()
}
EXPIRED = ("40005", "40014")
HTTP_ERRORS = dict.fromkeys((401, 402, 404), ErrorClass.ACCOUNT) | {429: ErrorClass.RETRY}
IN_DOUBT = (408, 409, 422)
"""409: another request with this idempotency key is under way. 422 without a listed code may mean
that this key was taken with another text or address."""
ACCOUNT_FAMILY = "20"

TOLERANCE = 300
"""Seconds that the time of a signature may be off (as in Telnyx's SDKs)."""


class TelnyxSettings(base.GatewaySettings):
    """Settings of a Telnyx account, or of a server that speaks as Telnyx does."""

    kind: Literal["telnyx"] = "telnyx"
    api_key: SecretStr = Field(min_length=1, description="API key, from the Telnyx portal: KEY…")
    public_key: str = Field(
        description="Public key that Telnyx signs with, from the portal (Keys & Credentials)"
    )
    base_url: str = Field(
        "https://api.telnyx.com", pattern="^https?://[^/?#]", description="Where the API answers"
    )
    messaging_profile_id: str = Field(
        "",
        pattern="^([0-9a-fA-F-]{36})?$",
        description="Messaging profile: needed for a name as sender, and for a pool of numbers",
    )

    @field_validator("public_key")
    @classmethod
    def _a_key(cls, value: str) -> str:
        if len(_decoded(value)) != 32:
            raise ValueError("this is no public key: 44 characters of base64 from the portal")
        return value


class Telnyx(http.HttpAdapter):
    """A Telnyx account."""

    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        reference="callback_url",
        polls=True,
        inbound=True,
        opt_outs=("answer", "report"),
        price="report",
        # Ten segments; a longer text is refused with 40302.
        max_text=1530,
    )

    def __init__(
        self,
        settings: TelnyxSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
    ) -> None:
        super().__init__(
            settings.base_url,
            addresses,
            headers={"authorization": f"Bearer {settings.api_key.get_secret_value()}"},
            timeouts=timeouts,
            requests_in_flight=requests_in_flight,
        )
        self._settings = settings
        self._public_key = Ed25519PublicKey.from_public_bytes(_decoded(settings.public_key))

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit messages, each with a request of its own."""
        return await http.submit_each(messages, self._send, _answer)

    async def _send(self, message: base.Outgoing) -> http.Reply:
        # The same bytes each time it is sent: with others, Telnyx would not know it again.
        body = {
            "to": message.to,
            "text": message.text,
            "type": "SMS",
            # Telnyx' GSM-7 is smaller than the standard's; asking for it refuses a €.
            "encoding": "ucs2" if message.encoding == "UCS-2" else "auto",
            "webhook_url": self.addresses.reports(message.id),
        }
        if message.sender:
            body["from"] = message.sender
        if self._settings.messaging_profile_id:
            body["messaging_profile_id"] = self._settings.messaging_profile_id
        headers = {"content-type": "application/json", "idempotency-key": message.id}
        return await self.http.post("/v2/messages", orjson.dumps(body), headers)

    async def check(self, sender: str | None = None) -> list[str]:
        """Read the balance, and look at the form of the sender. Whose number it is is not asked."""
        base_url, sender = self._settings.base_url, sender or self._settings.sender
        profile = self._settings.messaging_profile_id
        problems = [checks.receiver_problem(self.addresses, base_url)]
        if sender or not profile:
            problems.append(checks.sender_problem(sender, self._mend("sender")))
        if sender and not sender.removeprefix("+").isdecimal() and not profile:
            mend = self._mend("messaging_profile_id")
            problems.append(f"a name as sender needs a messaging profile: {mend}")
        try:
            reply = await self.http.get("/v2/balance")
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        else:
            mend = self._mend("api_key" if reply.status in {401, 403} else "base_url")
            problems.append(
                checks.account_problem(reply, base_url, "api_key", mend, "data.balance")
            )
        return [problem for problem in problems if problem]

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[base.Finding]:
        """Telnyx lists no messages: what is in doubt stays so until a report comes."""
        return []

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Fetch messages one by one."""
        paths = (f"/v2/messages/{quote(uuid, safe='')}" for uuid in gateway_message_ids)
        found = await asyncio.gather(*map(self.http.look_up, paths))
        reports = (_report(_object(fields.get("data"))) for fields in found if fields)
        return [report for report in reports if report]

    def verify(self, callback: base.Callback) -> bool:
        """Check the Ed25519 signature over time and body, and that the time is now.

        Source: developers.telnyx.com/docs/messaging/messages/receiving-webhooks.
        """
        moment = callback.headers.get("telnyx-timestamp", "")
        if not (moment.isascii() and moment.isdecimal() and len(moment) < 13):
            return False
        if abs(time.time() - int(moment)) > TOLERANCE:
            return False
        signature = _decoded(callback.headers.get("telnyx-signature-ed25519", ""))
        try:
            self._public_key.verify(signature, f"{moment}|".encode() + callback.body)
        except InvalidSignature:
            return False
        return True

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read an event about a message, or an inbound one; other events say nothing here."""
        try:
            event = _object(_object(orjson.loads(callback.body)).get("data"))
        except orjson.JSONDecodeError:
            raise base.CallbackError(
                "Telnyx callback that is no JSON: is the address right?"
            ) from None
        kind, payload = event.get("event_type"), _object(event.get("payload"))
        if kind == "message.received":
            return [], [_inbound(payload)]
        if kind in {"message.sent", "message.finalized"}:
            # Our address as Telnyx signed it: the one that was called may be of another message.
            address = values.text(payload.get("webhook_url")) or ""
            reference = callbacks.parameter(address, "ref")
            report = _report(payload, reference, values.iso_date(event.get("occurred_at")))
            if report is None:
                raise base.CallbackError("Telnyx event about a message, without id or status")
            return [report], []
        if not isinstance(kind, str):
            raise base.CallbackError("Telnyx callback without event_type: is the address right?")
        return [], []


def _answer(message_id: str, reply: http.Reply) -> Answer:
    fields = _object(reply.fields.get("data"))
    uuid = values.text(fields.get("id"))
    if 200 <= reply.status < 300 and uuid:
        price, currency = _money(fields.get("cost"))
        return Answer(
            message_id,
            "accepted",
            uuid,
            segments=values.count(fields.get("parts")),
            price=price,
            currency=currency,
        )
    errors = values.objects(reply.fields.get("errors"))
    code = _code(errors)
    texts = (values.text(errors[0].get(name)) for name in ("title", "detail")) if errors else ()
    return http.no_success(
        message_id,
        reply,
        error_class=_refusal(reply.status, code),
        code=code,
        text=": ".join(filter(None, texts)),
    )


def _refusal(status: int, code: str | None) -> ErrorClass | None:
    """Class of a refusal; None where Telnyx does not say that it has not taken the message."""
    if not 400 <= status < 500:
        return None
    known = ERRORS.get(code or "") or HTTP_ERRORS.get(status)
    if known or status in IN_DOUBT:
        return known
    if code is None:
        return ErrorClass.ACCOUNT if status == 403 else None
    return ErrorClass.ACCOUNT if code.startswith(ACCOUNT_FAMILY) else ErrorClass.RECIPIENT


def _report(
    payload: dict[str, Any], reference: str | None = None, occurred_at: datetime | None = None
) -> Report | None:
    """Read a message as events and look-ups show it; None where it has no id or status."""
    uuid = values.text(payload.get("id"))
    to = next(iter(values.objects(payload.get("to"))), {})
    word = values.text(to.get("status"))
    if not uuid or not word:
        return None
    code = _code(values.objects(payload.get("errors")))
    status, error_class = STATUSES.get(word, Status.UNKNOWN), ERRORS.get(code or "")
    if code in EXPIRED and status in {Status.UNDELIVERED, Status.FAILED}:
        status = Status.EXPIRED
    price, currency = _money(payload.get("cost"))
    return Report(
        status=status,
        reference=reference,
        gateway_message_id=uuid,
        recipient=values.text(to.get("phone_number")),
        error_code=code,
        # Nothing that was accepted is sent again.
        error_class=None if error_class is ErrorClass.RETRY else error_class,
        occurred_at=occurred_at or values.iso_date(payload.get("completed_at")),
        price=price,
        currency=currency,
    )


def _inbound(payload: dict[str, Any]) -> Inbound:
    uuid = values.text(payload.get("id"))
    sender = values.text(_object(payload.get("from")).get("phone_number"))
    to = next(iter(values.objects(payload.get("to"))), {})
    if not uuid or not sender:
        raise base.CallbackError("Telnyx event about an inbound message, without id or sender")
    recipient = values.text(to.get("phone_number")) or ""
    return Inbound(uuid, sender, recipient, values.text(payload.get("text")) or "")


def _code(errors: Iterable[dict[str, Any]]) -> str | None:
    """Return the first code that is known, or else the first."""
    codes = [code for error in errors if (code := values.text(error.get("code")))]
    return next((code for code in codes if code in ERRORS), codes[0] if codes else None)


def _money(cost: object) -> tuple[Decimal | None, str | None]:
    """Read `{"amount": "0.0051", "currency": "USD"}`; the amount may be a number."""
    amount = _object(cost).get("amount")
    price = str(amount) if isinstance(amount, float) else amount
    return values.money(price, _object(cost).get("currency"))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _decoded(text: str) -> bytes:
    """Decode base64; nothing where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
