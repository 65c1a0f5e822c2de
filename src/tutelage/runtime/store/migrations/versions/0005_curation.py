"""How demonstrations come into the bank and leave it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "demonstration_candidates",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("trace_id", sa.String(64), nullable=False),
        sa.Column("episode_id", sa.String(128), nullable=False),
        sa.Column("step_index", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(128)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("changed_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "trace_id"),
    )
    op.create_index(
        "demonstration_candidates_by_state",
        "demonstration_candidates",
        ["tenant", "state", "episode_id"],
    )
    op.create_index(
        "demonstration_candidates_by_episode", "demonstration_candidates", ["tenant", "episode_id"]
    )
    op.create_table(
        "demonstration_origins",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("trajectory_id", sa.String(128), nullable=False),
        sa.Column("family_sha256", sa.String(64), nullable=False),
        sa.Column("actions_sha256", sa.String(64), nullable=False),
        sa.Column("tools", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at_s", sa.Float(), nullable=False),
        sa.Column("checked_at_s", sa.Float()),
        sa.Column("last_used_at_s", sa.Float()),
        sa.PrimaryKeyConstraint("tenant", "trajectory_id"),
    )
    op.create_index(
        "demonstration_origins_by_goal",
        "demonstration_origins",
        ["tenant", "family_sha256", "actions_sha256"],
    )
    op.create_table(
        "demonstration_writers",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("trajectory_id", sa.String(128), nullable=False),
        sa.Column("key_id", sa.String(128), nullable=False),
        sa.Column("wrote", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "trajectory_id", "key_id"),
    )
    op.create_index("demonstration_writers_by_key", "demonstration_writers", ["tenant", "key_id"])
    op.create_table(
        "revoked_writers",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("key_id", sa.String(128), nullable=False),
        sa.Column("revoked_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key_id"),
    )
    op.create_table(
        "bank_versions",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("trajectories", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "number"),
    )
    op.create_table(
        "bank_changes",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("trajectory_id", sa.String(128), nullable=False),
        sa.Column("state_before", sa.String(16)),
        sa.Column("state_after", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "number", "trajectory_id"),
    )
    op.create_table(
        "exposures",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("episode_id", sa.String(128), nullable=False),
        sa.Column("step_index", sa.Integer(), nullable=False),
        sa.Column("layer", sa.String(16), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("left_out", sa.JSON(), nullable=False),
        sa.Column("tools_sha256", sa.String(64)),
        sa.PrimaryKeyConstraint("tenant", "episode_id", "step_index", "layer"),
    )
    op.create_index("exposures_by_time", "exposures", ["tenant", "at_s"])
    op.create_table(
        "tool_sets",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("tools", sa.JSON(), nullable=False),
        sa.Column("first_seen_at_s", sa.Float(), nullable=False),
        sa.Column("last_seen_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha256"),
    )
    op.create_table(
        "curation_marks",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name"),
    )


def downgrade() -> None:
    for table in (
        "curation_marks",
        "tool_sets",
        "exposures",
        "bank_changes",
        "bank_versions",
        "revoked_writers",
        "demonstration_writers",
        "demonstration_origins",
        "demonstration_candidates",
    ):
        op.drop_table(table)
