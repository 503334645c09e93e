"""A rate for each lane, and who works on a batch"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # A sender sets the rate before it first uses the lane.
    op.add_column(
        "pace_lane", sa.Column("rate", sa.Float(), server_default=sa.text("1"), nullable=False)
    )
    op.create_table(
        "batch_hold",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "batch"),
    )
