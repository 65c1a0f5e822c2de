"""Releases of students, the traffic they get, and runs of the flywheel."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "releases",
        sa.Column("student", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("origin", sa.String(64)),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("policy", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("student", "number"),
    )
    op.create_index("releases_by_tenant", "releases", ["tenant", "student", "number"])
    op.create_index("releases_by_origin", "releases", ["tenant", "origin"], unique=True)
    op.create_table(
        "release_traffic",
        sa.Column("student", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("current_number", sa.Integer()),
        sa.Column("previous_number", sa.Integer()),
        sa.Column("canary_number", sa.Integer()),
        sa.Column("canary_share", sa.Float(), nullable=False),
        sa.Column("changed_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("student", "tenant"),
    )
    op.create_table(
        "release_events",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("student", sa.String(64), nullable=False),
        sa.Column("release_number", sa.Integer(), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(
        "release_events_by_release", "release_events", ["student", "release_number", "number"]
    )
    op.create_table(
        "release_outcomes",
        sa.Column("student", sa.String(64), nullable=False),
        sa.Column("release_number", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("episode_id", sa.String(128), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("is_canary", sa.Boolean(), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("student", "release_number", "tenant", "episode_id"),
    )
    op.create_table(
        "flywheel_runs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("student", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at_s", sa.Float(), nullable=False),
        sa.Column("ended_at_s", sa.Float()),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("flywheel_runs_by_time", "flywheel_runs", ["tenant", "student", "started_at_s"])
    op.create_table(
        "flywheel_stages",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("started_at_s", sa.Float(), nullable=False),
        sa.Column("ended_at_s", sa.Float()),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "stage"),
    )
    op.create_table(
        "locks",
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("expires_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    op.drop_table("locks")
    op.drop_table("flywheel_stages")
    op.drop_table("flywheel_runs")
    op.drop_table("release_outcomes")
    op.drop_table("release_events")
    op.drop_table("release_traffic")
    op.drop_table("releases")
