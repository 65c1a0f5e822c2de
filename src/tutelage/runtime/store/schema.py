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

# Tools that steps have offered together: a trace names them by their hash.
tool_definitions = Table(
    "tool_definitions",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("tools", JSON, nullable=False),
    PrimaryKeyConstraint("tenant", "sha256"),
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

releases = Table(
    "releases",
    metadata,
    Column("student", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("origin", String(64)),
    Column("weights_sha256", String(64), nullable=False),
    Column("body", JSON, nullable=False),
    Column("policy", JSON(none_as_null=True)),
    PrimaryKeyConstraint("student", "number"),
    Index("releases_by_tenant", "tenant", "student", "number"),
    Index("releases_by_origin", "tenant", "origin", unique=True),
)

# What the runtime reads: one row says who serves a tenant.
release_traffic = Table(
    "release_traffic",
    metadata,
    Column("student", String(64), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("current_number", Integer),
    Column("previous_number", Integer),
    Column("canary_number", Integer),
    Column("canary_share", Float, nullable=False),
    Column("changed_at_s", Float, nullable=False),
    PrimaryKeyConstraint("student", "tenant"),
)

release_events = Table(
    "release_events",
    metadata,
    Column("number", BigInteger, nullable=False, autoincrement=False),
    Column("student", String(64), nullable=False),
    Column("release_number", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("event", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    PrimaryKeyConstraint("number"),
    Index("release_events_by_release", "student", "release_number", "number"),
)

# How canary episodes ended, in the order in which they were counted.
release_outcomes = Table(
    "release_outcomes",
    metadata,
    Column("student", String(64), nullable=False),
    Column("release_number", Integer, nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("episode_id", String(128), nullable=False),
    Column("position", Integer, nullable=False),
    Column("is_canary", Boolean, nullable=False),
    Column("success", Boolean, nullable=False),
    PrimaryKeyConstraint("student", "release_number", "tenant", "episode_id"),
)

flywheel_runs = Table(
    "flywheel_runs",
    metadata,
    Column("id", String(64), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("student", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at_s", Float, nullable=False),
    Column("ended_at_s", Float),
    Column("outcome", Text, nullable=False),
    PrimaryKeyConstraint("id"),
    Index("flywheel_runs_by_time", "tenant", "student", "started_at_s"),
)

flywheel_stages = Table(
    "flywheel_stages",
    metadata,
    Column("run_id", String(64), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started_at_s", Float, nullable=False),
    Column("ended_at_s", Float),
    Column("error", Text, nullable=False),
    Column("result", JSON, nullable=False),
    PrimaryKeyConstraint("run_id", "stage"),
)

locks = Table(
    "locks",
    metadata,
    Column("name", String(256), nullable=False),
    Column("holder", String(128), nullable=False),
    Column("expires_at_s", Float, nullable=False),
    PrimaryKeyConstraint("name"),
)

# Every answer of a teacher that traffic brought, and what became of it.
demonstration_candidates = Table(
    "demonstration_candidates",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("trace_id", String(64), nullable=False),
    Column("episode_id", String(128), nullable=False),
    Column("step_index", Integer, nullable=False),
    Column("key_id", String(128)),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("changed_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "trace_id"),
    Index("demonstration_candidates_by_state", "tenant", "state", "episode_id"),
    Index("demonstration_candidates_by_episode", "tenant", "episode_id"),
)

# What curation knows of a trajectory.
demonstration_origins = Table(
    "demonstration_origins",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("trajectory_id", String(128), nullable=False),
    Column("family_sha256", String(64), nullable=False),
    Column("actions_sha256", String(64), nullable=False),
    Column("tools", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at_s", Float, nullable=False),
    Column("checked_at_s", Float),
    Column("last_used_at_s", Float),
    PrimaryKeyConstraint("tenant", "trajectory_id"),
    Index("demonstration_origins_by_goal", "tenant", "family_sha256", "actions_sha256"),
)

# Keys under which a trajectory was written, or the same one was written again.
demonstration_writers = Table(
    "demonstration_writers",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("trajectory_id", String(128), nullable=False),
    Column("key_id", String(128), nullable=False),
    Column("wrote", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant", "trajectory_id", "key_id"),
    Index("demonstration_writers_by_key", "tenant", "key_id"),
)

revoked_writers = Table(
    "revoked_writers",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("key_id", String(128), nullable=False),
    Column("revoked_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "key_id"),
)

bank_versions = Table(
    "bank_versions",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("cause", Text, nullable=False),
    Column("trajectories", Integer, nullable=False),
    PrimaryKeyConstraint("tenant", "number"),
)

# What each version changed: the states at a version follow from what came after it.
bank_changes = Table(
    "bank_changes",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("trajectory_id", String(128), nullable=False),
    Column("state_before", String(16)),
    Column("state_after", String(16), nullable=False),
    PrimaryKeyConstraint("tenant", "number", "trajectory_id"),
)

# What was found for a step, and what of it was left out by chance.
exposures = Table(
    "exposures",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("episode_id", String(128), nullable=False),
    Column("step_index", Integer, nullable=False),
    Column("layer", String(16), nullable=False),
    Column("at_s", Float, nullable=False),
    Column("share", Float, nullable=False),
    Column("shown", JSON, nullable=False),
    Column("left_out", JSON, nullable=False),
    Column("tools_sha256", String(64)),
    PrimaryKeyConstraint("tenant", "episode_id", "step_index", "layer"),
    Index("exposures_by_time", "tenant", "at_s"),
)

tool_sets = Table(
    "tool_sets",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("tools", JSON, nullable=False),
    Column("first_seen_at_s", Float, nullable=False),
    Column("last_seen_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "sha256"),
)

curation_marks = Table(
    "curation_marks",
    metadata,
    Column("tenant", String(128), nullable=False),
    Column("name", String(32), nullable=False),
    Column("at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "name"),
)
