"""Kannel's sendsms interface (Kannel 1.4.5 User's Guide, kannel.org/userguide.shtml, ch. 6 and 7).

One POST for each message: the text is the body, all else is in X-Kannel headers, and our reference
is in the address for its delivery reports. smsbox takes no form, and its XML is experimental: it
reads a text of hex digits as bytes. Kannel signs nothing, gives no id, and answers no look-ups.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from adapters.gateways import base, callbacks, checks, cutting, http, values
from adapters.gateways.base import Answer, ErrorClass, Inbound, Report, Status

ACCEPTED = re.compile(r"[03]: |Sent\.")
"""Bodies of HTTP 202 (table 7-16); `Sent.` is what `immediate-sendsms-reply` makes of them."""

# How Kannel's refusals begin: table 7-16 names the classes of them ("4xx, varies: cannot be in any
# circumstances delivered"), the words are those of gw/smsbox.c.
REFUSALS = {
    (403, "Authorization failed"): ErrorClass.ACCOUNT,
    (404, "Unknown request"): ErrorClass.ACCOUNT,
    (400, "DLR-URL field misformed"): ErrorClass.ACCOUNT,
    (400, "Number(s) has/have been denied"): ErrorClass.RECIPIENT,
    (400, "Empty receiver number"): ErrorClass.RECIPIENT,
    (400, "Missing receiver"): ErrorClass.RECIPIENT,
    # Routes depend on the number. Where there is none at all, CONTENT stops the run in time.
    (403, "Not routable"): ErrorClass.CONTENT,
    (400, "Sender missing"): ErrorClass.CONTENT,
    (400, "Charset or body misformed"): ErrorClass.CONTENT,
    (503, "Temporal failure, try again later."): ErrorClass.RETRY,
}

STATUSES = {
    "1": Status.DELIVERED,
    "2": Status.UNDELIVERED,
    "4": Status.QUEUED,
    "8": Status.SENT,
    "16": Status.REJECTED,
}
"""Values of %d, one for each bit of `dlr-mask` (table 7-17)."""
REPORTS = "&type=%d&id=%F&answer=%A"
"""Kannel fills in its escape codes (table 7-10) wherever they stand in the address."""
REPLIES = "&from=%p&to=%P&text=%b&charset=%C&id=%I"
"""%b, because %a and %r squeeze spaces."""

SENDSMS = "/cgi-bin/sendsms"
LONGEST_ANSWER = 200
"""Characters that are read of an answer; those of Kannel are one line."""
# Codes in an SMSC's answer to a submission, and in its receipt (SMPP 3.4, appendix B). The rest of
# them is not taken over: receipts quote the message.
_CODE = re.compile(r"NACK/(0x[0-9a-fA-F]{1,8})\b|\berr:(?!0+\b)(\w{1,8})\b")


class KannelSettings(base.GatewaySettings):
    """Settings of a smsbox with a `sendsms-user`."""

    kind: Literal["kannel"] = "kannel"
    base_url: str = Field(
        "http://127.0.0.1:13013",
        pattern="^https?://[^/?#]",
        description="Where smsbox answers, at its sendsms-port",
    )
    username: str = Field(min_length=1, description="Name of the sendsms-user in kannel.conf")
    password: SecretStr = Field(min_length=1, description="Password of the sendsms-user")
    callback_token: SecretStr = Field(
        min_length=16,
        description="Random secret of 16 characters or more: callbacks are known by it",
    )
    max_parts: int = Field(
        1,
        ge=1,
        le=255,
        description="Segments that it makes of a text: max-messages of the sendsms-user",
    )


class Kannel(http.HttpAdapter):
    """A Kannel gateway."""

    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        reference="callback_url",
        rate_unit="segments",
        callbacks="token",
        inbound=True,
        validity=True,
        # Kannel takes 200 and 202 alone for success: anything else it fetches again.
        report_reply="ok",
        inbound_reply="ok",
    )

    def __init__(
        self,
        settings: KannelSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,
    ) -> None:
        super().__init__(
            settings.base_url,
            addresses,
            headers={},
            timeouts=timeouts,
            requests_in_flight=requests_in_flight,
        )
        self._settings = settings
        self._token = settings.callback_token.get_secret_value()

    @property
    def inbound_url(self) -> str:
        """The `get-url` of the sms-service in kannel.conf that is to receive replies."""
        return self._address(self.addresses.inbound, REPLIES)

    def _address(self, url: str, escapes: str) -> str:
        # Kannel reads every % as the begin of an escape code.
        return callbacks.with_token(url, self._token).replace("%", "%%") + escapes

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit messages, each with a request of its own.

        A text of more segments than `max_parts` is not sent: Kannel would cut it off.
        """
        whole, cut_off = cutting.uncut(messages, self._settings.max_parts)
        return [*await http.submit_each(whole, self._send, _answer), *cut_off]

    async def _send(self, message: base.Outgoing) -> http.Reply:
        headers = {
            "to": message.to,
            # Kannel never changes a coding: what GSM-7 lacks would become a question mark.
            "coding": "0" if message.encoding == "GSM-7" else "2",
            "dlr-mask": "31",
            "dlr-url": self._address(self.addresses.reports(message.id), REPORTS),
        }
        if message.sender:
            headers["from"] = message.sender
        if message.deadline is not None:
            left = (message.deadline - datetime.now(UTC)).total_seconds()
            # Whether it is too late was the ledger's question, and has been asked.
            headers["validity"] = str(max(int(left / 60), 1))
        return await self._post(headers, message.text)

    async def _post(self, headers: dict[str, str], text: str) -> http.Reply:
        settings = self._settings
        login = {"username": settings.username, "password": settings.password.get_secret_value()}
        return await self.http.post(
            SENDSMS,
            text.encode(),
            {
                "content-type": "text/plain; charset=UTF-8",
                # A line break in a header would be another header.
                **{f"x-kannel-{n}": _printable(v) for n, v in {**login, **headers}.items()},
            },
        )

    async def check(self, sender: str | None = None) -> list[str]:
        """Log in with a message to nobody: it is refused for that only where the login is right."""
        base_url, sender = self._settings.base_url, sender or self._settings.sender
        problems = [
            checks.receiver_problem(self.addresses, base_url),
            checks.sender_problem(sender, self._mend("sender")),
        ]
        try:
            problems.append(self._login_problem(await self._post({}, "")))
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        return [problem for problem in problems if problem]

    def _login_problem(self, reply: http.Reply) -> str | None:
        said, status = _said(reply), reply.status
        if status == 400 and said.startswith("Missing receiver"):
            return None
        if status == 403 and said.startswith("Authorization failed"):
            return (
                "username or password is wrong, or user-allow-ip leaves this machine out"
                f" (HTTP 403): {self._mend('password')}"
            )
        return (
            f"base_url {self._settings.base_url} is no sendsms interface of Kannel"
            f" (HTTP {status}): {self._mend('base_url')}"
        )

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[base.Finding]:
        """Kannel can be asked nothing: what is in doubt stays so until a report comes."""
        return []

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Kannel can be asked nothing."""
        return []

    def verify(self, callback: base.Callback) -> bool:
        """Check the token in the address."""
        return callbacks.has_token(callback, self._token)

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read a delivery report (`REPORTS`) or a reply (`REPLIES`); both are in the query.

        The token is good for what the address is for: reports on one message, or replies.
        """
        fields = callbacks.octets(urlsplit(callback.url).query)
        text = {name: value.decode("latin-1") for name, value in fields.items()}
        reply = callback.kind == "reply"
        if not reply and (ref := text.get("ref")) and (word := text.get("type")):
            code = _CODE.search(text.get("answer", ""))
            report = Report(
                status=STATUSES.get(word, Status.UNKNOWN),
                reference=ref,
                gateway_message_id=text.get("id") or None,
                error_code=None if code is None else code[1] or code[2],
            )
            return [report], []
        if reply and text.get("from") and text.get("id") and "text" in text:
            sender, recipient = values.e164(text["from"]), values.e164(text.get("to", ""))
            body = _decoded(fields["text"], text.get("charset", ""))
            return [], [Inbound(text["id"], sender, recipient, body)]
        raise base.CallbackError(
            "Kannel report without type, or reply without from, id and text: is the get-url right?"
        )


def _answer(message_id: str, reply: http.Reply) -> Answer:
    said = _said(reply)
    if reply.status == 202 and ACCEPTED.match(said):
        return Answer(message_id, "accepted")
    return http.no_success(
        message_id, reply, error_class=_refusal(reply, said), code=None, text=said
    )


def _refusal(reply: http.Reply, said: str) -> ErrorClass | None:
    """Class of a refusal; None where Kannel does not say that it has not taken the message."""
    for (status, words), error_class in REFUSALS.items():
        if reply.status == status and said.startswith(words):
            return error_class
    kannels_own = reply.headers.get("server", "").startswith("Kannel")
    return ErrorClass.RECIPIENT if reply.status in (400, 403) and kannels_own else None


def _said(reply: http.Reply) -> str:
    return reply.body[:LONGEST_ANSWER].decode("latin-1")


def _decoded(octets: bytes, charset: str) -> str:
    """Read a reply: smsbox hands on UTF-8, and UTF-16 as it is; 8-bit data may be anything."""
    try:
        return octets.decode("utf-16-be" if charset.upper().startswith("UTF-16") else "utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _printable(value: str) -> str:
    return "".join(filter(str.isprintable, value))
