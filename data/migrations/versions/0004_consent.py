"""Subdivisions, caps and expiry on messages, review of replies, the seals of the consent ledger"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_EMPTY = sa.text("''")


def upgrade() -> None:
    _text("campaign_run", "subject")
    op.add_column(
        "campaign_run",
        sa.Column("caps", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
    )
    _text("message", "subdivisions")
    _text("message", "caps")
    _instant("message", "consent_ends_at")
    for name in ("number_key", "why", "review", "reviewed_by"):
        _text("inbound_message", name)
    _instant("inbound_message", "reviewed_at")
    op.create_index("ix_inbound_message_number_key", "inbound_message", ["number_key"])
    for name in ("wording_version", "text_hash", "evidence_digest"):
        _text("consent_event", name)
    _instant("consent_event", "erased_at")
    op.add_column("consent_event", sa.Column("seal_number", sa.Integer(), nullable=True))
    op.create_index("ix_consent_event_seal_number", "consent_event", ["seal_number"], unique=True)


def _text(table: str, name: str) -> None:
    op.add_column(table, sa.Column(name, sa.Text(), server_default=_EMPTY, nullable=False))


def _instant(table: str, name: str) -> None:
    op.add_column(table, sa.Column(name, sa.DateTime(timezone=True), nullable=True))
