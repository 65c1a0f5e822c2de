"""What is said when PostgreSQL lacks what vectors need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, make_url, text
from tests.postgres import PostgresServer, postgres, postgres_url  # noqa: F401 - fixtures

from tutelage.retrieval.keys import StateKey
from tutelage.retrieval.pgvector_extension import require_extension
from tutelage.retrieval.pgvector_table import PgVectorTable
from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.database import migrate, open_engine


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def as_user(url: str, name: str) -> str:
    return make_url(url).set(username=name).render_as_string(hide_password=False)


@pytest.fixture
def plain_user(postgres: PostgresServer) -> Iterator[str]:  # noqa: F811
    name = "plain_user"
    postgres.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    postgres.execute(f"DROP ROLE {name}")


def test_the_extension_the_table_and_its_index_are_made_once(postgres_url: str) -> None:  # noqa: F811
    with opened(postgres_url) as engine:
        migrate(engine)
        table = PgVectorTable(engine, "it's an embedder", 8, StateKey())
        other = PgVectorTable(engine, "it's an embedder", 8, StateKey(numbers=False))
        for one in (table, table, other):
            one.create()
        assert table.name != other.name
        with engine.begin() as connection:
            indexes = connection.scalars(
                text("SELECT indexdef FROM pg_indexes WHERE indexname = :name"),
                {"name": f"{table.name}_goal"},
            ).all()
            comment = connection.scalar(
                text("SELECT obj_description(CAST(:name AS regclass))"), {"name": table.name}
            )
        assert len(indexes) == 1
        assert "USING hnsw (goal halfvec_ip_ops)" in indexes[0]
        assert comment == "tutelage: embedder it's an embedder, 8 dimensions"


def test_a_user_without_the_right_is_told_what_a_superuser_must_run(
    postgres_url: str,  # noqa: F811
    plain_user: str,
) -> None:
    with opened(postgres_url) as superuser, opened(as_user(postgres_url, plain_user)) as engine:
        table = PgVectorTable(engine, "words", 8, StateKey())
        with superuser.begin() as connection:
            # As it is unless a server was told otherwise; ours may trust the extension.
            connection.execute(text(f"REVOKE CREATE ON SCHEMA public FROM {plain_user}"))
        with pytest.raises(StoreError, match=r"a superuser run CREATE EXTENSION vector; in data"):
            table.create()
        with superuser.begin() as connection:
            connection.execute(text("CREATE EXTENSION vector"))
        with pytest.raises(
            StoreError, match=rf"GRANT USAGE, CREATE ON SCHEMA public TO {plain_user};"
        ):
            table.create()
        with superuser.begin() as connection:
            connection.execute(text(f"GRANT USAGE, CREATE ON SCHEMA public TO {plain_user}"))
        table.create()
        with superuser.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {plain_user}"))


def test_a_server_without_pgvector_is_told_what_to_install(
    postgres_url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tutelage.retrieval.pgvector_extension._available", lambda _: False)
    told = r"postgresql-NN-pgvector.*CREATE EXTENSION vector;"
    with opened(postgres_url) as engine, pytest.raises(StoreError, match=told):
        require_extension(engine)


def test_an_old_pgvector_is_refused_with_what_to_run(
    postgres_url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened(postgres_url) as engine:
        require_extension(engine)
        monkeypatch.setattr("tutelage.retrieval.pgvector_extension.LEAST_VERSION", (0, 999))
        with pytest.raises(StoreError, match=r"0\.999 is needed.*ALTER EXTENSION vector UPDATE;"):
            require_extension(engine)


def test_a_server_that_is_gone_is_an_error_of_the_store(
    postgres: PostgresServer,  # noqa: F811
) -> None:
    url = make_url(postgres.url("nowhere")).render_as_string(hide_password=False)
    with opened(url) as engine:
        with pytest.raises(StoreError, match="cannot be used"):
            require_extension(engine)
        with pytest.raises(StoreError, match="cannot be used"):
            PgVectorTable(engine, "words", 8, StateKey()).create()
