"""Infobip SMS, version 3 (infobip.com/docs/api/channels/sms).

One request carries any messages, and each goes under our own id, which Infobip takes only once: so
a message in doubt may be sent again. Infobip signs nothing: a token in the callback address does.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

import orjson
from pydantic import Field, SecretStr

from adapters.gateways import base, callbacks, checks, halving, http, values
from adapters.gateways.base import Answer, ErrorClass, Finding, Inbound, Report, Status

# infobip.com/docs/developer-resources/api-fundamentals/message-status-codes: these by name, the
# others by their group. DELIVERED_TO_OPERATOR is called intermediate there.
STATUSES = {
    "PENDING_ACCEPTED": Status.QUEUED,
    "PENDING_WAITING_DELIVERY": Status.SENT,
    "PENDING_ENROUTE": Status.SENT,
    "DELIVERED_TO_OPERATOR": Status.SENT,
    "EXPIRED_DLR_UNKNOWN": Status.UNKNOWN,
    # It speaks of a second request: the first one's message has the same id, and goes its way.
    "REJECTED_DUPLICATE_MESSAGE_ID": Status.ACCEPTED,
}
GROUPS = {
    "ACCEPTED": Status.ACCEPTED,
    "PENDING": Status.QUEUED,
    "DELIVERED": Status.DELIVERED,
    "UNDELIVERABLE": Status.UNDELIVERED,
    "EXPIRED": Status.EXPIRED,
    "REJECTED": Status.REJECTED,
}
REJECTED = "REJECTED"
DUPLICATE = "REJECTED_DUPLICATE_MESSAGE_ID"
NO_ERROR = "NO_ERROR"

# Statuses of messages that are not taken (REJECTED_…), from the page above, and errors of those
# that were (EC_…): …/api-fundamentals/error-code-reference. By name, because the numbers of the two
# overlap. The flag `permanent` decides nothing: EC_TEMPORARY_HANDSET_FAILURE has it.
ERRORS = {
    name: error_class
    for error_class, names in {
        # A full hour of messages to this number (REJECTED_FLOODING_FILTER) is not "later": the
        # next attempt would be refused as well.
        ErrorClass.RECIPIENT: "REJECTED_NETWORK REJECTED_PREFIX_MISSING REJECTED_DESTINATION"
        " REJECTED_DESTINATION_BLOCKLISTED REJECTED_DESTINATION_NOT_REGISTERED MISSING_TO"
        " REJECTED_FLOODING_FILTER SIGNALS_BLOCKED UNDELIVERABLE_REJECTED_PLATFORM"
        " EC_UNKNOWN_SUBSCRIBER EC_ILLEGAL_SUBSCRIBER EC_TELESERVICE_NOT_PROVISIONED"
        " EC_ILLEGAL_EQUIPMENT EC_DEST_ADDRESS_UNABLE_TO_RECEIVE_SMS"
        " EC_INVALID_REQUEST_DESTINATION EC_IMSI_BLACKLISTED EC_BLACKLISTED_DESTINATIONADDRESS"
        " EC_DEACTIVATED_LIST EC_OPERATOR_NOT_FOUND EC_DESTINATION_NOT_SMS_PROVISIONED"
        " EC_DEST_ADDRESS_SUSPENDED EC_DESTINATION_BLOCKED_BY_OPERATOR",
        ErrorClass.OPTOUT: "REJECTED_DND EC_DEST_ADDRESS_BLACKLISTED EC_CONTENT_BLOCKED"
        " EC_SC_BLOCKED_BY_END_USER",
        ErrorClass.CONTENT: "REJECTED_SOURCE REJECTED_SENDER REJECTED_INVALID_UDH"
        " REJECTED_MESSAGE_TOO_LONG EC_MSG_TEXT_TOO_LONG EC_INVALID_SOURCE_ADDRESS"
        " EC_BLACKLISTED_SENDERADDRESS EC_REJECTED_SPAM_BY_OPERATOR EC_CAMPAIGNID_NOT_PROVISIONED"
        " EC_INVALID_GLOBAL_CAMPAIGN_ID EC_CAMPAIGN_ID_REJECTED EC_SC_NOT_PROVISIONED"
        " EC_SC_EXPIRED EC_SC_BLOCKED EC_TF_NUMBER_NOT_VERIFIED",
        ErrorClass.ACCOUNT: "REJECTED_NOT_ENOUGH_CREDITS REJECTED_PREPAID_PACKAGE_EXPIRED"
        " REJECTED_ROUTE_NOT_AVAILABLE EC_ACCOUNT_ACCESS_DENIED EC_MONTHLY_LIMIT_REACHED",
        # "Retry the submission."
        ErrorClass.RETRY: "REJECTED_SYSTEM_ERROR",
    }.items()
    for name in names.split()
}
HTTP_ERRORS = dict.fromkeys((401, 403, 404), ErrorClass.ACCOUNT) | {429: ErrorClass.RETRY}

SYSTEM_ERROR_WAIT = 60.0
"""Seconds to wait after REJECTED_SYSTEM_ERROR, which says nothing of how long."""
VALIDITY = (1, 172_800)
"""Seconds, least and most, of `validityPeriod`."""
MOST_IDS = 60
"""Our ids (32 characters) in one look-up, whose list may have 2,048 characters."""
LOGS = "/sms/3/logs"
"""Not /sms/3/reports, which gives each report out once only."""


class InfobipSettings(base.GatewaySettings):
    """Settings of an Infobip account, or of a server that speaks as Infobip does."""

    kind: Literal["infobip"] = "infobip"
    api_key: SecretStr = Field(
        min_length=1,
        description="API key with the scopes sms:message:send and sms:logs:read, or sms:manage",
    )
    callback_token: SecretStr = Field(
        min_length=16,
        description="A secret of your own making that protects the callback addresses",
    )
    base_url: str = Field(
        "https://api.infobip.com",
        pattern="^https?://[^/?#]",
        description="Where the API answers: the account's own address, https://….api.infobip.com",
    )


class Infobip(http.HttpAdapter):
    """An Infobip account.

    Nobody says how long Infobip remembers message ids: an hour is assumed, in which a sender that
    crashed is noticed many times over. Infobip asks for no fewer than thousands of messages a
    request; 500 is the largest window.
    """

    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        batch="distinct",
        max_batch=500,
        reference="field",
        recovery=base.Recovery.RESEND,
        resend_window=timedelta(hours=1),
        rate_unit="messages",
        polls=True,
        callbacks="token",
        inbound=True,
        opt_outs=("answer", "report"),
        validity=True,
        price="report",
        max_text=1600,
    )

    def __init__(
        self,
        settings: InfobipSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
    ) -> None:
        super().__init__(
            settings.base_url,
            addresses,
            headers={"authorization": f"App {settings.api_key.get_secret_value()}"},
            timeouts=timeouts,
            requests_in_flight=requests_in_flight,
        )
        self._settings = settings

    @property
    def inbound_url(self) -> str:
        """The address for replies; an operator enters it at Infobip."""
        return self._with_token(self.addresses.inbound)

    def _with_token(self, address: str) -> str:
        return callbacks.with_token(address, self._settings.callback_token.get_secret_value())

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit any messages in one request."""
        return await halving.submit_group(messages, self._send, _answers, self.timeouts.request)

    async def _send(self, messages: Sequence[base.Outgoing], until: float) -> http.Reply:
        request = {
            "messages": [self._entry(message) for message in messages],
            "options": {"includeSmsCountInResponse": True},
        }
        return await self.http.post_json("/sms/3/messages", request, until)

    def _entry(self, message: base.Outgoing) -> dict[str, Any]:
        # Messages with one text do not share an entry, because an entry has one callback address:
        # Infobip puts a hundred reports to an address into one callback, more than a receiver of
        # small callbacks takes, and with the token of one message one could report on all of them.
        address = self._with_token(self.addresses.reports(message.id))
        entry: dict[str, Any] = {
            "destinations": [{"to": _digits(message), "messageId": message.id}],
            "content": {"text": message.text},
            "webhooks": {"delivery": {"url": address}, "contentType": "application/json"},
        }
        if message.sender:
            entry["sender"] = message.sender
        if message.deadline is not None:
            least, most = VALIDITY
            left = int((message.deadline - datetime.now(UTC)).total_seconds())
            # Whether it is too late was the ledger's question, and has been asked.
            seconds = min(max(left, least), most)
            entry["options"] = {"validityPeriod": {"amount": seconds, "timeUnit": "SECONDS"}}
        return entry

    async def check(self, sender: str | None = None) -> list[str]:
        """Read the logs, and look at the form of the sender; whose it is cannot be asked."""
        base_url, sender = self._settings.base_url, sender or self._settings.sender
        problems = [
            checks.receiver_problem(self.addresses, base_url),
            checks.sender_problem(sender, self._mend("sender")),
        ]
        try:
            reply = await self.http.get(f"{LOGS}?limit=1")
            mend = self._mend("api_key" if reply.status in {401, 403} else "base_url")
            lacks = " or lacks the scope sms:logs:read" if reply.status == 403 else ""
            login = f"api_key{lacks}"
            problems.append(checks.account_problem(reply, base_url, login, mend, "results"))
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        return [problem for problem in problems if problem]

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[Finding]:
        """Look our ids up in the logs (48 hours): one that is there was accepted.

        What is not found may be sent again (`resend_window`).
        """
        logs = await self._logs([suspect.id for suspect in suspects])
        ids = {values.text(entry.get("messageId")) for entry in logs}
        return [Finding(s.id, "accepted", s.id) for s in suspects if s.id in ids]

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Read messages in the logs, which go back 48 hours."""
        logs = await self._logs(gateway_message_ids)
        return [_report(entry, "destination") for entry in logs if _status_name(entry)]

    async def _logs(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        paths = (
            f"{LOGS}?{urlencode({'messageId': ','.join(some), 'limit': '1000'})}"
            for some in (ids[start : start + MOST_IDS] for start in range(0, len(ids), MOST_IDS))
        )
        pages = await asyncio.gather(*map(self.http.look_up, paths))
        return [entry for page in pages if page for entry in values.objects(page.get("results"))]

    def verify(self, callback: base.Callback) -> bool:
        """Check the token in the address: it is good for one message's reports, or for replies."""
        return callbacks.has_token(callback, self._settings.callback_token.get_secret_value())

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read reports of the message that the address is for, or replies: `results` both."""
        try:
            fields = orjson.loads(callback.body)
        except orjson.JSONDecodeError:
            fields = None
        results = values.objects(fields.get("results")) if isinstance(fields, dict) else []
        if not results:
            raise base.CallbackError("an Infobip callback without results: is its address right?")
        if callback.kind == "reply":
            return [], [_inbound(entry) for entry in results]
        # The token is good for this message alone: not for others, and for no reply.
        ref = callbacks.query(callback, "ref")
        if ref is None or any(values.text(entry.get("messageId")) != ref for entry in results):
            raise base.CallbackError("an Infobip report at an address of another message")
        if not all(map(_status_name, results)):
            raise base.CallbackError("an Infobip report without status")
        return [_report(entry, "to") for entry in results], []


def _answers(messages: Sequence[base.Outgoing], reply: http.Reply) -> list[Answer]:
    """What a reply says of each message; Infobip takes single ones or leaves them, in one 200."""
    if 200 <= reply.status < 300:
        entries = _entries(messages, values.objects(reply.fields.get("messages")))
        return [_answer(message, reply, entries.get(message.id, {})) for message in messages]
    code, text = _refusal(reply)
    error_class = HTTP_ERRORS.get(reply.status)
    if error_class is None and code and 400 <= reply.status < 500 and reply.status != 408:
        error_class = ErrorClass.RECIPIENT
    return [
        http.no_success(message.id, reply, error_class=error_class, code=code, text=text)
        for message in messages
    ]


def _entries(
    messages: Sequence[base.Outgoing], told: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Entries of a reply by our ids; by number where there is no id, and one message only fits."""
    nameless = [entry for entry in told if not values.text(entry.get("messageId"))]
    to = Counter(map(_digits, messages))
    said = Counter(values.text(entry.get("destination")) for entry in nameless)
    by_number = {
        number: entry
        for entry in nameless
        if said[number := values.text(entry.get("destination"))] == 1
    }
    found = {m.id: by_number.get(number, {}) for m in messages if to[number := _digits(m)] == 1}
    return found | {values.text(entry.get("messageId")) or "": entry for entry in told}


def _answer(message: base.Outgoing, reply: http.Reply, entry: dict[str, Any]) -> Answer:
    status, gateway_id = _object(entry, "status"), values.text(entry.get("messageId"))
    name, group = _status_name(entry), values.text(status.get("groupName"))
    if name == DUPLICATE:
        # Only we know our ids: it was accepted before.
        return Answer(message.id, "accepted", message.id)
    if group == REJECTED:
        return http.no_success(
            message.id,
            reply,
            error_class=ERRORS.get(name or "", ErrorClass.RECIPIENT),
            code=name,
            text=values.text(status.get("description")),
            wait=SYSTEM_ERROR_WAIT,
        )
    if group in GROUPS and gateway_id:
        segments = values.count(_object(entry, "details").get("messageCount"))
        return Answer(message.id, "accepted", gateway_id, segments=segments)
    return http.no_success(message.id, reply, error_class=None, code=name, text=None)


def _refusal(reply: http.Reply) -> tuple[str | None, str | None]:
    """Code and text of an error; those of `requestError` are of the older kind."""
    fields = reply.fields
    older = _object(_object(fields, "requestError"), "serviceException")
    code = values.text(fields.get("errorCode")) or values.text(older.get("messageId"))
    return code, values.text(fields.get("description")) or values.text(older.get("text"))


def _report(entry: dict[str, Any], recipient: str) -> Report:
    """Read a delivery report or a log, in which the field `recipient` has the number."""
    name, group = _status_name(entry), values.text(_object(entry, "status").get("groupName"))
    message_id = values.text(entry.get("messageId"))
    code = _error_code(entry, group)
    price, currency = _price(entry)
    return Report(
        status=STATUSES.get(name or "") or GROUPS.get(group or "", Status.UNKNOWN),
        reference=message_id,
        gateway_message_id=message_id,
        recipient=values.e164(values.text(entry.get(recipient)) or "") or None,
        error_code=code,
        error_class=_class_in_report(code),
        occurred_at=values.iso_date(entry.get("doneAt")),
        price=price,
        currency=currency,
    )


def _error_code(entry: dict[str, Any], group: str | None) -> str | None:
    """The error's name; where there is none, and the message was rejected, its status'."""
    name = _status_name(entry)
    error = values.text(_object(entry, "error").get("name"))
    if error and error != NO_ERROR:
        return error
    return name if group == REJECTED and name != DUPLICATE else None


def _class_in_report(code: str | None) -> ErrorClass | None:
    found = ERRORS.get(code or "")
    return None if found is ErrorClass.RETRY else found


def _price(entry: dict[str, Any]) -> tuple[Decimal | None, str | None]:
    """The price of all segments: Infobip names that of one, and their number."""
    said = _object(entry, "price")
    each, currency = values.money(str(said.get("pricePerMessage")), said.get("currency"))
    if each is None:
        return None, None
    return each * (values.count(entry.get("messageCount")) or 1), currency


def _inbound(entry: dict[str, Any]) -> Inbound:
    texts = (values.text(entry.get(name)) or "" for name in ("messageId", "from", "to", "text"))
    message_id, sender, recipient, text = texts
    if not (message_id and sender):
        raise base.CallbackError("an Infobip inbound message without messageId or from")
    return Inbound(message_id, values.e164(sender), values.e164(recipient), text)


def _status_name(entry: dict[str, Any]) -> str | None:
    return values.text(_object(entry, "status").get("name"))


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    found = fields.get(name)
    return found if isinstance(found, dict) else {}


def _digits(message: base.Outgoing) -> str:
    return message.to.removeprefix("+")
