"""Jasmin's HTTP API (docs.jasminsms.com/en/latest/apis/http/index.html; /send, DLR, SMS-MO).

One form POST for each message; our reference is in the address for its delivery reports. The words
of answers are those of jasmin/protocols/http in github.com/jookies/jasmin. Jasmin signs nothing,
and can be asked nothing about a message: one in doubt stays so until a report comes.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal
from urllib.parse import urlencode, urlsplit

from pydantic import Field, SecretStr

from adapters.gateways import base, callbacks, checks, cutting, http, smpp_text, values
from adapters.gateways.base import Answer, ErrorClass, Inbound, Report, Status

ACCEPTED = re.compile(r'Success "([^"]+)"')
REFUSED = re.compile(r'Error "(.*)"', re.DOTALL)

# How errors begin, by HTTP status (table "Http response code details"). Not here, because not
# documented as "not sent": 500, the "fallback error", and 503, of interceptors.
REFUSALS = {
    # Raised before anything is queued, by the quota http_throughput of the user.
    (403, "User throughput exceeded"): ErrorClass.RETRY,
    (403, "Authentication failure"): ErrorClass.ACCOUNT,
    (403, "Authorization failed"): ErrorClass.ACCOUNT,
    (403, "Cannot charge"): ErrorClass.ACCOUNT,
    (400, "Authorization failed"): ErrorClass.ACCOUNT,
    (400, "Argument [username]"): ErrorClass.ACCOUNT,
    (400, "Argument [password]"): ErrorClass.ACCOUNT,
    (400, "Argument [dlr-url]"): ErrorClass.ACCOUNT,
    (400, "Argument [to]"): ErrorClass.RECIPIENT,
    (400, "Argument [from]"): ErrorClass.CONTENT,
    # A failover route with no connector up queues nothing.
    (412, "Failover route has no bound connectors"): ErrorClass.RETRY,
    # Routes depend on number and sender. Where there is none at all, CONTENT stops the run in time.
    (412, "No route found"): ErrorClass.CONTENT,
}
FILTERS = {
    "destination_address": ErrorClass.RECIPIENT,
    "source_address": ErrorClass.CONTENT,
    "content": ErrorClass.CONTENT,
    "priority": ErrorClass.ACCOUNT,
    "validity_period": ErrorClass.ACCOUNT,
}
"""What a "Value filter failed for user [_] (_ filter mismatch)" of HTTP 400 is about."""
WAIT = 60.0
"""Seconds until another try where no connector is up."""

# Level 2: the states of SMPP receipts (SMPP 3.4, appendix B).
STATUSES = {
    "ENROUTE": Status.SENT,
    "ACCEPTD": Status.SENT,
    "DELIVRD": Status.DELIVERED,
    "EXPIRED": Status.EXPIRED,
    "DELETED": Status.FAILED,
    "UNDELIV": Status.UNDELIVERED,
    "REJECTD": Status.REJECTED,
    "UNKNOWN": Status.UNKNOWN,
}
# Level 1: what the SMSC answered to the submission. Jasmin submits again after some errors
# (submit_error_retrial in jasmin.cfg), though it reports the first and then nothing more.
SUBMITTED = "ESME_ROK"
SUBMITTED_AGAIN = {"ESME_RSYSERR", "ESME_RTHROTTLED", "ESME_RMSGQFUL", "ESME_RINVSCHED"}

_CODING = re.compile("[0-9]{1,3}")
_QUOTED = re.compile(r": [\['].*", re.DOTALL)
"""Values that Jasmin quotes back: numbers, texts, and the password."""


class JasminSettings(base.GatewaySettings):
    """Settings of a Jasmin user."""

    kind: Literal["jasmin"] = "jasmin"
    base_url: str = Field(
        "http://127.0.0.1:1401",
        pattern="^https?://[^/?#]",
        description="Where Jasmin's HTTP API answers",
    )
    username: str = Field(min_length=1, description="Name of the Jasmin user")
    password: SecretStr = Field(min_length=1, description="Password of the Jasmin user")
    callback_token: SecretStr = Field(
        min_length=16,
        description="Random secret of 16 characters or more: callbacks are known by it",
    )
    max_parts: int = Field(
        5,
        ge=1,
        le=255,
        description="Segments that it makes of a text: long_content_max_parts in jasmin.cfg",
    )


class Jasmin(http.HttpAdapter):
    """A Jasmin gateway."""

    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        reference="callback_url",
        rate_unit="segments",
        callbacks="token",
        inbound=True,
        validity=True,
        report_reply="ACK/Jasmin",
        inbound_reply="ACK/Jasmin",
    )

    def __init__(
        self,
        settings: JasminSettings,
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
    def _login(self) -> dict[str, str]:
        password = self._settings.password.get_secret_value()
        return {"username": self._settings.username, "password": password}

    @property
    def inbound_url(self) -> str:
        """The address of the HTTP connector (httpccm) that is to receive replies."""
        return callbacks.with_token(self.addresses.inbound, self._token)

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit messages, each with a request of its own.

        A text of more segments than `max_parts` is not sent: Jasmin would cut it off.
        """
        whole, cut_off = cutting.uncut(messages, self._settings.max_parts)
        return [*await http.submit_each(whole, self._send, _answer), *cut_off]

    async def _send(self, message: base.Outgoing) -> http.Reply:
        form = {
            **self._login,
            "to": message.to,
            "dlr": "yes",
            "dlr-level": "3",
            "dlr-method": "POST",
            "dlr-url": callbacks.with_token(self.addresses.reports(message.id), self._token),
        }
        if message.encoding == "GSM-7":
            form |= {"coding": "0", "content": message.text}
        else:
            form |= {"coding": "8", "hex-content": message.text.encode("utf-16-be").hex()}
        if message.sender:
            form["from"] = message.sender
        if message.deadline is not None:
            left = (message.deadline - datetime.now(UTC)).total_seconds()
            # Whether it is too late was the ledger's question, and has been asked.
            form["validity-period"] = str(max(int(left / 60), 1))
        return await self.http.post_form("/send", form)

    async def check(self, sender: str | None = None) -> list[str]:
        """Read the balance, and look at the form of the sender."""
        base_url, sender = self._settings.base_url, sender or self._settings.sender
        problems = [
            checks.receiver_problem(self.addresses, base_url),
            checks.sender_problem(sender, self._mend("sender")),
        ]
        try:
            # Jasmin takes GET only here, so that its own access log sees the password.
            reply = await self.http.get(f"/balance?{urlencode(self._login)}")
            problems.append(self._balance_problem(reply))
        except (http.NotSentError, http.NoAnswerError) as error:
            problems.append(f"base_url cannot be used, {error}: {self._mend('base_url')}")
        return [problem for problem in problems if problem]

    def _balance_problem(self, reply: http.Reply) -> str | None:
        if reply.status == 400 and b"Cannot check balance" in reply.body:
            # The login is right; the user has no leave to ask (http_balance).
            return None
        if reply.status == 200 and "sms_count" in reply.fields:
            # "ND" where there is no quota.
            left = [reply.fields.get(name) for name in ("balance", "sms_count")]
            if any(isinstance(value, int | float) and value <= 0 for value in left):
                return "the Jasmin user has no balance or no sms_count left: raise its quota"
            return None
        mend = self._mend("password" if reply.status in {401, 403} else "base_url")
        return checks.account_problem(
            reply, self._settings.base_url, "username or password", mend
        ) or (f"base_url {self._settings.base_url} is no HTTP API of Jasmin: {mend}")

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[base.Finding]:
        """Jasmin can be asked nothing: what is in doubt stays so until a report comes."""
        return []

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Jasmin can be asked nothing."""
        return []

    def verify(self, callback: base.Callback) -> bool:
        """Check the token in the address."""
        return callbacks.has_token(callback, self._token)

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Read a delivery report or a reply: a form, or a query where a connector uses GET.

        The token is good for what the address is for: reports on one message, or replies.
        """
        pairs = callback.body.decode("latin-1") or urlsplit(callback.url).query
        found = callbacks.octets(pairs)
        fields = {name: value.decode("latin-1") for name, value in found.items()}
        if not fields.get("id"):
            raise base.CallbackError("Jasmin callback without id: is the address right?")
        reply, ref = callback.kind == "reply", callbacks.query(callback, "ref")
        if not reply and ref and "message_status" in fields:
            return [_report(ref, fields)], []
        if reply and fields.get("from") and {"content", "binary"} & set(fields):
            sender, recipient = values.e164(fields["from"]), values.e164(fields.get("to", ""))
            return [], [Inbound(fields["id"], sender, recipient, _reply_text(found, fields))]
        raise base.CallbackError(
            "Jasmin callback: a report without message_status, or a reply without from and content"
        )


def _answer(message_id: str, reply: http.Reply) -> Answer:
    said = reply.body.decode("utf-8", "replace").strip()
    if reply.status == 200 and (accepted := ACCEPTED.fullmatch(said)):
        return Answer(message_id, "accepted", accepted[1])
    refused = REFUSED.fullmatch(said)
    error = _QUOTED.sub("", refused[1]) if refused else ""
    return http.no_success(
        message_id,
        reply,
        error_class=_refusal(reply.status, error),
        code=None,
        text=error,
        wait=WAIT if reply.status == 412 else 1,
    )


def _refusal(status: int, error: str) -> ErrorClass | None:
    """Class of a refusal; None where Jasmin does not say that it has not sent the message."""
    if not error or status not in (400, 403, 412):
        return None
    for (with_status, words), error_class in REFUSALS.items():
        if status == with_status and error.startswith(words):
            return error_class
    for name, error_class in FILTERS.items():
        if f"({name} filter mismatch)" in error:
            return error_class
    return ErrorClass.RECIPIENT


def _report(reference: str, fields: Mapping[str, str]) -> Report:
    word, error = fields["message_status"], fields.get("err", "")
    if word.startswith("ESME_"):
        # What Jasmin submits again is still in its queue.
        failed = Status.QUEUED if word in SUBMITTED_AGAIN else Status.REJECTED
        status, code = (Status.SENT, None) if word == SUBMITTED else (failed, word)
    else:
        status = STATUSES.get(word, Status.UNKNOWN)
        code = error if error.strip("0") not in ("", "ND") else None
    return Report(status, reference, fields["id"], error_code=code)


def _reply_text(found: Mapping[str, bytes], fields: Mapping[str, str]) -> str:
    """Read `binary`, the octets in hex; in `content` those that are no UTF-8 may be lost.

    What cannot be read is replaced, not refused: it is a person's reply all the same.
    """
    try:
        octets = bytes.fromhex(fields["binary"])
    except (KeyError, ValueError):
        return found.get("content", b"\xff").decode("utf-8", "replace")
    coding = fields.get("coding", "")
    return smpp_text.read(octets, int(coding) if _CODING.fullmatch(coding) else 0, has_header=False)
