"""The database behind the store: where it is, how it is opened and brought to its schema."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from tutelage.runtime.errors import SchemaTooNew, StoreError

LOCK_WAIT_S = 5.0
"""How long a connection waits for another process's lock before it gives up."""

_MIGRATION_WAIT_S = 30.0
_CONNECT_TIMEOUT_S = 5
_ADVISORY_LOCK = 0x7475746C
_SECRET_QUERY_KEYS = frozenset({"password", "passwd", "sslpassword"})
_EXAMPLES = "sqlite:///traces.sqlite or postgresql+psycopg://user@host/name"

# Alembic keeps the current operations in module globals, so two threads may not migrate at once.
_alembic_globals = threading.Lock()


class Encoded(str):
    """JSON that is written into a column as it is."""

    __slots__ = ()


def _to_json(value: object) -> str:
    return value if isinstance(value, Encoded) else orjson.dumps(value).decode()


_JSON: dict[str, Any] = {"json_serializer": _to_json, "json_deserializer": orjson.loads}


def redact(url: str) -> str:
    """The URL with its password replaced by ``***``, fit for a log or an error."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        scheme, separator, _ = url.partition("://")
        return f"{scheme}://…" if separator else "…"
    hidden = {key: "***" for key in parsed.query if key.lower() in _SECRET_QUERY_KEYS}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def open_engine(url: str) -> Engine:
    """An engine for a SQLite file or a PostgreSQL database; the connection is made on first use.

    SQLite runs with WAL, ``synchronous=FULL``, enforced foreign keys and a lock wait of
    ``LOCK_WAIT_S``; the folder of its file is created, a relative path is fixed to the current
    folder, and ``~`` is expanded.

    Raises:
        StoreError: The URL is not usable, its driver is missing, or the folder is not writable.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        path = _sqlite_path(parsed)
        engine = sqlalchemy.create_engine(
            parsed.set(database=str(path)), connect_args={"timeout": LOCK_WAIT_S}, **_JSON
        )
        event.listen(engine, "connect", _prepare_sqlite_connection)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        return sqlalchemy.create_engine(
            parsed,
            pool_pre_ping=True,
            connect_args=_server_arguments(parsed),
            **_JSON,
        )
    except ImportError as error:
        raise StoreError(
            f"database url {redact(url)}: its driver is not installed ({error}):"
            " pip install 'psycopg[binary]' and use postgresql+psycopg://"
        ) from error


@contextmanager
def begin_write(engine: Engine, *, wait_s: float = LOCK_WAIT_S) -> Iterator[Connection]:
    """A transaction that may write; committed at the end, rolled back on an exception.

    On SQLite it takes the write lock at once (``BEGIN IMMEDIATE``), so that a transaction that
    reads before it writes cannot fail half-way.

    Args:
        engine: From ``open_engine``.
        wait_s: How long to wait for the lock of another writer; SQLite only.
    """
    options: dict[str, Any] = {"sqlite_begin": "IMMEDIATE", "sqlite_wait_s": wait_s}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def migrate(engine: Engine) -> None:
    """Brings the database to the schema of this release; does nothing when it is there already.

    Processes that start together wait for one another; the upgrade is one transaction.

    Raises:
        SchemaTooNew: The database has a revision that this release does not know.
        StoreError: The database could not be read or written.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "tutelage.runtime.store:migrations")
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    heads = set(scripts.get_heads())

    def is_current(connection: Connection) -> bool:
        found = set(MigrationContext.configure(connection).get_current_heads())
        if found - known:
            raise SchemaTooNew(
                f"database {redact(str(engine.url))} has schema revision {min(found - known)},"
                f" newer than this release knows ({', '.join(sorted(heads))}): upgrade tutelage"
            )
        return found == heads

    try:
        with engine.connect() as connection:
            if is_current(connection):
                return
        with _alembic_globals, begin_write(engine, wait_s=_MIGRATION_WAIT_S) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(
                    sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}
                )
            if not is_current(connection):
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise StoreError(
            f"database {redact(str(engine.url))} cannot be brought to its schema: {reason(error)}"
            " (check store.url: it must be a database that may be written, or a new file)"
        ) from error


def file_identity(engine: Engine) -> tuple[int, int] | None:
    """Device and inode of a SQLite file, ``None`` if it is gone; ``(0, 0)`` for a server.

    A process keeps writing to a file that was deleted under it; comparing identities shows that.
    """
    if engine.dialect.name != "sqlite":
        return (0, 0)
    try:
        status = os.stat(str(engine.url.database))
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def reason(error: Exception) -> str:
    """The driver's own message in one line, without the statement and its parameters."""
    origin = getattr(error, "orig", None) or error
    lines = str(origin).strip().splitlines()
    return lines[0] if lines else type(origin).__name__


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        dialect = parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise StoreError(f"database url {redact(url)} is not usable: use {_EXAMPLES}") from error
    if dialect.is_async or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(
            f"database url {redact(url)}: {parsed.drivername} is not supported: use {_EXAMPLES}"
        )
    return parsed


def _server_arguments(url: URL) -> dict[str, Any]:
    knows_timeout = url.get_dialect().driver in ("psycopg", "psycopg2")
    if knows_timeout and "connect_timeout" not in url.query:
        return {"connect_timeout": _CONNECT_TIMEOUT_S}
    return {}


def _sqlite_path(url: URL) -> Path:
    name = url.database or ""
    if name in ("", ":memory:"):
        raise StoreError(
            f"database url {url} keeps nothing: name a file, as in sqlite:///traces.sqlite"
        )
    if name.startswith("file:") or url.query:
        raise StoreError(f"database url {url}: name a plain path, as in sqlite:///traces.sqlite")
    path = Path(os.path.abspath(os.path.expanduser(name)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"database url {url}: folder {path.parent} cannot be made ({error.strerror})"
        ) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreError(f"database url {url}: folder {path.parent} is not writable")
    return path


def _prepare_sqlite_connection(connection: sqlite3.Connection, _record: object) -> None:
    # The driver opens no transactions of its own; _begin_sqlite says which kind is wanted.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {round(LOCK_WAIT_S * 1000)}")
    connection.execute("PRAGMA foreign_keys = ON")
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")


def _enter_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for a lock here when two processes open a new file together.
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    wait_s = float(options.get("sqlite_wait_s", LOCK_WAIT_S))
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(wait_s * 1000)}")
    connection.exec_driver_sql(f"BEGIN {options.get('sqlite_begin', 'DEFERRED')}")
