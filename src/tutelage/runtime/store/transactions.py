"""Transactions of code that shares a database with the trace store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.database import begin_write, migrate, reason, redact


class Transactions:
    """Opens transactions, and brings the database to its schema before the first one.

    Blocking; any thread may use it.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_prepared = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises:
            StoreError: The database cannot be reached or read.
        """
        with self._named("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end, rolled back on an exception.

        Raises:
            StoreError: The database cannot be reached or written.
        """
        with self._named("written"), begin_write(self._engine) as connection:
            yield connection

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        if not self._is_prepared:
            migrate(self._engine)
            self._is_prepared = True
        try:
            yield
        except SQLAlchemyError as error:
            # It may have been replaced by an empty one.
            self._is_prepared = False
            raise StoreError(
                f"database {redact(str(self._engine.url))} cannot be {what}: {reason(error)}"
            ) from error
