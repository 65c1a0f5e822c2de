"""Tables of the database, in SQLAlchemy Core; the same for SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

metadata = MetaData()

episodes = Table(
    "episodes",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("id", String(128), nullable=False),
    Column("goal", Text),
    Column("task_id", String(512)),
    Column("success", Boolean),
    Column("reward", Float),
    Column("comment", Text),
    Column("created_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
)

traces = Table(
    "traces",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("id", String(64), nullable=False),
    Column("episode_id", String(128), nullable=False),
    Column("step_index", Integer, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("served", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("cost_usd", Float, nullable=False),
    Column("body", JSON, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
    Index("traces_by_episode", "tenant", "episode_id", "step_index"),
    Index("traces_by_time", "tenant", "created_at_s"),
)

trajectories = Table(
    "trajectories",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("id", String(128), nullable=False),
    Column("goal", Text, nullable=False),
    Column("category", String(128)),
    Column("plan", Text),
    Column("task_id", String(512)),
    Column("source", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("turns", JSON, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("embedder", String(128), nullable=False),
    Column("text_sha256", String(64), nullable=False),
    Column("vector", LargeBinary, nullable=False),
    PrimaryKeyConstraint("embedder", "text_sha256"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("prefix_sha256", String(64), nullable=False),
    Column("episode_id", String(128), nullable=False),
    Column("created_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "prefix_sha256"),
    Index("conversations_by_time", "created_at_s"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("tenant", String(128)),
    Column("name", String(256), nullable=False),
    Column("aliases", JSON(none_as_null=True)),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("parallel_requests", Integer),
    Column("budget_usd", Float),
    Column("budget_period_s", Float),
    Column("writer", Boolean, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("expires_at_s", Float),
    Column("revoked_at_s", Float),
    PrimaryKeyConstraint("id"),
    Index("keys_by_tenant", "tenant", "created_at_s"),
)

step_audits = Table(
    "step_audits",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("trace_id", String(64), nullable=False),
    Column("episode_id", String(128), nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("body", JSON, nullable=False),
    PrimaryKeyConstraint("tenant", "trace_id"),
    Index("step_audits_by_time", "tenant", "created_at_s"),
)

# A key has two digests while a rotation overlaps.
key_digests = Table(
    "key_digests",
    metadata,
    Column("digest", String(64), nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("prefix", String(32), nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("expires_at_s", Float),
    PrimaryKeyConstraint("digest"),
    Index("key_digests_by_key", "key_id"),
)

meters = Table(
    "meters",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("key_id", String(128), nullable=False),
    Column("period_started_s", Float, nullable=False),
    Column("spent_nanousd", BigInteger, nullable=False),
    Column("requests_full_at_s", Float, nullable=False),
    Column("tokens_full_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "key_id"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", String(32), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("key_id", String(128), nullable=False),
    Column("nanousd", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("expires_at_s", Float, nullable=False),
    PrimaryKeyConstraint("id"),
    Index("reservations_by_key", "tenant", "key_id", "expires_at_s"),
    Index("reservations_by_expiry", "expires_at_s"),
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, nullable=False, autoincrement=False),
    Column("at_s", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    PrimaryKeyConstraint("number"),
)

responses = Table(
    "responses",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("id", String(64), nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("expires_at_s", Float),
    Column("previous_id", String(64)),
    Column("body", JSON, nullable=False),
    Column("input_items", JSON, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
    Index("responses_by_expiry", "expires_at_s"),
)
