"""The stored tables, as SQLModel classes. Meanings and promises of columns are said here.

Statements on them live in the other modules of `data`; changes of shape in `data/migrations`.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Column, DateTime, Index, Integer, Text, text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class UtcDateTime(TypeDecorator[datetime]):
    """An instant. In SQLite UTC text that sorts as time does, in PostgreSQL `timestamptz`."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive instants: nobody knows which zone they were meant in."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored instant needs a time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the instant in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class DecimalText(TypeDecorator[Decimal]):
    """Money as exact decimal text: SQLite has no decimal type, and a price is never a float."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        """Store the digits as they are."""
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        """Return the exact value."""
        return None if value is None else Decimal(value)


def _instant(**arguments: Any) -> Any:
    return Field(default=None, sa_type=UtcDateTime, **arguments)


def _added_text(**arguments: Any) -> Any:
    # Came by a migration, to rows that were there before.
    return Field(default="", sa_column_kwargs={"server_default": text("''")}, **arguments)


def _serial() -> Any:
    # SQLite gives its fast row id only to a column declared INTEGER.
    kind = BigInteger().with_variant(Integer, "sqlite")
    return Field(default=None, sa_column=Column(kind, primary_key=True, autoincrement=True))


class CampaignRun(SQLModel, table=True):
    """One execution of a campaign."""

    __tablename__: ClassVar[str] = "campaign_run"

    id: str = Field(primary_key=True)
    key: str = Field(unique=True)
    name: str
    purpose: str
    state: str = Field(index=True)
    """preparing, waiting_approval, sending, paused, reconciling, finished, rejected, cancelled,
    failed"""
    parameters: dict[str, Any] = Field(sa_type=JSON)
    """The campaign as it was started; gateways and sources by name, no secret."""
    gateway: str
    """The gateway or the route that it names."""
    sender: str
    route: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, sa_column_kwargs={"server_default": text("'{}'")}
    )
    """Which gateways send to whom, as it was when the run was planned (tasks.routing)."""
    subject: str = _added_text()
    """What it is about, for caps on how often somebody hears of one subject."""
    caps: list[dict[str, Any]] = Field(
        default_factory=list, sa_type=JSON, sa_column_kwargs={"server_default": text("'[]'")}
    )
    """The frequency caps that apply to some of its messages: rule, max, seconds, scope
    (same_subject or all)."""
    not_after: datetime | None = _instant()
    records_read: int | None = None
    """Records that the source reader saw, ragged and blank ones included; before validation."""
    planned: bool = False
    """Whether the plan (messages and exclusions) is complete. From then on it is never remade."""
    batches: int = 0
    flow_run_id: str | None = None
    """The Prefect run that owns it, where one does."""
    counts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    versions: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """phonenumbers, tzdata, rules and expectations that judged this run."""
    note: str = ""
    """Why it stopped, or what the approver wrote."""
    approved_by: str | None = None
    approved_at: datetime | None = _instant()
    created_at: datetime = _instant(nullable=False)
    finished_at: datetime | None = _instant()


class Message(SQLModel, table=True):
    """One SMS to one recipient."""

    __tablename__: ClassVar[str] = "message"
    __table_args__: ClassVar[Any] = (
        Index("uq_message_request", "run_id", "kind", "request_key", unique=True),
        Index("ix_message_claim", "run_id", "state", "batch"),
        Index("ix_message_gateway_id", "gateway", "gateway_message_id"),
        Index("ix_message_number", "number_key"),
        Index(
            "ix_message_submission",
            "submission",
            sqlite_where=text("submission IS NOT NULL"),
            postgresql_where=text("submission IS NOT NULL"),
        ),
        Index(
            "ix_message_waiting",
            "submitted_at",
            sqlite_where=text("state = 'accepted' AND status_rank < 5"),
            postgresql_where=text("state = 'accepted' AND status_rank < 5"),
        ),
    )

    id: str = Field(primary_key=True)
    """32 hex digits, keyed (data.identity); the gateway knows the message by it."""
    run_id: str
    kind: str = "campaign"
    """campaign, test, confirmation, api"""
    request_key: str
    """The recipient for campaign messages, the request's id for API messages."""
    row: int | None = None
    """Record number in the audience, from 1."""
    batch: int = 0
    recipient: str
    number_key: str
    country: str | None = None
    zones: str = ""
    """Candidate time zones, sorted and joined by commas."""
    text: str = Field(sa_type=Text)
    encoding: str
    segments: int
    planned_price: Decimal | None = Field(default=None, sa_type=DecimalText)
    planned_currency: str | None = None
    sender: str
    gateway: str

    state: str
    """queued, deferred, sending, accepted, in_doubt; and the ends failed, rejected, expired,
    blocked, suppressed, cancelled. What a report says of an accepted one is `status`."""
    reason: str = ""
    rule: str = ""
    """Which rule row stopped or deferred it."""
    subdivisions: str = _added_text()
    """Subdivisions of the country whose rules may apply, sorted and joined by commas."""
    caps: str = _added_text()
    """Ids of the frequency caps that apply, each between commas: `,us-fl/cap,`."""
    consent_ends_at: datetime | None = _instant()
    """When the consent that it rests on runs out; empty: it does not."""
    opens_at: datetime | None = _instant()
    """Deferred until then."""
    closes_at: datetime | None = _instant()
    """Not to be claimed from then on without a new look at its hours."""

    owner: str | None = None
    """host|process|start|token of the sender that holds it (data.senders)."""
    attempt: int = 0
    """Claims so far. An answer is stored only under the attempt that asked."""
    lease_until: datetime | None = _instant()
    retry_at: datetime | None = _instant()
    submitted_at: datetime | None = _instant()
    submission: str | None = None
    """Reference of the window it left in, where its gateway takes one for a whole request."""
    resend_until: datetime | None = _instant()
    """Queued although it may have been accepted: until then the gateway takes its id only once."""

    gateway_message_id: str | None = None
    status: str | None = None
    """The highest delivery status seen."""
    status_rank: int = 0
    conflict: bool = False
    """Two final reports contradicted each other; both are in delivery_event."""
    error_code: str | None = None
    price: Decimal | None = Field(default=None, sa_type=DecimalText)
    currency: str | None = None
    polled_at: datetime | None = _instant()
    final_at: datetime | None = _instant()


class Exclusion(SQLModel, table=True):
    """An audience record that gets no message, and why."""

    __tablename__: ClassVar[str] = "exclusion"

    run_id: str = Field(primary_key=True)
    row: int = Field(primary_key=True)
    recipient: str = ""
    """E.164 where it is one, else the value of the phone column as it came."""
    outcome: str
    """invalid, duplicate, suppressed, blocked, held_out"""
    reason: str
    column: str = ""
    """The audience column at fault."""
    rule: str = ""
    detail: str = ""


class DeliveryEvent(SQLModel, table=True):
    """Append-only inbox of delivery reports and poll answers, with the raw payload."""

    __tablename__: ClassVar[str] = "delivery_event"
    __table_args__: ClassVar[Any] = (
        Index(
            "ix_delivery_event_open",
            "id",
            sqlite_where=text("message_id IS NULL"),
            postgresql_where=text("message_id IS NULL"),
        ),
        Index("ix_delivery_event_message", "message_id"),
        Index(
            "ix_delivery_event_part",
            "gateway",
            "gateway_message_id",
            sqlite_where=text("source = 'answer'"),
            postgresql_where=text("source = 'answer'"),
        ),
    )

    id: int | None = _serial()
    gateway: str
    source: str
    """callback, poll, or answer: what the answer to the submission said of a part"""
    reference: str | None = None
    submission: str | None = None
    gateway_message_id: str | None = None
    batch_id: str | None = None
    part: str | None = None
    """The gateway's id of the part of a long message that it speaks of."""
    recipient: str | None = None
    status: str
    error_code: str | None = None
    error_class: str | None = None
    price: Decimal | None = Field(default=None, sa_type=DecimalText)
    currency: str | None = None
    occurred_at: datetime | None = _instant()
    received_at: datetime = _instant(nullable=False)
    raw: str = Field(default="", sa_type=Text)
    message_id: str | None = None
    """The message it was matched to; empty while it waits."""


class InboundMessage(SQLModel, table=True):
    """A reply (MO), and what was made of it."""

    __tablename__: ClassVar[str] = "inbound_message"

    id: int | None = _serial()
    gateway: str
    gateway_message_id: str = Field(index=True)
    sender: str
    recipient: str
    text: str = Field(sa_type=Text)
    number_key: str = _added_text(index=True)
    """The sender's fingerprint."""
    kind: str = ""
    """opt_out, opt_in, help, review, none"""
    why: str = _added_text()
    """What it was recognised by: keyword, phrase, near miss, …; never the text."""
    review: str = _added_text()
    """open: waits for a person; else what the person decided: opt_out, opt_in, none. Empty: no
    person was needed. While a reply of kind `review` is open, its sender gets no marketing."""
    reviewed_by: str = _added_text()
    reviewed_at: datetime | None = _instant()
    received_at: datetime = _instant(nullable=False)
    raw: str = Field(default="", sa_type=Text)


class ConsentEvent(SQLModel, table=True):
    """Append-only ledger of opt-ins, opt-outs and their evidence. Corrections are new events."""

    __tablename__: ClassVar[str] = "consent_event"
    __table_args__: ClassVar[Any] = (Index("ix_consent_event_number", "number_key", "type"),)

    id: int | None = _serial()
    type: str
    """opt_in, opt_in_pending, opt_out, relationship, registry_check, deactivated"""
    number_key: str
    """The number's fingerprint (data.identity): stays when the number is erased."""
    recipient: str | None = None
    """E.164; personal, erasure clears it."""
    scope: str = "*"
    """The purpose it speaks of; * for all."""
    basis: str = ""
    occurred_at: datetime | None = _instant()
    """When the person did it; empty where nobody knows."""
    recorded_at: datetime = _instant(nullable=False)
    source: str = ""
    method: str = ""
    wording_version: str = _added_text()
    """Which version of the wording the person agreed to."""
    text_hash: str = _added_text()
    """SHA-256 of that wording, as it was shown."""
    evidence: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """References and details; personal, erasure clears it."""
    evidence_digest: str = _added_text()
    """Keyed digest of the personal columns; stays when they are erased."""
    erased_at: datetime | None = _instant()
    """When the personal columns were cleared."""
    payload_digest: str = ""
    """Keyed digest of all that is never changed, `evidence_digest` included."""
    seal_number: int | None = Field(default=None, unique=True, index=True)
    """Place in the hash chain, from 1; the sealer gives it."""
    previous_seal: str | None = None
    seal: str | None = Field(default=None, index=True)


class GatewaySwitch(SQLModel, table=True):
    """A gateway that was taken out of a run for what had not been sent, and why."""

    __tablename__: ClassVar[str] = "gateway_switch"

    id: int | None = _serial()
    run_id: str = Field(index=True)
    gateway: str
    reason: str
    happened_at: datetime = _instant(nullable=False)
    moved: int = 0
    """Messages that other gateways took over."""
    ended_at: datetime | None = _instant()
    """Until it was taken in again, by resuming the run."""


class PaceLane(SQLModel, table=True):
    """When the next message may leave by a gateway and sender; shared by all senders."""

    __tablename__: ClassVar[str] = "pace_lane"

    lane: str = Field(primary_key=True)
    next_at: float
    """Unix time in seconds, by the database's clock (data.database.clock)."""
    rate: float = Field(default=1, sa_column_kwargs={"server_default": text("1")})
    """Messages or segments a second, as the gateway counts; 0 holds the lane."""


class BatchHold(SQLModel, table=True):
    """Which sender works on a batch, so that several do not get into each other's way.

    Convenience, not safety: that nobody gets a message twice rests on the claim of each message.
    """

    __tablename__: ClassVar[str] = "batch_hold"

    run_id: str = Field(primary_key=True)
    batch: int = Field(primary_key=True)
    owner: str
    held_until: datetime = _instant(nullable=False)


class Result(SQLModel, table=True):
    """The results table: one row for each audience record. Rebuilt from the other tables."""

    __tablename__: ClassVar[str] = "result"

    run_id: str = Field(primary_key=True)
    row: int = Field(primary_key=True)
    recipient: str = ""
    outcome: str
    reason: str = ""
    rule: str = ""
    message_id: str | None = Field(default=None, index=True)
    gateway: str | None = None
    gateway_message_id: str | None = None
    segments: int | None = None
    price: Decimal | None = Field(default=None, sa_type=DecimalText)
    currency: str | None = None
    attempts: int | None = None
    submitted_at: datetime | None = _instant()
    final_at: datetime | None = _instant()
