"""Vonage's SMS API, the older of its two (developer.vonage.com/en/api/sms).

One form POST for each message, and HTTP 200 for nearly every answer: what was taken is said for
each part of a long text. Our reference travels as `client-ref`. Not here: `vonage_messages.py`.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import Field

from adapters.gateways import base, callbacks, checks, http, values, vonage_account
from adapters.gateways.base import Answer, ErrorClass, Inbound, Report, Status
from adapters.gateways.vonage_account import digits, of_ours, of_person

# developer.vonage.com/en/api-errors/sms: the `status` of an answer that takes nothing.
ERRORS = {
    code: error_class
    for error_class, codes in {
        ErrorClass.RETRY: "1 10",
        # 3, a wrong parameter, may be the number's. 29 (account in demo mode) depends on it.
        ErrorClass.RECIPIENT: "3 6 7 29 33",
        ErrorClass.CONTENT: "2 12 15 17",
        # 23: Vonage does not take our callback address, so it would take no message at all.
        ErrorClass.ACCOUNT: "4 8 9 11 14 23 32",
    }.items()
    for code in codes.split()
}
INTERNAL = "5"
"""An error while Vonage worked on the message: what a 5xx is elsewhere. It proves nothing."""
HTTP_ERRORS = dict.fromkeys((401, 403, 404), ErrorClass.ACCOUNT) | {429: ErrorClass.RETRY}

# developer.vonage.com/en/messaging/sms/guides/delivery-receipts; "deleted" is in records only.
STATUSES = {
    "accepted": Status.SENT,
    "buffered": Status.SENT,
    "delivered": Status.DELIVERED,
    "expired": Status.EXPIRED,
    "failed": Status.UNDELIVERED,
    "rejected": Status.REJECTED,
    "deleted": Status.FAILED,
    "unknown": Status.UNKNOWN,
}
# The `err-code` of a report, same page. 9, "illegal number", is how a recipient who has opted out
# shows: the submission itself is accepted (developer.vonage.com/en/opt-out-assist). Without a class
# are those that pass (1, 2, 7, 8, 15, 99).
REPORT_ERRORS = {
    code: error_class
    for error_class, codes in {
        ErrorClass.RECIPIENT: "3 4 5 11 12 13 14",
        ErrorClass.OPTOUT: "9",
        ErrorClass.CONTENT: "6 10",
    }.items()
    for code in codes.split()
}

VALIDITY = (20_000, 604_800_000)
"""Milliseconds, least and most, of `ttl`."""
LONGEST_CALLBACK = 100
_NAME = re.compile(r"[A-Za-z0-9_-]+")
Method = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]


class VonageSettings(vonage_account.AccountSettings):
    """Settings of a Vonage account that sends with the SMS API."""

    kind: Literal["vonage"] = "vonage"
    signature_method: Method = Field(
        "md5hash",
        description="How callbacks are signed, as the dashboard's API settings say: MD5 hash"
        " (Vonage's default), or an HMAC with MD5, SHA-1, SHA-256 or SHA-512",
    )
    currency: str = Field(
        "EUR",
        pattern="^[A-Z]{3}$",
        description="What the account is billed in; Vonage's prices do not say it",
    )
    base_url: str = Field(
        "https://rest.nexmo.com", pattern="^https?://[^/?#]", description="Where the API answers"
    )


class Vonage(vonage_account.Account):
    """A Vonage account, by the SMS API."""

    product = "SMS"
    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        reference="field",
        recovery=base.Recovery.BY_REFERENCE,
        polls=True,
        inbound=True,
        opt_outs=("report",),
        parts=True,
        validity=True,
        price="answer",
        max_text=1600,
    )

    def __init__(
        self,
        settings: VonageSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
    ) -> None:
        super().__init__(settings, settings.base_url, addresses, timeouts, requests_in_flight)
        self._settings = settings
        # Without our reference in it: that comes back as a field, which is signed.
        self._reports, _, _ = addresses.reports("").partition("?")

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit messages, each with a request of its own."""
        return await http.submit_each(messages, self._send, self._answer)

    async def _send(self, message: base.Outgoing) -> http.Reply:
        form = {
            "to": digits(message.to),
            "text": message.text,
            "type": "text" if message.encoding == "GSM-7" else "unicode",
            "client-ref": message.id,
            "callback": self._reports,
        }
        if message.sender:
            form["from"] = digits(message.sender)
        if message.deadline is not None:
            least, most = VALIDITY
            left = int((message.deadline - datetime.now(UTC)).total_seconds() * 1000)
            # Whether it is too late was the ledger's question, and has been asked.
            form["ttl"] = str(min(max(left, least), most))
        return await self.http.post_form("/sms/json", form)

    def _answer(self, message_id: str, reply: http.Reply) -> Answer:
        parts = values.objects(reply.fields.get("messages"))
        taken = [part for part in parts if _is_taken(part)] if reply.status == 200 else []
        if not taken:
            return _not_taken(message_id, reply, parts)
        prices = [values.amount(part.get("message-price")) for part in taken]
        price = sum((price for price in prices if price is not None), Decimal())
        return Answer(
            message_id,
            "accepted",
            values.text(taken[0].get("message-id")),
            segments=len(parts),
            price=None if None in prices else price,
            currency=None if None in prices else self._settings.currency,
            parts=tuple(_part(message_id, *each) for each in enumerate(parts, 1))
            if len(parts) > 1
            else (),
        )

    async def check(self, sender: str | None = None) -> list[str]:
        """Read the balance, and look at the form of the sender and of the callback address.

        Whose number it is is not asked: alphanumeric senders are in no list. Whether the signature
        secret and method are right shows with the first callback.
        """
        base_url, sender = self._settings.base_url, sender or self._settings.sender
        problems = [
            checks.receiver_problem(self.addresses, base_url),
            checks.sender_problem(sender, self._mend("sender")),
        ]
        if len(self._reports) > LONGEST_CALLBACK:
            problems.append(
                f"the address for reports has {len(self._reports)} characters and Vonage takes"
                f" {LONGEST_CALLBACK}: set SMS_PUBLIC_URL to a shorter one"
            )
        try:
            reply = await self.http.get("/account/get-balance")
            login, mend = "api_key or api_secret", self._mend("api_secret")
            if reply.status not in {401, 403}:
                mend = self._mend("base_url")
            problems.append(checks.account_problem(reply, base_url, login, mend, "value"))
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        return [problem for problem in problems if problem]

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    def polled(self, record: dict[str, Any]) -> Report:
        """Make a report of a record of the Reports API."""
        status, code, error_class = _meaning(record.get("status"), record.get("error_code"))
        message_id = values.text(record.get("message_id"))
        return Report(
            status=status,
            reference=values.text(record.get("client_ref")),
            gateway_message_id=message_id,
            recipient=of_person(values.text(record.get("to")) or "") or None,
            part=message_id,
            error_code=code,
            error_class=error_class,
            occurred_at=vonage_account.instant(record.get("date_finalized")),
            # No price: that of one part would be taken for the message's.
        )

    def verify(self, callback: base.Callback) -> bool:
        """Check `sig` (developer.vonage.com/en/getting-started/concepts/signing-messages).

        Signed are all other parameters, sorted, and the time: a signature counts for 5 minutes.
        """
        try:
            fields = _fields(callback)
        except base.CallbackError:
            return False
        timestamp = fields.get("timestamp", "")
        if not re.fullmatch("[0-9]{1,12}", timestamp):
            return False
        secret = self._settings.signature_secret.get_secret_value()
        computed = signature(fields, secret, self._settings.signature_method)
        genuine = callbacks.same(fields.get("sig", "").lower(), computed)
        return genuine and abs(time.time() - int(timestamp)) <= vonage_account.SIGNED_FOR

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read a delivery receipt or an inbound message; each part of a long one is its own."""
        fields = _fields(callback)
        message_id, person = fields.get("messageId"), fields.get("msisdn")
        if not message_id or not person:
            raise base.CallbackError(
                "Vonage callback without messageId and msisdn: is the address right?"
            )
        if "status" in fields:
            status, code, error_class = _meaning(fields["status"], fields.get("err-code"))
            report = Report(
                status=status,
                reference=fields.get("client-ref") or None,
                gateway_message_id=message_id,
                recipient=of_person(person),
                part=message_id,
                error_code=code,
                error_class=error_class,
                # `scts` names no time zone, so `occurred_at` stays open. No price: that of one
                # part would be taken for the message's, which the answer has told.
            )
            return [report], []
        if "text" in fields or "data" in fields:
            to = of_ours(fields.get("to", ""))
            return [], [Inbound(message_id, of_person(person), to, fields.get("text", ""))]
        raise base.CallbackError("Vonage callback with neither status nor text")


def signature(fields: Mapping[str, str], secret: str, method: Method) -> str:
    """Return the signature of a callback's parameters, in lower-case hex."""
    named = (f"&{name}={re.sub('[&=]', '_', fields[name])}" for name in sorted({*fields} - {"sig"}))
    signed = "".join(named)
    if method == "md5hash":
        return hashlib.md5((signed + secret).encode(), usedforsecurity=False).hexdigest()
    return hmac.digest(secret.encode(), signed.encode(), method).hex()


def _fields(callback: base.Callback) -> dict[str, str]:
    """Read the parameters of a callback: an account has them come as a query, a form or JSON."""
    if callback.method == "GET":
        query = urlsplit(callback.url).query.encode()
        found = callbacks.form(base.Callback("GET", callback.url, callback.headers, query))
    elif callback.body.startswith(b"{"):
        found = _json(callback.body)
    else:
        found = callbacks.form(callback)
    # A name with "&" or "=" could hide other parameters in what is signed; a name that comes twice
    # could have one value checked and the other read.
    if any(len(given) > 1 or not _NAME.fullmatch(name) for name, given in found.items()):
        raise base.CallbackError("a callback has parameters that Vonage does not send")
    return {name: given[0] for name, given in found.items()}


def _json(body: bytes) -> dict[str, list[str]]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise base.CallbackError("a callback is no JSON: is its address the right one?") from None
    if any(type(given) not in {str, int} for given in value.values()):
        raise base.CallbackError("a callback has parameters that Vonage does not send")
    return {name: [str(given)] for name, given in value.items()}


def _meaning(status: object, code: object) -> tuple[Status, str | None, ErrorClass | None]:
    """Status, error code and its class, of a report or a record."""
    error = values.text(code)
    error = None if error == "0" else error
    known = STATUSES.get(values.text(status) or "", Status.UNKNOWN)
    return known, error, REPORT_ERRORS.get(error or "")


def _is_taken(part: Mapping[str, Any]) -> bool:
    return part.get("status") == "0" and values.text(part.get("message-id")) is not None


def _code(part: Mapping[str, Any]) -> str | None:
    """The code of a part that was refused for certain."""
    code = values.text(part.get("status")) or ""
    return code if code.isdigit() and code not in {"0", INTERNAL} else None


def _not_taken(message_id: str, reply: http.Reply, parts: Sequence[dict[str, Any]]) -> Answer:
    error_class = HTTP_ERRORS.get(reply.status)
    if reply.status == 200 and parts and all(_code(part) for part in parts):
        error_class = ERRORS.get(_code(parts[0]) or "", ErrorClass.RECIPIENT)
    first = parts[0] if parts else {}
    return http.no_success(
        message_id,
        reply,
        error_class=error_class,
        code=values.text(first.get("status")),
        text=values.text(first.get("error-text")),
    )


def _part(message_id: str, number: int, part: dict[str, Any]) -> Report:
    """What an answer says of one of several parts."""
    if _is_taken(part):
        id_ = values.text(part["message-id"])
        return Report(Status.ACCEPTED, reference=message_id, gateway_message_id=id_, part=id_)
    code = _code(part)
    return Report(
        Status.FAILED if code else Status.UNKNOWN,
        reference=message_id,
        part=str(number),
        error_code=code or values.text(part.get("status")),
    )
