from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from tutelage.runtime.errors import SchemaTooNew, StoreError
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import (
    _prepare_sqlite_connection,
    begin_write,
    file_identity,
    migrate,
    open_engine,
    reason,
    redact,
)


def pragma(engine: Engine, name: str) -> object:
    with engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_a_sqlite_engine_is_durable_and_waits_for_locks(url: str) -> None:
    engine = open_engine(url)
    settings = {
        name: pragma(engine, name)
        for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
    }
    engine.dispose()
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 5000,
        "foreign_keys": 1,
    }


def test_a_new_file_that_another_process_is_opening_is_waited_for(database: Path) -> None:
    class Contended(sqlite3.Connection):
        refusals = 3

        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            if "journal_mode" in statement and self.refusals:
                self.refusals -= 1
                raise sqlite3.OperationalError("database is locked")
            return super().execute(statement, *parameters)

    database.parent.mkdir()
    with closing(sqlite3.connect(database, factory=Contended)) as connection:
        _prepare_sqlite_connection(connection, None)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.refusals == 0


def test_the_folder_of_the_file_is_made_but_not_the_file(url: str, database: Path) -> None:
    open_engine(url)
    assert database.parent.is_dir()
    assert not database.exists()


def test_a_relative_path_does_not_follow_a_later_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_engine("sqlite:///here.sqlite").url.database == str(tmp_path / "here.sqlite")


@pytest.mark.parametrize(
    ("bad_url", "hint"),
    [
        ("nonsense", "not usable"),
        ("mysql://u:hidden@h/x", "not supported"),
        ("sqlite+aiosqlite:///x", "not supported"),
        ("nosuch://u:hidden@h/x", "not usable"),
        ("postgresql://u:hidden@h:port/x", "not usable"),
        ("sqlite://", "keeps nothing"),
        ("sqlite:///:memory:", "keeps nothing"),
        ("sqlite:///file:x?mode=ro&uri=true", "plain path"),
        ("sqlite:////proc/none/x.sqlite", "cannot be made"),
    ],
)
def test_an_unusable_url_is_one_clear_line_without_its_password(bad_url: str, hint: str) -> None:
    with pytest.raises(StoreError, match=hint) as caught:
        open_engine(bad_url)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_driver_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ImportError("No module named 'psycopg'")

    monkeypatch.setattr(sqlalchemy, "create_engine", refuse)
    with pytest.raises(StoreError, match="pip install"):
        open_engine("postgresql+psycopg://u:hidden@h/x")


def test_a_folder_without_write_permission_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StoreError, match="not writable"):
        open_engine(url)


def test_redact_hides_passwords_in_every_place() -> None:
    text = redact("postgresql://user:hidden@host:5432/name?password=hidden2&sslmode=require")
    assert "hidden" not in text
    assert "user" in text
    assert "host:5432/name" in text
    assert "sslmode=require" in text


def test_the_migrated_schema_is_the_declared_one(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, schema.metadata)
    inspected = inspect(engine)
    keys = {
        name: inspected.get_pk_constraint(name)["constrained_columns"]
        for name in schema.metadata.tables
    }
    engine.dispose()
    assert differences == []
    assert keys == {
        name: [column.name for column in table.primary_key]
        for name, table in schema.metadata.tables.items()
    }


def test_the_first_revision_can_be_taken_back(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    config = Config()
    config.set_main_option("script_location", "tutelage.runtime.store:migrations")
    with begin_write(engine) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    left = inspect(engine).get_table_names()
    engine.dispose()
    assert left == ["alembic_version"]


def test_migrating_twice_changes_nothing(url: str, database: Path) -> None:
    engine = open_engine(url)
    migrate(engine)
    before = pragma(engine, "schema_version")
    migrate(engine)
    after = pragma(engine, "schema_version")
    engine.dispose()
    assert before == after


def test_threads_that_migrate_together_all_succeed(url: str) -> None:
    problems: list[StoreError] = []
    start = threading.Barrier(4)

    def migrate_once() -> None:
        engine = open_engine(url)
        start.wait()
        try:
            migrate(engine)
        except StoreError as error:
            problems.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=migrate_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_database_of_a_newer_release_is_left_alone(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with begin_write(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match=r"9999.*upgrade tutelage"):
        migrate(engine)
    engine.dispose()


def test_a_file_that_is_no_database_is_a_store_error(url: str, database: Path) -> None:
    database.parent.mkdir()
    database.write_bytes(b"not a database" * 1000)
    engine = open_engine(url)
    with pytest.raises(StoreError, match="not a database"):
        migrate(engine)
    engine.dispose()


def test_an_interrupted_upgrade_leaves_nothing_behind(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.operations import Operations

    def fail(*_: object, **__: object) -> None:
        raise sqlalchemy.exc.OperationalError("CREATE INDEX", {}, Exception("disk full"))

    engine = open_engine(url)
    monkeypatch.setattr(Operations, "create_index", fail)
    with pytest.raises(StoreError, match="disk full"):
        migrate(engine)
    assert inspect(engine).get_table_names() == []
    monkeypatch.undo()
    migrate(engine)
    assert set(schema.metadata.tables) < set(inspect(engine).get_table_names())
    engine.dispose()


def test_a_write_transaction_locks_out_another_at_once(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with (
        begin_write(engine),
        pytest.raises(sqlalchemy.exc.OperationalError, match="locked"),
        begin_write(engine, wait_s=0.0),
    ):
        pass
    assert pragma(engine, "busy_timeout") == 5000
    engine.dispose()


def test_a_reader_is_not_stopped_by_a_writer(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with begin_write(engine) as writer:
        writer.execute(schema.episodes.insert().values(tenant="acme", id="e1", created_at_s=1.0))
        with engine.connect() as reader:
            assert reader.execute(sqlalchemy.select(schema.episodes)).all() == []
    engine.dispose()


def test_the_identity_tells_a_replaced_file_apart(url: str, database: Path) -> None:
    engine = open_engine(url)
    assert file_identity(engine) is None
    migrate(engine)
    first = file_identity(engine)
    engine.dispose()
    database.rename(database.with_suffix(".old"))
    migrate(engine)
    assert first is not None
    assert file_identity(engine) not in (None, first)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("postgresql+psycopg://user@host/name", {"connect_timeout": 5}),
        ("postgresql+psycopg://user@host/name?connect_timeout=60", {}),
        ("postgresql+pg8000://user@host/name", {}),
    ],
)
def test_a_server_that_does_not_answer_is_given_up_after_some_seconds(
    url: str, arguments: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        sqlalchemy, "create_engine", lambda _, **options: asked.append(options["connect_args"])
    )
    open_engine(url)
    assert asked == [arguments]


def test_the_identity_of_a_server_never_changes() -> None:
    server: Any = SimpleNamespace(dialect=SimpleNamespace(name="postgresql"))
    assert file_identity(server) == (0, 0)


def test_the_reason_of_an_error_holds_no_statement_and_no_parameter() -> None:
    error = sqlalchemy.exc.OperationalError("INSERT", {"body": "private"}, Exception("disk\nx"))
    assert reason(error) == "disk"
    assert reason(ValueError()) == "ValueError"
