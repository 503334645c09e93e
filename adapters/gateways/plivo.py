"""Plivo messaging, API v1 (plivo.com/docs/messaging).

One JSON POST for up to 1,000 numbers that get the same text. The answer says which numbers are
invalid, but not which id is whose: the window's reference travels in the query of the callback
address, and a report names the recipient. A message in doubt is looked up by number and time.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from pydantic import Field, SecretStr

from adapters.gateways import base, callbacks, checks, halving, http, values
from adapters.gateways.base import Answer, ErrorClass, Inbound, Report, Status
from adapters.gateways.matching import Listed, lanes, match

# plivo.com/docs/messaging/api/message/message-status-callbacks
STATUSES = {
    "queued": Status.QUEUED,
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.DELIVERED,
    "undelivered": Status.UNDELIVERED,
    "failed": Status.FAILED,
    "rejected": Status.REJECTED,
}

# plivo.com/docs/messaging/troubleshooting/error-codes: codes of reports. Those that may pass (20,
# 80, 90, 300, 1000) have no class. 201, toll-free to Canada, depends on the number.
ERRORS = {
    code: error_class
    for error_class, codes in {
        ErrorClass.RECIPIENT: "50 60 70 100 201",
        ErrorClass.OPTOUT: "200",
        ErrorClass.CONTENT: "10 30 40 110",
        ErrorClass.ACCOUNT: "900 910",
    }.items()
    for code in codes.split()
}
EXPIRED = "420"
NO_ERROR = "000"

# plivo.com/docs/messaging/api/response. A refusal has a text and no code. On messages, 403 is a
# country that the account may not send to (its SDK: GeoPermissionError): it depends on the number.
HTTP_ERRORS = dict.fromkeys((401, 402, 404, 405), ErrorClass.ACCOUNT) | {429: ErrorClass.RETRY}
REFUSALS = (400, 403, 422)
OF_THE_ACCOUNT = re.compile(r"\b(account|balance|credits?)\b", re.IGNORECASE)

VALIDITY = (5, 10_799)
"""Seconds, least and most, of `message_expiry`: Plivo keeps nothing for three hours anyhow."""
LISTS = 20
"""Numbers that are looked up at one time: Plivo answers 20 lists a minute."""
MOST_PAGES = 5
CURRENCY = "USD"
"""Plivo keeps its accounts in dollars (plivo.com/docs/account/api/account)."""
SIGNATURES = {
    "v3": ("x-plivo-signature-v3", "x-plivo-signature-ma-v3"),
    "v2": ("x-plivo-signature-v2", "x-plivo-signature-ma-v2"),
}
"""Headers by version; the second of each is signed with the main account's token."""


class PlivoSettings(base.GatewaySettings):
    """Settings of a Plivo account, or of a server that speaks as Plivo does."""

    kind: Literal["plivo"] = "plivo"
    auth_id: str = Field(
        pattern="^(MA|SA)[0-9A-Z]{18}$",
        description="Auth ID of the account or subaccount, from the Plivo console: MA… or SA…",
    )
    auth_token: SecretStr = Field(
        min_length=1, description="Auth token of the account; it also signs the callbacks"
    )
    base_url: str = Field(
        "https://api.plivo.com", pattern="^https?://[^/?#]", description="Where the API answers"
    )


class Plivo(http.HttpAdapter):
    """A Plivo account."""

    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        batch="same_text",
        max_batch=1000,
        reference="submission",
        recovery=base.Recovery.BY_NUMBER,
        polls=True,
        inbound=True,
        opt_outs=("report",),
        validity=True,
        price="report",
        max_text=1600,
        inbound_reply='<?xml version="1.0" encoding="UTF-8"?><Response/>',
    )

    def __init__(
        self,
        settings: PlivoSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
    ) -> None:
        token = settings.auth_token.get_secret_value()
        super().__init__(
            settings.base_url,
            addresses,
            headers=http.basic_login(settings.auth_id, token),
            timeouts=timeouts,
            requests_in_flight=requests_in_flight,
        )
        self._settings = settings
        self._account = f"/v1/Account/{settings.auth_id}/"
        self._messages = f"{self._account}Message/"

    @property
    def inbound_url(self) -> str:
        """The Message URL of the application that is to receive replies."""
        return self._with_token(self.addresses.inbound)

    def _with_token(self, address: str) -> str:
        return callbacks.with_token(address, self._settings.auth_token.get_secret_value())

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit messages with one text and sender in one request."""
        return await halving.submit_group(messages, self._send, _answers, self.timeouts.request)

    async def _send(self, messages: Sequence[base.Outgoing], until: float) -> http.Reply:
        first = messages[0]
        body: dict[str, object] = {
            "src": first.sender.removeprefix("+"),
            "dst": "<".join(message.to.removeprefix("+") for message in messages),
            "text": first.text,
            "url": self._with_token(self.addresses.reports_of(first.submission)),
            "method": "POST",
        }
        if first.deadline is not None:
            least, most = VALIDITY
            left = int((first.deadline - datetime.now(UTC)).total_seconds())
            # Whether it is too late was the ledger's question, and has been asked.
            body["message_expiry"] = min(max(left, least), most)
        return await self.http.post_json(self._messages, body, until)

    async def check(self, sender: str | None = None) -> list[str]:
        """Read the account, and look at the form of the sender.

        Whose number it is is not asked: alphanumeric senders are in no list.
        """
        base_url = self._settings.base_url
        problems = [
            checks.receiver_problem(self.addresses, base_url),
            checks.sender_problem(sender or self._settings.sender, self._mend("sender")),
        ]
        try:
            reply = await self.http.get(self._account)
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        else:
            mend = self._mend("auth_token" if reply.status in {401, 403} else "base_url")
            login = "auth_id or auth_token"
            problems.append(checks.account_problem(reply, base_url, login, mend, "auth_id"))
        return [problem for problem in problems if problem]

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[base.Finding]:
        """Look suspects up by numbers and time: proves acceptance, never absence.

        Plivo lists no text. So of several messages in doubt to one number, either all are found or
        none: which of them the list shows could not be told.
        """
        # By chance, so that those that are not listed do not keep the others from their turn.
        asked = list(lanes(suspects).items())
        asked = random.sample(asked, min(LISTS, len(asked)))
        pages = (self._list(to, since) for (to, _), since in asked)
        entries = [entry for page in await asyncio.gather(*pages) for entry in page]
        bare = [
            replace(suspect, to=_bare(suspect.to), sender=_bare(suspect.sender), text="")
            for suspect in suspects
        ]
        found = match(bare, entries, self.timeouts.request)
        numbers = {suspect.id: suspect.to for suspect in bare}
        wanted = Counter(numbers.values())
        seen = Counter(numbers[finding.id] for finding in found)
        return [one for one in found if seen[numbers[one.id]] == wanted[numbers[one.id]]]

    async def _list(self, to: str, since: datetime) -> list[Listed]:
        """List what was sent to a number, as far as pages can be read: each entry proves itself."""
        query = {
            "to_number": _bare(to),
            "message_direction": "outbound",
            "message_time__gte": since.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "limit": "20",
        }
        path = f"{self._messages}?{urlencode(query)}"
        entries: list[Listed] = []
        for _ in range(MOST_PAGES):
            page = await self.http.look_up(path) or {}
            entries += filter(None, map(_listed, values.objects(page.get("objects"))))
            meta = page.get("meta")
            path = (values.text(meta.get("next")) if isinstance(meta, dict) else None) or ""
            if not path.startswith("/"):
                break
        return entries

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Fetch messages one by one."""
        paths = (f"{self._messages}{quote(uuid, safe='')}/" for uuid in gateway_message_ids)
        found = await asyncio.gather(*map(self.http.look_up, paths))
        return [_polled(fields) for fields in found if fields and fields.get("message_state")]

    def verify(self, callback: base.Callback) -> bool:
        """Check the signature, of version 3 or 2.

        Source: plivo.com/docs, "signature validation" of voice (3) and of messaging (2). Messaging
        documents 2, which signs the address without its query, and is seen to send 3 as well, which
        signs all: where 3 is there, it alone counts. A header has a signature for each token.
        A token in the address makes good that 2 leaves the query out; nothing does for the body.
        """
        try:
            form = callbacks.form(callback)
        except base.CallbackError:
            return False
        version = "v3" if any(name in callback.headers for name in SIGNATURES["v3"]) else "v2"
        given = [
            signature.strip()
            for name in SIGNATURES[version]
            for signature in callback.headers.get(name, "").split(",")
        ]
        nonce = callback.headers.get(f"x-plivo-signature-{version}-nonce", "")
        token = self._settings.auth_token.get_secret_value()
        if version == "v2" and not callbacks.has_token(callback, token):
            return False
        for address in callbacks.addresses(callback):
            text = f"{_signed(address, form)}." if version == "v3" else _without_query(address)
            computed = callbacks.hmac_base64(token, text + nonce, "sha256")
            if any(callbacks.same(signature, computed) for signature in given):
                return True
        return False

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read a report or a reply, each at its own address; by GET it is in the query."""
        fields = callbacks.form(callback) or _query(callback.url)
        form = {name: found[0] for name, found in fields.items()}
        if not (uuid := form.get("MessageUUID")):
            raise base.CallbackError("Plivo callback without MessageUUID: is the address right?")
        reply = callback.kind == "reply"
        if not reply and (word := form.get("Status")):
            price, currency = _money(form.get("TotalAmount"))
            status, code, error_class = _outcome(word, form.get("ErrorCode"))
            report = Report(
                status=status,
                submission=callbacks.query(callback, "sub"),
                gateway_message_id=uuid,
                recipient=_e164(form.get("To")),
                error_code=code,
                error_class=error_class,
                # DeliveryReportTime names no time zone, so `occurred_at` stays open.
                price=price,
                currency=currency,
            )
            return [report], []
        text = form.get("Text", form.get("Body"))
        if reply and text is not None and form.get("From"):
            sender, recipient = _e164(form["From"]) or "", _e164(form.get("To")) or ""
            return [], [Inbound(uuid, sender, recipient, text)]
        raise base.CallbackError("Plivo report without Status, or reply without From and Text")


def _answers(messages: Sequence[base.Outgoing], reply: http.Reply) -> list[Answer]:
    fields = reply.fields
    uuids = fields.get("message_uuid")
    if not 200 <= reply.status < 300 or not isinstance(uuids, list):
        text = values.text(fields.get("error"))
        error_class = _refusal(reply.status, text)
        return [
            http.no_success(message.id, reply, error_class=error_class, code=None, text=text)
            for message in messages
        ]
    listed = fields.get("invalid_number")
    invalid = {_bare(str(number)) for number in listed} if isinstance(listed, list) else set()
    valid = [message for message in messages if _bare(message.to) not in invalid]
    uuid = values.text(uuids[0]) if len(uuids) == 1 else None
    return [
        _answer(message.id, message in valid, len(uuids) == len(valid), uuid)
        for message in messages
    ]


def _answer(message_id: str, valid: bool, all_told: bool, uuid: str | None) -> Answer:
    """Answer for one message of a request that Plivo took.

    `all_told`: whether there are as many ids as valid numbers. `uuid` is the id if there is only
    one: of several nobody knows whose they are.
    """
    if not valid:
        return Answer(
            message_id,
            "refused",
            error_class=ErrorClass.RECIPIENT,
            error_code="invalid_number",
            error_text="Plivo says that the number is invalid",
        )
    if not all_told:
        return Answer(message_id, "unknown", error_text="Plivo told fewer or more ids than numbers")
    return Answer(message_id, "accepted", uuid)


def _refusal(status: int, text: str | None) -> ErrorClass | None:
    """Class of a refusal; None where Plivo does not say that it has not taken the messages."""
    if known := HTTP_ERRORS.get(status):
        return known
    if status not in REFUSALS or not text:
        return None
    return ErrorClass.ACCOUNT if OF_THE_ACCOUNT.search(text) else ErrorClass.RECIPIENT


def _outcome(word: str, code: str | None) -> tuple[Status, str | None, ErrorClass | None]:
    """Return status, error code and class of a report."""
    code = None if code == NO_ERROR else code or None
    status = STATUSES.get(word, Status.UNKNOWN)
    if code == EXPIRED and status in {Status.FAILED, Status.UNDELIVERED}:
        status = Status.EXPIRED
    return status, code, ERRORS.get(code or "")


def _polled(fields: dict[str, Any]) -> Report:
    price, currency = _money(fields.get("total_amount"))
    status, code, error_class = _outcome(
        str(fields["message_state"]), values.text(fields.get("error_code"))
    )
    return Report(
        status=status,
        gateway_message_id=values.text(fields.get("message_uuid")),
        recipient=_e164(values.text(fields.get("to_number"))),
        error_code=code,
        error_class=error_class,
        occurred_at=values.iso_date(fields.get("message_updated_time")),
        price=price,
        currency=currency,
    )


def _listed(fields: dict[str, Any]) -> Listed | None:
    uuid = values.text(fields.get("message_uuid"))
    created = values.iso_date(fields.get("message_time"))
    if not uuid or created is None or fields.get("message_direction") == "inbound":
        return None
    to, sender = (_bare(str(fields.get(name) or "")) for name in ("to_number", "from_number"))
    return Listed(uuid, to, sender, "", created)


def _money(amount: object) -> tuple[Decimal | None, str | None]:
    """Return price and currency; neither for 0, which Plivo says while it does not know."""
    price, currency = values.money(amount, CURRENCY)
    return (price, currency) if price else (None, None)


def _bare(party: str) -> str:
    """Return a number or name as Plivo keeps it: other characters are taken out."""
    return re.sub("[^0-9A-Za-z]", "", party)


def _e164(number: str | None) -> str | None:
    """Return a number with +, which Plivo leaves away; names and short codes as they are."""
    return f"+{number}" if number and number.isdecimal() and len(number) > 6 else number or None


def _query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query, keep_blank_values=True)


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _signed(url: str, form: Mapping[str, list[str]]) -> str:
    """Return the text of a v3 signature before its nonce: address and sorted parameters."""
    query = "&".join(f"{name}={value}" for name, value in _sorted(_query(url)))
    params = "".join(name + value for name, value in _sorted(form))
    text = _without_query(url) + ("?" if query or form else "") + query
    return text + ("." if query and form else "") + params


def _sorted(fields: Mapping[str, list[str]]) -> Iterable[tuple[str, str]]:
    return ((name, value) for name in sorted(fields) for value in sorted(fields[name]))
