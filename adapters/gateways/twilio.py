"""Twilio Programmable Messaging, API 2010-04-01 (twilio.com/docs/messaging/api).

One form POST for each message; our reference travels in the query of its status callback. Twilio
knows no idempotency key: a message in doubt is looked up by numbers, time and text.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlencode

from pydantic import Field, SecretStr

from adapters.gateways import base, callbacks, checks, http, values
from adapters.gateways.base import Answer, ErrorClass, Inbound, Report, Status
from adapters.gateways.matching import Listed, lanes, match

STATUSES = {
    "accepted": Status.ACCEPTED,
    "scheduled": Status.ACCEPTED,
    "queued": Status.QUEUED,
    "sending": Status.QUEUED,
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.DELIVERED,
    "undelivered": Status.UNDELIVERED,
    "failed": Status.FAILED,
    "canceled": Status.FAILED,
    "partially_delivered": Status.UNKNOWN,
}

# Codes of refusals (21xxx, 20xxx) and of reports (30xxx): twilio.com/docs/api/errors/CODE. Twilio
# changes their meanings. What a report calls temporary (30001, 30003, 30008) is not here: nothing
# that was accepted is sent again. 30004, "blocked", may be the carrier's doing: no opt-out.
ERRORS = {
    code: error_class
    for error_class, codes in {
        ErrorClass.RETRY: "20429 21611",
        # 21408 (country not enabled) and 21608 (trial account) depend on the number: they must
        # not stop a run that reaches other numbers.
        ErrorClass.RECIPIENT: "21211 21214 21217 21408 21608 21612 21614 21635 30004 30005 30006",
        ErrorClass.OPTOUT: "21610",
        ErrorClass.CONTENT: "21212 21602 21603 21605 21606 21617 21618 21619 21659 21660 21661"
        " 21701 21703 21705 30007 30011 30012 30034",
        # 21609: Twilio does not take our callback address, so it would take no message at all.
        ErrorClass.ACCOUNT: "10001 20003 20005 20404 21609 30002 30010",
    }.items()
    for code in codes.split()
}
HTTP_ERRORS = dict.fromkeys((401, 403, 404), ErrorClass.ACCOUNT) | {429: ErrorClass.RETRY}
# Families of unlisted codes: 10xxx and 20xxx speak of the account and the API. The others speak of
# one message: CONTENT or ACCOUNT would let one odd number end the run for everybody.
ACCOUNT_FAMILIES = ("10", "20")

WAITS = {"21611": 60.0}
"""Seconds to wait after a RETRY without `Retry-After`, where 1 will not do: a full queue."""
VALIDITY = (1, 36_000)
"""Seconds, least and most, of `ValidityPeriod`."""
MOST_PAGES = 20
TEST_CREDENTIALS = "20008"
"""Twilio's test credentials may send to its magic numbers, and may read nothing."""


class TwilioSettings(base.GatewaySettings):
    """Settings of a Twilio account, or of a server that speaks as Twilio does."""

    kind: Literal["twilio"] = "twilio"
    account_sid: str = Field(
        pattern="^AC[0-9a-fA-F]{32}$", description="Account SID, from the Twilio console: AC…"
    )
    auth_token: SecretStr = Field(
        min_length=1, description="Auth token of the account; it also signs the callbacks"
    )
    base_url: str = Field(
        "https://api.twilio.com", pattern="^https?://[^/?#]", description="Where the API answers"
    )
    messaging_service_sid: str = Field(
        "",
        pattern="^(MG[0-9a-fA-F]{32})?$",
        description="Messaging service that picks the sender where none is named: MG…",
    )


class Twilio(http.HttpAdapter):
    """A Twilio account."""

    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        reference="callback_url",
        recovery=base.Recovery.BY_NUMBER,
        rate_unit="segments",
        polls=True,
        inbound=True,
        opt_outs=("answer", "report"),
        validity=True,
        price="poll",
        max_text=1600,
        inbound_reply='<?xml version="1.0" encoding="UTF-8"?><Response/>',
    )

    def __init__(
        self,
        settings: TwilioSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
    ) -> None:
        token = settings.auth_token.get_secret_value()
        super().__init__(
            settings.base_url,
            addresses,
            headers=http.basic_login(settings.account_sid, token),
            timeouts=timeouts,
            requests_in_flight=requests_in_flight,
        )
        self._settings = settings
        self._account = f"/2010-04-01/Accounts/{settings.account_sid}"

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit messages, each with a request of its own."""
        return await http.submit_each(messages, self._send, _answer)

    async def _send(self, message: base.Outgoing) -> http.Reply:
        form = {
            "To": message.to,
            "Body": message.text,
            "StatusCallback": self.addresses.reports(message.id),
        }
        if message.sender:
            form["From"] = message.sender
        if self._settings.messaging_service_sid:
            form["MessagingServiceSid"] = self._settings.messaging_service_sid
        if message.deadline is not None:
            least, most = VALIDITY
            left = int((message.deadline - datetime.now(UTC)).total_seconds())
            # Whether it is too late was the ledger's question, and has been asked.
            form["ValidityPeriod"] = str(min(max(left, least), most))
        return await self.http.post_form(f"{self._account}/Messages.json", form)

    async def check(self, sender: str | None = None) -> list[str]:
        """Read the account, and look at the form of the sender.

        Whose number it is is not asked: alphanumeric and test senders are in no list.
        """
        base_url, sender = self._settings.base_url, sender or self._settings.sender
        problems = [checks.receiver_problem(self.addresses, base_url)]
        if sender or not self._settings.messaging_service_sid:
            problems.append(checks.sender_problem(sender, self._mend("sender")))
        try:
            problems.append(self._account_problem(await self.http.get(f"{self._account}.json")))
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        return [problem for problem in problems if problem]

    def _account_problem(self, reply: http.Reply) -> str | None:
        status, base_url = values.text(reply.fields.get("status")), self._settings.base_url
        if values.text(reply.fields.get("code")) == TEST_CREDENTIALS:
            return None
        if reply.status == 200 and "sid" in reply.fields and status not in {None, "active"}:
            return f"the account is {status}: see the Twilio console"
        mend = self._mend("auth_token" if reply.status in {401, 403} else "base_url")
        return checks.account_problem(reply, base_url, "account_sid or auth_token", mend, "sid")

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[base.Finding]:
        """Look suspects up by numbers, time and text: proves acceptance, never absence."""
        pages = (self._list(*lane, since) for lane, since in lanes(suspects).items())
        entries = (entry for page in await asyncio.gather(*pages) for entry in page)
        return match(suspects, entries, self.timeouts.request)

    async def _list(self, to: str, sender: str, since: datetime) -> list[Listed]:
        """List what was sent to a number, as far as pages can be read: each entry proves itself."""
        # Not by DateSent: what is still queued has none. The list comes newest first.
        query = {"To": to, "PageSize": "1000", **({"From": sender} if sender else {})}
        path = f"{self._account}/Messages.json?{urlencode(query)}"
        entries: list[Listed] = []
        for _ in range(MOST_PAGES):
            page = await self.http.look_up(path) or {}
            found = [entry for entry in map(_listed, values.objects(page.get("messages"))) if entry]
            entries += found
            path = values.text(page.get("next_page_uri")) or ""
            if not path.startswith("/") or any(entry.created_at < since for entry in found):
                break
        return entries

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Fetch messages one by one."""
        paths = (f"{self._account}/Messages/{quote(sid)}.json" for sid in gateway_message_ids)
        found = await asyncio.gather(*map(self.http.look_up, paths))
        return [_polled(fields) for fields in found if fields and fields.get("status")]

    def verify(self, callback: base.Callback) -> bool:
        """Check `X-Twilio-Signature` (twilio.com/docs/usage/security).

        It signs the address, then each name and value of the form, sorted. A body of another kind
        has its digest in the address, as `bodySHA256`.
        """
        try:
            form = callbacks.form(callback)
        except base.CallbackError:
            return False
        signed = "".join(name + value for name in sorted(form) for value in sorted(set(form[name])))
        if digest := callbacks.query(callback, "bodySHA256"):
            if not callbacks.same(digest.lower(), hashlib.sha256(callback.body).hexdigest()):
                return False
            signed = ""
        token = self._settings.auth_token.get_secret_value()
        given = callback.headers.get("x-twilio-signature", "")
        return any(
            callbacks.same(given, callbacks.hmac_base64(token, address + signed, "sha1"))
            for address in callbacks.addresses(callback)
        )

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read a status callback or an inbound message; both are forms."""
        form = {name: found[0] for name, found in callbacks.form(callback).items()}
        if not (sid := form.get("MessageSid")):
            raise base.CallbackError("Twilio callback without MessageSid: is the address right?")
        if status := form.get("MessageStatus"):
            report = Report(
                status=STATUSES.get(status, Status.UNKNOWN),
                reference=callbacks.query(callback, "ref"),
                gateway_message_id=sid,
                recipient=form.get("To"),
                error_code=form.get("ErrorCode") or None,
                error_class=ERRORS.get(form.get("ErrorCode", "")),
                # RawDlrDoneDate names no time zone, so `occurred_at` stays open.
            )
            return [report], []
        if "Body" in form and "From" in form:
            return [], [Inbound(sid, form["From"], form.get("To", ""), form["Body"])]
        raise base.CallbackError("Twilio callback with neither MessageStatus nor From and Body")


def _answer(message_id: str, reply: http.Reply) -> Answer:
    fields = reply.fields
    sid, code = values.text(fields.get("sid")), values.text(fields.get("code"))
    if 200 <= reply.status < 300 and sid:
        segments = values.count(fields.get("num_segments"))
        price, currency = values.money(fields.get("price"), fields.get("price_unit"))
        return Answer(
            message_id, "accepted", sid, segments=segments, price=price, currency=currency
        )
    return http.no_success(
        message_id,
        reply,
        error_class=_refusal(reply.status, code),
        code=code,
        text=values.text(fields.get("message")),
        wait=WAITS.get(code or "", 1),
    )


def _refusal(status: int, code: str | None) -> ErrorClass | None:
    """Class of a refusal; None where Twilio does not say that it has not taken the message."""
    if not 400 <= status < 500 or status == 408:
        return None
    known = ERRORS.get(code or "") or HTTP_ERRORS.get(status)
    if known or not code:
        return known
    return ErrorClass.ACCOUNT if code.startswith(ACCOUNT_FAMILIES) else ErrorClass.RECIPIENT


def _polled(fields: dict[str, Any]) -> Report:
    code = values.text(fields.get("error_code"))
    price, currency = values.money(fields.get("price"), fields.get("price_unit"))
    return Report(
        status=STATUSES.get(str(fields["status"]), Status.UNKNOWN),
        gateway_message_id=values.text(fields.get("sid")),
        recipient=values.text(fields.get("to")),
        error_code=code,
        error_class=ERRORS.get(code or ""),
        occurred_at=values.mail_date(fields.get("date_updated")),
        price=price,
        currency=currency,
    )


def _listed(fields: dict[str, Any]) -> Listed | None:
    sid, created = values.text(fields.get("sid")), values.mail_date(fields.get("date_created"))
    if not sid or created is None or fields.get("direction") == "inbound":
        return None
    to, sender, body = (values.text(fields.get(name)) or "" for name in ("to", "from", "body"))
    return Listed(sid, to, sender, body, created)
