"""Tables of the database, in SQLAlchemy Core; the same for SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
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
