"""Runs the gateway in this process, or in several workers behind one socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any

from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError, TutelageError
from tutelage.runtime.gateway.names import COUNTS_FOLDER

if TYPE_CHECKING:
    from tutelage.runtime.gateway.app import Gateway

logger = logging.getLogger(__name__)

Read = Callable[[], Config]
# Libraries that tell more than one wants to read; of requests the access log tells.
_LOUD = ("alembic", "faiss", "uvicorn.error", "tutelage.runtime.tracing")
_RESTART_PAUSE_S = 1.0
# The loop waits while the collector runs: little at a time, everything after 240,000 objects.
_COLLECT_AFTER = (2_000, 10, 12)
# So long another thread of ours may keep the loop waiting; five times as long by default.
_TURN_S = 0.001
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def log_to_stderr() -> None:
    """Writes our log lines, and the warnings of libraries, to stderr."""
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)


def serve(read: Read, *, is_open: bool, ready: Callable[[str, str | None], None]) -> None:
    """Serves the gateway until it is told to stop.

    Args:
        read: Reads the configuration, now and at every reload; picklable if there are several
            workers.
        is_open: Whether no keys are asked for.
        ready: Called with the address of the gateway and of the admin API when both are served.

    Raises:
        TutelageError: It cannot be started; the text says how to mend it.
    """
    from tutelage.runtime.gateway.open_files import raise_open_files
    from tutelage.runtime.gateway.server import listen
    from tutelage.serving import check_door

    config = read()
    settings = config.gateway
    check_door(settings.host, is_open=is_open)
    # A client and an upstream for each connection, and as much again for all else.
    raise_open_files(4 * settings.limits.connections)
    door = listen(settings.host, settings.port)
    admin_door = None
    if settings.admin_port is not None:
        admin_door = listen(settings.host, settings.admin_port)

    def tell() -> None:
        ready(_address(door), _address(admin_door) if admin_door else None)

    try:
        if settings.workers == 1:
            _run(read, door, admin_door, is_open=is_open, ready=tell)
        else:
            _Supervisor(read, door, admin_door, is_open=is_open).run(settings.workers, tell)
    finally:
        door.close()
        if admin_door is not None:
            admin_door.close()


def _address(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run(
    read: Read,
    door: socket.socket,
    admin_door: socket.socket | None,
    *,
    is_open: bool,
    ready: Callable[[], None],
) -> None:
    import uvloop

    # Until it serves there is nothing to reload; the signal would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(read, door, admin_door, is_open=is_open, ready=ready))


async def _serve(
    read: Read,
    door: socket.socket,
    admin_door: socket.socket | None,
    *,
    is_open: bool,
    ready: Callable[[], None],
) -> None:
    from tutelage.runtime.gateway.server import GatewayServer
    from tutelage.serving import open_gateway

    config = read()
    gateway = await open_gateway(config, is_open=is_open, writes_apart=True)
    state = _Running(read, config, gateway, is_open=is_open)
    administration = None
    if admin_door is not None:
        administration = (state.administration(), admin_door)
    spare_the_collector()
    sys.setswitchinterval(_TURN_S)
    server = GatewayServer(
        gateway, config.gateway, door, administration=administration, reload=state.reload
    )
    await server.serve(ready)


def spare_the_collector() -> None:
    """Keeps the garbage collector away from what lives as long as the process.

    A request makes few cycles and many objects; with the default thresholds the collector walks
    all modules again every few requests, which costs more than half of the time of a traced one.
    It still has to run: a failed request leaves cycles behind.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


class _Running:
    """The configuration in force, and how it is changed."""

    def __init__(self, read: Read, config: Config, gateway: Gateway, *, is_open: bool) -> None:
        self._read = read
        self._config = config
        self._gateway = gateway
        self._is_open = is_open
        self._lock = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    def administration(self) -> object:
        """The admin API.

        Raises:
            ConfigError: There are no keys to administer.
        """
        from tutelage.runtime.gateway.admin import Administration, shown_config
        from tutelage.runtime.gateway.keyring import Keyring

        if not isinstance(self._gateway.parts.doorkeeper, Keyring):
            raise ConfigError("gateway.admin_port needs keys: leave --open out")

        async def administer(scope: Any, receive: Any, send: Any) -> None:
            # A reload puts another keyring in place of the one that this call began with.
            with self._gateway.borrowed() as parts:
                assert isinstance(parts.doorkeeper, Keyring)
                app = Administration(
                    parts.doorkeeper,
                    parts.admission,
                    reload=self.reload_everywhere,
                    config=lambda: shown_config(self._config),
                )
                await app(scope, receive, send)

        return administer

    async def reload(self) -> None:
        """Reads the configuration and serves new requests by it; a bad one changes nothing.

        Raises:
            TutelageError: It is not usable.
        """
        from tutelage.serving import open_parts

        async with self._lock:
            config = await asyncio.to_thread(self._read)
            parts = await open_parts(config, is_open=self._is_open, writes_apart=True)
            self._config = config
            # Requests in flight end with the old parts; nobody waits for them here.
            closing = asyncio.create_task(self._gateway.swap(parts))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def reload_everywhere(self) -> None:
        """Reloads here, then has the other workers do the same.

        Raises:
            TutelageError: The configuration is not usable.
        """
        await self.reload()
        if multiprocessing.parent_process() is not None:
            os.kill(os.getppid(), signal.SIGHUP)


class _Supervisor:
    """Keeps several workers alive that share the sockets."""

    def __init__(
        self, read: Read, door: socket.socket, admin_door: socket.socket | None, *, is_open: bool
    ) -> None:
        self._read = read
        self._door = door
        self._admin_door = admin_door
        self._is_open = is_open
        self._workers: list[SpawnProcess] = []
        self._stopping = False

    def run(self, count: int, ready: Callable[[], None]) -> None:
        """Starts the workers and replaces those that die, until told to stop.

        Raises:
            ConfigError: A worker could not start.
        """
        with tempfile.TemporaryDirectory(prefix="tutelage-counts-") as counts:
            self._run(count, ready, counts)

    def _run(self, count: int, ready: Callable[[], None], counts: str) -> None:
        # Where each worker counts, so that whichever is asked can tell of all.
        os.environ[COUNTS_FOLDER] = counts
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._tell(signal.SIGHUP))
        started = multiprocessing.get_context("spawn").Queue()
        for index in range(count):
            self._workers.append(self._start(index, started))
        waiting = count
        while any(worker.is_alive() for worker in self._workers) or not self._stopping:
            while waiting and not started.empty():
                started.get()
                waiting -= 1
                if waiting == 0:
                    ready()
            for index, worker in enumerate(self._workers):
                if worker.is_alive() or self._stopping:
                    continue
                if waiting:
                    self._stop()
                    raise ConfigError(f"worker {index} ended before it served: see the log above")
                logger.error("worker %d ended with %s; another one starts", index, worker.exitcode)
                time.sleep(_RESTART_PAUSE_S)
                if not self._stopping:
                    self._workers[index] = self._start(index, started)
                    if self._stopping:
                        # The signal came while it was started, and reached the others only.
                        self._workers[index].terminate()
            time.sleep(0.1)

    def _start(self, index: int, started: object) -> SpawnProcess:
        context = multiprocessing.get_context("spawn")
        worker = context.Process(
            target=_work,
            args=(
                self._read,
                self._door,
                self._admin_door if index == 0 else None,
                self._is_open,
                started,
            ),
        )
        worker.start()
        return worker

    def _stop(self) -> None:
        self._stopping = True
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, number)


def _work(
    read: Read,
    door: socket.socket,
    admin_door: socket.socket | None,
    is_open: bool,
    started: multiprocessing.Queue[int],
) -> None:
    log_to_stderr()
    # The terminal sends Ctrl-C to all of us; the supervisor passes it on in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    try:
        _run(read, door, admin_door, is_open=is_open, ready=lambda: started.put(os.getpid()))
    except TutelageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _end_with_supervisor() -> None:
    """Ends this worker in order when nobody is left to tell it to, or to replace it."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)
