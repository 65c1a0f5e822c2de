"""What the teacher said of steps that the student served."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "step_audits",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("trace_id", sa.String(64), nullable=False),
        sa.Column("episode_id", sa.String(128), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "trace_id"),
    )
    op.create_index("step_audits_by_time", "step_audits", ["tenant", "created_at_s"])


def downgrade() -> None:
    op.drop_table("step_audits")
