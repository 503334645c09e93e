"""Several gateways in one run, requests of several messages, reports of parts"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "campaign_run",
        sa.Column("route", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("message", sa.Column("submission", sa.Text(), nullable=True))
    op.add_column("message", sa.Column("resend_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_message_submission",
        "message",
        ["submission"],
        sqlite_where=sa.text("submission IS NOT NULL"),
        postgresql_where=sa.text("submission IS NOT NULL"),
    )
    op.add_column("delivery_event", sa.Column("submission", sa.Text(), nullable=True))
    op.add_column("delivery_event", sa.Column("part", sa.Text(), nullable=True))
    op.create_index(
        "ix_delivery_event_part",
        "delivery_event",
        ["gateway", "gateway_message_id"],
        sqlite_where=sa.text("source = 'answer'"),
        postgresql_where=sa.text("source = 'answer'"),
    )
    op.create_table(
        "gateway_switch",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moved", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index("ix_gateway_switch_run_id", "gateway_switch", ["run_id"])
