"""Keys, their budgets and limits, the audit log, conversations and stored responses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("prefix_sha256", sa.String(64), nullable=False),
        sa.Column("episode_id", sa.String(128), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "prefix_sha256"),
    )
    op.create_index("conversations_by_time", "conversations", ["created_at_s"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(128)),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("aliases", sa.JSON(none_as_null=True)),
        sa.Column("requests_per_minute", sa.Integer()),
        sa.Column("tokens_per_minute", sa.Integer()),
        sa.Column("parallel_requests", sa.Integer()),
        sa.Column("budget_usd", sa.Float()),
        sa.Column("budget_period_s", sa.Float()),
        sa.Column("writer", sa.Boolean(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("expires_at_s", sa.Float()),
        sa.Column("revoked_at_s", sa.Float()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("keys_by_tenant", "keys", ["tenant", "created_at_s"])
    op.create_table(
        "key_digests",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("expires_at_s", sa.Float()),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("key_digests_by_key", "key_digests", ["key_id"])
    op.create_table(
        "meters",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("key_id", sa.String(128), nullable=False),
        sa.Column("period_started_s", sa.Float(), nullable=False),
        sa.Column("spent_nanousd", sa.BigInteger(), nullable=False),
        sa.Column("requests_full_at_s", sa.Float(), nullable=False),
        sa.Column("tokens_full_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key_id"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("key_id", sa.String(128), nullable=False),
        sa.Column("nanousd", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("reservations_by_key", "reservations", ["tenant", "key_id", "expires_at_s"])
    op.create_index("reservations_by_expiry", "reservations", ["expires_at_s"])
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "responses",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("expires_at_s", sa.Float()),
        sa.Column("previous_id", sa.String(64)),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("input_items", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id"),
    )
    op.create_index("responses_by_expiry", "responses", ["expires_at_s"])


def downgrade() -> None:
    for table in (
        "responses",
        "audit",
        "reservations",
        "meters",
        "key_digests",
        "keys",
        "conversations",
    ):
        op.drop_table(table)
