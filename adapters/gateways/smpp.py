"""SMPP 3.4: submit_sm over a bound connection (smpp.org, "SMPP v3.4 issue 1.2").

Senders bind as transmitters; receipts and replies come to the receiver, which holds a bind of its
own (`listen`). Each part of a long message is a message of its own to the SMSC. SMPP knows no
idempotency key and no look-up by our reference: a message in doubt stays so.
"""

import asyncio
import ipaddress
import logging
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal, Self

import smpp34
from pydantic import Field, SecretStr, field_validator

from adapters.gateways import (
    base,
    checks,
    smpp_answers,
    smpp_delivery,
    smpp_session,
    smpp_sharing,
    smpp_text,
)
from adapters.gateways.base import Answer, ErrorClass, Inbound, Report
from adapters.gateways.http import NotSentError
from adapters.gateways.smpp_session import BindRefusedError, Login, Session

log = logging.getLogger(__name__)

UNNAMED, INTERNATIONAL, NETWORK, ALPHANUMERIC = (0, 0), (1, 1), (3, 0), (5, 0)
"""TON and NPI (5.2.5, 5.2.6) of no sender, of E.164 numbers, of short codes and of names."""

# An underscore is in no host name of RFC 1123, and in some that are in use all the same.
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")

WITH_RECEIPT, WITH_HEADER = 0x01, 0x40  # registered_delivery (5.2.17), esm_class (5.2.12)
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds between attempts to bind as receiver."""

Store = Callable[[Sequence[Report], Sequence[Inbound], str], Awaitable[bool]]


class SmppSettings(base.GatewaySettings):
    """Settings of an account at an SMSC."""

    kind: Literal["smpp"] = "smpp"
    host: str = Field(min_length=1, description="Name or address of the SMSC")
    port: int = Field(2775, ge=1, le=65535, description="TCP port of the SMSC")
    # The limits are the protocol's (5.2.1, 5.2.3); longer passwords are common all the same.
    system_id: str = Field(
        min_length=1, max_length=15, pattern="^[ -~]*$", description="Login: system_id"
    )
    password: SecretStr = Field(max_length=64, description="Password of the login")
    system_type: str = Field(
        "", max_length=12, pattern="^[ -~]*$", description="Kind of client, where the SMSC asks"
    )
    use_tls: bool = Field(False, description="Whether the SMSC speaks TLS")
    window: int = Field(
        10, ge=1, le=1000, description="Messages of one bind that wait for the answer at one time"
    )
    receipt_ids: smpp_delivery.ReceiptIds = Field(
        "same",
        description="decimal: the SMSC answers with hexadecimal message ids, and its receipts name"
        " them in decimal",
    )
    source_ton: int | None = Field(
        None, ge=0, le=6, description="Type of the sender's number; empty: by its form"
    )
    source_npi: int | None = Field(
        None, ge=0, le=18, description="Numbering plan of the sender; empty: by its form"
    )
    dest_ton: int = Field(1, ge=0, le=6, description="Type of the recipients' numbers")
    dest_npi: int = Field(1, ge=0, le=18, description="Numbering plan of the recipients")

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if not _is_host(host):
            raise ValueError("this is no name of a host and no IP address; the port is set apart")
        return host

    @property
    def base_url(self) -> str:
        """The SMSC, where gateways are listed."""
        return f"smpp://{self.host}:{self.port}"


class Smpp:
    """An account at an SMSC."""

    capabilities: ClassVar[base.Capabilities] = base.Capabilities(
        rate_unit="segments",
        callbacks="bind",
        inbound=True,
        parts=True,
        validity=True,
    )

    def __init__(
        self,
        settings: SmppSettings,
        addresses: base.Addresses,
        timeouts: base.Timeouts,
        requests_in_flight: int,  # `window` is what counts here
    ) -> None:
        self.addresses = addresses
        self.timeouts = timeouts
        self.inbound_url = ""
        self.bind_problem = "not bound yet"
        self._settings = settings
        self._login = Login(
            settings.host,
            settings.port,
            settings.system_id,
            settings.password.get_secret_value(),
            settings.system_type,
            settings.use_tls,
        )

    async def __aenter__(self) -> Self:
        """Share this process' bind; it is made for the first message.

        An SMSC that is away is an answer to that, not an error here.
        """
        self._transmitter = smpp_sharing.join(self._login, self._settings.window, self.timeouts)
        return self

    async def __aexit__(self, *_: object) -> None:
        smpp_sharing.leave(self._transmitter)

    async def submit(self, messages: Sequence[base.Outgoing]) -> list[Answer]:
        """Submit messages, each part with a submit_sm of its own."""
        return await asyncio.gather(*map(self._submit, messages))

    async def _submit(self, message: base.Outgoing) -> Answer:
        """Submit the parts together: each names its place, so their order does not matter.

        All of them within the time of one request: longer, the message's lease may be over.
        """
        until = time.monotonic() + self.timeouts.request
        try:
            coding = smpp_text.coding(message.encoding)
            texts = smpp_text.parts(message.text, coding, zlib.crc32(message.id.encode()) & 0xFF)
        except ValueError as error:
            return smpp_answers.refused(message.id, ErrorClass.CONTENT, "encoding", str(error))
        bodies = [
            self._submit_sm(message, text, coding, has_header=len(texts) > 1) for text in texts
        ]
        answers = await self._send(message.id, bodies, until)
        while (wait := smpp_answers.wait_for_the_rest(answers)) is not None:
            if time.monotonic() + wait > until - smpp_sharing.ANSWER_SHARE * self.timeouts.request:
                break
            await asyncio.sleep(wait)
            rest = [place for place, a in enumerate(answers) if a.retry_after is not None]
            again = await self._send(message.id, [bodies[place] for place in rest], until)
            for place, answer in zip(rest, again, strict=True):
                answers[place] = answer
        return smpp_answers.together(message.id, answers)

    async def _send(self, message_id: str, bodies: Sequence[bytes], until: float) -> list[Answer]:
        results = await self._transmitter.submit(bodies, until - time.monotonic())
        ids = self._settings.receipt_ids
        return [smpp_answers.of_result(message_id, result, ids) for result in results]

    def _submit_sm(
        self, message: base.Outgoing, text: bytes, coding: int, *, has_header: bool
    ) -> bytes:
        settings = self._settings
        source_ton, source_npi = _kind_of(message.sender)
        return smpp34.SubmitSm(
            message.sender.removeprefix("+"),
            message.to.removeprefix("+"),
            text,
            source_addr_ton=source_ton if settings.source_ton is None else settings.source_ton,
            source_addr_npi=source_npi if settings.source_npi is None else settings.source_npi,
            dest_addr_ton=settings.dest_ton,
            dest_addr_npi=settings.dest_npi,
            esm_class=WITH_HEADER if has_header else 0,
            validity_period=_smpp_time(message.deadline),
            registered_delivery=WITH_RECEIPT,
            data_coding=coding,
        ).encode()[16:]

    async def check(self, sender: str | None = None) -> list[str]:
        """Bind as a sender does, and look at the form of the sender."""
        problems = [
            checks.sender_problem(sender or self._settings.sender, self._mend("sender")),
        ]
        try:
            session = await Session.bind(self._login, smpp_session.BIND_TRANSMITTER, self.timeouts)
            await session.close()
        except BindRefusedError as error:
            problems.append(
                f"{error} ({smpp_answers.name_of(error.status)}), so system_id, password or"
                " system_type is wrong, or there are as many binds as it allows:"
                f" {self._mend('password')}"
            )
        except NotSentError as error:
            problems.append(f"host or port cannot be used, {error}: {self._mend('host')}")
        return [problem for problem in problems if problem]

    def _mend(self, setting: str) -> str:
        return checks.mend(self.addresses, self._settings.kind, setting)

    async def recover(self, suspects: Sequence[base.Suspect]) -> list[base.Finding]:
        """Find nothing: query_sm asks for the SMSC's id, which is just what is not known."""
        return []

    async def poll(self, gateway_message_ids: Sequence[str]) -> list[Report]:
        """Find nothing: query_sm is seldom allowed, and receipts come by the bind."""
        return []

    def verify(self, callback: base.Callback) -> bool:
        """Refuse: an SMSC calls nobody by HTTP."""
        return False

    def parse(self, callback: base.Callback) -> tuple[list[Report], list[Inbound]]:
        """Refuse likewise."""
        raise base.CallbackError("reports of an SMSC come over its bind, not by HTTP")

    async def listen(self, store: Store) -> None:
        """Hold a bind as receiver, and hand on what comes, until cancelled."""

        async def deliver(pdu: bytes) -> int:
            return await self._received(pdu, store)

        wait = FIRST_WAIT
        while True:
            try:
                session = await Session.bind(
                    self._login, smpp_session.BIND_RECEIVER, self.timeouts, deliver
                )
            except NotSentError as error:
                self._down(str(error))
            else:
                wait, self.bind_problem = FIRST_WAIT, ""
                try:
                    await session.ended.wait()
                finally:
                    await session.close()
                self._down(f"the bind at the SMSC {self._login.address} was lost")
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _down(self, why: str) -> None:
        self.bind_problem = why
        log.warning(
            "gateway %s receives no reports: %s; binding again", self.addresses.gateway, why
        )

    async def _received(self, pdu: bytes, store: Store) -> int:
        try:
            reports, inbound = smpp_delivery.read(pdu, self._settings.receipt_ids)
        except base.CallbackError as error:
            # Sent again it would be no better.
            log.warning("gateway %s: %s", self.addresses.gateway, error)
            return smpp_session.RX_P_APPN
        stored = await store(reports, inbound, pdu.hex())
        return smpp_session.ROK if stored else smpp_session.RX_T_APPN


def _kind_of(sender: str) -> tuple[int, int]:
    """TON and NPI of a sender by its form."""
    if not sender:
        return UNNAMED
    if sender.startswith("+"):
        return INTERNATIONAL
    return NETWORK if sender.isdigit() else ALPHANUMERIC


def _smpp_time(deadline: datetime | None) -> str:
    """Write an instant as `YYMMDDhhmmsstnnp` in UTC (7.1.1); empty: the SMSC's own period."""
    if deadline is None:
        return ""
    # Whether it is too late was the ledger's question; an instant that is past would be refused.
    at = max(deadline, datetime.now(UTC) + timedelta(seconds=1)).astimezone(UTC)
    return f"{at:%y%m%d%H%M%S}000+"


def _is_host(host: str) -> bool:
    """Whether this is an IP address or a name that can be looked up (RFC 1123, 2.1)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return True
    try:
        name = host.removesuffix(".").encode("idna").decode()
    except UnicodeError:
        return False
    return len(name) <= 253 and all(map(_LABEL.fullmatch, name.split(".")))
