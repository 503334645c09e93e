"""Sinch SMS (XMS), version 1 (developers.sinch.com/docs/sms/api-reference).

One request is one sender and one deadline for many numbers, each with a text of its own where the
texts differ. Sinch gives one id to all of them: a message is known by its window and its number.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlencode

import orjson
from pydantic import Field, SecretStr

from adapters.gateways import base, callbacks, checks, halving, http, values
from adapters.gateways.base import Answer, ErrorClass, Finding, Inbound, Report, Status
from adapters.gateways.matching import CLOCK_SKEW

# developers.sinch.com/docs/sms/api-reference/sms/tag/Delivery-reports. Deleted may be an invalid
# number or one that has opted out, and does not say which: no opt-out is read out of it.
STATUSES = {
    "queued": Status.QUEUED,
    "dispatched": Status.SENT,
    "delivered": Status.DELIVERED,
    "failed": Status.UNDELIVERED,
    "expired": Status.EXPIRED,
    "rejected": Status.REJECTED,
    "deleted": Status.REJECTED,
    "aborted": Status.FAILED,
    "cancelled": Status.FAILED,
    "unknown": Status.UNKNOWN,
}
EXPIRED_CODE = "406"
"""Code of a message that is aborted because it expired at Sinch."""

# Codes in reports: 4xx from the page above, the others from developers.sinch.com/docs/sms/smpp/
# error-codes, where they are called permanent. Sinch calls 404 temporary: it has no class, because
# nothing that was accepted is sent again. 402 and 408 do not say whose fault it was.
REPORT_ERRORS = {
    code: error_class
    for error_class, codes in {
        # 412, no such region for this account, depends on the number.
        ErrorClass.RECIPIENT: "61 100 150 151 152 412",
        ErrorClass.CONTENT: "1 60 62 405 410 411",
        ErrorClass.ACCOUNT: "413",
    }.items()
    for code in codes.split()
}
# Codes of refusals: developers.sinch.com/docs/sms/api-reference/status-codes. The syntax_… codes
# are not here: they are about a number as often as about anything else.
ERRORS = {
    "missing_callback_url": ErrorClass.ACCOUNT,
    "unknown_campaign": ErrorClass.CONTENT,
}
HTTP_ERRORS = {401: ErrorClass.ACCOUNT, 404: ErrorClass.ACCOUNT, 429: ErrorClass.RETRY}

LONGEST_VALUE = 160
"""Characters of a value that stands for `${…}`: the limit of earlier editions of the reference,
which later ones do not mention. Longer texts are made of several."""
MOST_VALUES = 1000
"""Values in one request. The answer repeats them all, and must fit into `http.LARGEST_BODY`."""
VALIDITY = (timedelta(seconds=10), timedelta(days=3) - CLOCK_SKEW)
"""Least and most between now and `expire_at`; Sinch's own limit is 3 days."""
MOST_PAGES = 100
SIGNED_WITHIN = 300
"""Seconds that a signature is good for."""


class SinchSettings(base.GatewaySettings):
    """Settings of a Sinch service plan, or of a server that speaks as Sinch does."""

    kind: Literal["sinch"] = "sinch"
    service_plan_id: str = Field(
        pattern="^[A-Za-z0-9_-]+$", description="Service plan ID, from the Sinch dashboard"
    )
    api_token: SecretStr = Field(min_length=1, description="API token of the service plan")
    callback_secret: SecretStr = Field(
        min_length=1,
        description="Secret that Sinch signs callbacks with (HMAC); Sinch's support switches it on",
    )
    base_url: str = Field(
        "https://us.sms.api.sinch.com",
        pattern="^https?://[^/?#]",
        description="Where the API answers: the address of the plan's region",
    )


class Sinch(http.HttpAdapter):
    """A Sinch service plan.

    It is not polled: all that can be asked for by the id of a request is a report on its thousand
    recipients, which would be stored again for each one that is still open. Sinch repeats a
    callback that was not taken for 22 hours.
    """

    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        batch="variables",
        max_batch=1000,
        reference="submission",
        recovery=base.Recovery.BY_REFERENCE,
        rate_unit="messages",
        inbound=True,
        validity=True,
        max_text=1600,
    )

    def __init__(
        self,
        settings: SinchSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
    ) -> None:
        super().__init__(
            settings.base_url,
            addresses,
            headers={"authorization": f"Bearer {settings.api_token.get_secret_value()}"},
            timeouts=timeouts,
            requests_in_flight=requests_in_flight,
        )
        self._settings = settings
        self._batches = f"/xms/v1/{quote(settings.service_plan_id)}/batches"

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit a group in as few requests as Sinch's limits allow; mostly that is one."""
        groups = (
            halving.submit_group(group, self._send, _answers, self.timeouts.request)
            for group in _within_limits(messages)
        )
        return [answer for group in await asyncio.gather(*groups) for answer in group]

    async def _send(self, messages: Sequence[base.Outgoing], until: float) -> http.Reply:
        first = messages[0]
        request: dict[str, Any] = {
            "type": "mt_text",
            "to": [_digits(message.to) for message in messages],
            **_texts(messages),
            "delivery_report": "per_recipient",
            "callback_url": self.addresses.reports_of(first.submission),
            "client_reference": first.submission,
        }
        if first.sender:
            request["from"] = first.sender
        if first.deadline is not None:
            now, (least, most) = datetime.now(UTC), VALIDITY
            # Whether it is too late was the ledger's question, and has been asked.
            request["expire_at"] = _iso(min(max(first.deadline, now + least), now + most))
        return await self.http.post_json(self._batches, request, until)

    async def check(self, sender: str | None = None) -> list[str]:
        """List a batch, and look at the form of the sender; whose number it is cannot be asked."""
        base_url, sender = self._settings.base_url, sender or self._settings.sender
        problems = [
            checks.receiver_problem(self.addresses, base_url),
            checks.sender_problem(sender, self._mend("sender")),
        ]
        try:
            reply = await self.http.get(f"{self._batches}?page_size=1")
            mend = self._mend("api_token" if reply.status in {401, 403} else "base_url")
            login = "service_plan_id, api_token or the region in base_url"
            problems.append(checks.account_problem(reply, base_url, login, mend, "count"))
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        return [problem for problem in problems if problem]

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[Finding]:
        """Look windows up by our reference: a batch proves that its numbers were accepted.

        A window without one may have one later: Sinch does not say when its list is complete.
        """
        windows: dict[str, list[base.Suspect]] = {}
        for suspect in suspects:
            if suspect.submission:
                windows.setdefault(suspect.submission, []).append(suspect)
        found = await asyncio.gather(*(self._window(*window) for window in windows.items()))
        return [finding for window in found for finding in window]

    async def _window(self, submission: str, suspects: Sequence[base.Suspect]) -> list[Finding]:
        sought = {_digits(suspect.to): suspect for suspect in suspects}
        since = min(suspect.submitted_after for suspect in suspects) - CLOCK_SKEW
        # One a page: with a thousand long texts in it, it is as much as is read.
        query = {"client_reference": submission, "start_date": _iso(since), "page_size": "1"}
        findings: list[Finding] = []
        for page in range(MOST_PAGES):
            path = f"{self._batches}?{urlencode(query | {'page': str(page)})}"
            batches = values.objects((await self.http.look_up(path) or {}).get("batches"))
            for batch in batches:
                findings += _found_in(batch, submission, sought)
            if not batches or not sought:
                break
        return findings

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Return nothing: see the class."""
        return []

    def verify(self, callback: base.Callback) -> bool:
        """Check `X-Sinch-Webhook-Signature`: HMAC-SHA256 of body, nonce and time.

        Source: the official SDKs (github.com/sinch/sinch-sdk-python, …/sinch-sdk-dotnet). The
        address is not signed, so nothing is read out of it.
        """
        header = "x-sinch-webhook-signature"
        nonce, at = (
            callback.headers.get(f"{header}-{name}", "") for name in ("nonce", "timestamp")
        )
        if callback.headers.get(f"{header}-algorithm", "HmacSHA256") != "HmacSHA256":
            return False
        if not (nonce and at.isascii() and at.isdigit()):
            return False
        if abs(datetime.now(UTC).timestamp() - int(at)) > SIGNED_WITHIN:
            return False
        try:
            signed = f"{callback.body.decode()}.{nonce}.{at}"
        except UnicodeDecodeError:
            return False
        secret = self._settings.callback_secret.get_secret_value()
        given = callback.headers.get(header, "")
        return callbacks.same(given, callbacks.hmac_base64(secret, signed, "sha256"))

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read the report of one recipient, or an inbound message."""
        try:
            fields = orjson.loads(callback.body)
        except orjson.JSONDecodeError:
            fields = None
        if not isinstance(fields, dict):
            raise base.CallbackError(
                "a Sinch callback that is no JSON object: is the address right?"
            )
        kind = values.text(fields.get("type"))
        if kind == "recipient_delivery_report_sms":
            return [_report(fields)], []
        if kind == "mo_text":
            return [], [_inbound(fields)]
        raise base.CallbackError(
            "a Sinch callback that is neither the delivery report of one recipient"
            " (recipient_delivery_report_sms) nor a text (mo_text)"
        )


def _within_limits(messages: Sequence[base.Outgoing]) -> Iterator[Sequence[base.Outgoing]]:
    """Part a group so that each request holds texts of as many values, and not too many of them.

    A recipient without a value that others have would get no message.
    """
    if _is_one_text(messages):
        yield messages
        return
    alike: dict[int, list[base.Outgoing]] = {}
    for message in messages:
        alike.setdefault(len(_values(message.text)), []).append(message)
    for number, group in alike.items():
        size = max(MOST_VALUES // number, 1)
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _is_one_text(messages: Sequence[base.Outgoing]) -> bool:
    """Whether one body does for all. `${` in it would be taken for a parameter."""
    texts = {message.text for message in messages}
    return len(texts) == 1 and "${" not in messages[0].text


def _values(text: str) -> list[str]:
    """Part a text into values that Sinch takes; nobody says how it counts characters past U+FFFF.

    Joined again they are the text, so they may be parted anywhere.
    """
    size = LONGEST_VALUE if max(text, default="") <= "\uffff" else LONGEST_VALUE // 2
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def _texts(messages: Sequence[base.Outgoing]) -> dict[str, Any]:
    """The fields with the texts of messages that all have as many values."""
    if _is_one_text(messages):
        return {"body": messages[0].text}
    parted = {_digits(message.to): _values(message.text) for message in messages}
    names = [f"text{place}" for place in range(len(_values(messages[0].text)))]
    return {
        "body": "".join(f"${{{name}}}" for name in names),
        "parameters": {
            name: {number: pieces[place] for number, pieces in parted.items()}
            for place, name in enumerate(names)
        },
    }


def _answers(messages: Sequence[base.Outgoing], reply: http.Reply) -> list[Answer]:
    """What a reply says of each message: Sinch takes a request as a whole, or nothing of it."""
    fields = reply.fields
    batch, code = values.text(fields.get("id")), values.text(fields.get("code"))
    if 200 <= reply.status < 300 and batch:
        return [Answer(message.id, "accepted", batch) for message in messages]
    error_class, text = _refusal(reply.status, code), values.text(fields.get("text"))
    return [
        http.no_success(message.id, reply, error_class=error_class, code=code, text=text)
        for message in messages
    ]


def _refusal(status: int, code: str | None) -> ErrorClass | None:
    """Class of a refusal; None where Sinch does not say that it has not taken the request."""
    if not 400 <= status < 500 or status == 408:
        return None
    if status in HTTP_ERRORS:
        return HTTP_ERRORS[status]
    if code:
        return ERRORS.get(code, ErrorClass.RECIPIENT)
    return ErrorClass.ACCOUNT if status == 403 else None


def _found_in(
    batch: dict[str, Any], submission: str, sought: dict[str, base.Suspect]
) -> Iterator[Finding]:
    """Find suspects among the recipients of a batch, and take them out of those that are sought."""
    batch_id, recipients = values.text(batch.get("id")), batch.get("to")
    # Asked again what was asked for: a server that passes over the filter lists strangers.
    ours = batch_id and values.text(batch.get("client_reference")) == submission
    if not ours or not isinstance(recipients, list):
        return
    for recipient in recipients:
        if suspect := sought.pop(_digits(values.text(recipient) or ""), None):
            yield Finding(suspect.id, "accepted", batch_id)


def _report(fields: dict[str, Any]) -> Report:
    recipient, batch = values.text(fields.get("recipient")), values.text(fields.get("batch_id"))
    code, status = values.text(fields.get("code")), values.text(fields.get("status")) or ""
    if not (recipient and batch and status):
        raise base.CallbackError("a Sinch delivery report without batch_id, recipient or status")
    expired = code == EXPIRED_CODE
    return Report(
        status=Status.EXPIRED if expired else STATUSES.get(status.lower(), Status.UNKNOWN),
        submission=values.text(fields.get("client_reference")),
        recipient=f"+{_digits(recipient)}",
        batch_id=batch,
        error_code=None if code in {"0", "400", "401"} else code,
        error_class=REPORT_ERRORS.get(code or ""),
        occurred_at=values.iso_date(fields.get("at")),
    )


def _inbound(fields: dict[str, Any]) -> Inbound:
    found = (values.text(fields.get(name)) for name in ("id", "from", "to", "body"))
    mo_id, sender, recipient, body = found
    if not (mo_id and sender):
        raise base.CallbackError("a Sinch mo_text without id or from")
    return Inbound(mo_id, values.e164(sender), values.e164(recipient or ""), body or "")


def _digits(number: str) -> str:
    return number.removeprefix("+")


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
