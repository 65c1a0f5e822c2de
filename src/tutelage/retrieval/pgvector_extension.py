"""What PostgreSQL must have for vectors, made where that is allowed and named where it is not."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.database import reason, redact

LEAST_VERSION = (0, 8, 0)
"""The first that goes on along an index until a filter has let enough pass."""


def require_extension(engine: Engine) -> None:
    """Makes the extension ``vector`` unless it is there.

    Raises:
        StoreError: The server does not have it, this user may not make it, or it is too old.
    """
    database = engine.url.database
    where = f"database {redact(str(engine.url))}"
    instead = 'or set retrieval.index = "faiss"'
    try:
        with engine.begin() as connection:
            version = _installed(connection)
            if version is None:
                if not _available(connection):
                    raise StoreError(
                        f"{where}: its server has no pgvector: install it there (the package is"
                        " called postgresql-NN-pgvector), then run CREATE EXTENSION vector; in"
                        f" database {database} as a superuser, {instead}"
                    )
                connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
                version = _installed(connection) or ""
    except ProgrammingError as error:
        raise StoreError(
            f"{where}: this user may not make the extension ({reason(error)}): have a superuser"
            f" run CREATE EXTENSION vector; in database {database}, {instead}"
        ) from error
    except SQLAlchemyError as error:
        raise StoreError(f"{where} cannot be used: {reason(error)}") from error
    found = tuple(int(part) for part in version.split(".") if part.isdecimal())
    if found < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise StoreError(
            f"{where}: its pgvector is {version}, {least} is needed: install that on the server and"
            f" run ALTER EXTENSION vector UPDATE; in database {database}, {instead}"
        )


def require_table(engine: Engine, name: str, statements: Sequence[str], lock: int) -> None:
    """Runs the statements that make a table, one process after another, unless it is there.

    Raises:
        StoreError: This user may not make it.
    """
    where = f"database {redact(str(engine.url))}"
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
            if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
                for statement in statements:
                    connection.execute(text(statement))
    except ProgrammingError as error:
        user = engine.url.username
        raise StoreError(
            f"{where}: the table {name} cannot be made ({reason(error)}): have its owner run"
            f" GRANT USAGE, CREATE ON SCHEMA public TO {user};"
        ) from error
    except SQLAlchemyError as error:
        raise StoreError(f"{where} cannot be used: {reason(error)}") from error


def _installed(connection: Connection) -> str | None:
    query = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    version = connection.scalar(query)
    return None if version is None else str(version)


def _available(connection: Connection) -> bool:
    query = text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
    return connection.scalar(query) is not None
