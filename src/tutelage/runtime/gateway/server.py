"""The process that serves the gateway: sockets, signals, reload, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn

from tutelage.runtime.config import GatewayConfig
from tutelage.runtime.errors import ConfigError, TutelageError
from tutelage.runtime.gateway.app import Gateway
from tutelage.runtime.gateway.connection import Connection
from tutelage.runtime.gateway.open_files import affordable_connections

logger = logging.getLogger(__name__)

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: The address cannot be used, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A small answer is sent at once, not gathered with the next one.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise ConfigError(
            f"gateway cannot listen on {host}:{port} ({error.strerror or error}): "
            "choose another gateway.host or gateway.port"
        ) from None
    made.setblocking(False)
    return made


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to us: there may be two of them in one loop."""

    on_started: Callable[[], None] = staticmethod(lambda: None)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_started()


class GatewayServer:
    """Serves a gateway, and its admin API if there is one, until it is told to stop.

    Args:
        gateway: The gateway.
        settings: Timeouts.
        door: Where clients come in.
        administration: The admin API and its socket.
        reload: Reads the configuration again and swaps the gateway's parts.
    """

    def __init__(
        self,
        gateway: Gateway,
        settings: GatewayConfig,
        door: socket.socket,
        *,
        administration: tuple[Any, socket.socket] | None = None,
        reload: Callable[[], Awaitable[object]],
    ) -> None:
        self._gateway = gateway
        self._served = [(_Server(uvicorn_config(gateway, settings)), door)]
        if administration is not None:
            app, admin_door = administration
            self._served.append((_Server(uvicorn_config(app, settings)), admin_door))
        self._unstarted = len(self._served)
        self._reload = reload
        self._reloading: asyncio.Task[None] | None = None

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serves until SIGTERM or SIGINT, then finishes what is in flight and flushes traces.

        SIGHUP reads the configuration again. A second SIGTERM or SIGINT ends at once.

        Args:
            ready: Called when clients are served.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._start_reload)
        try:
            async with asyncio.TaskGroup() as group:
                for server, door in self._served:
                    group.create_task(self._serve(server, door, ready))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
            if self._reloading is not None:
                await self._reloading
            await self._gateway.aclose()

    async def _serve(self, server: _Server, door: socket.socket, ready: Callable[[], None]) -> None:
        server.on_started = lambda: self._note_started(ready)
        await server.serve(sockets=[door])

    def _note_started(self, ready: Callable[[], None]) -> None:
        self._unstarted -= 1
        if not self._unstarted:
            ready()

    def stop(self) -> None:
        """Takes no more clients; called again, drops those that are being served."""
        if self._gateway.is_stopping:
            for server, _ in self._served:
                server.force_exit = True
        self._gateway.is_stopping = True
        for server, _ in self._served:
            server.should_exit = True

    def _start_reload(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload_and_tell())

    async def _reload_and_tell(self) -> None:
        try:
            await self._reload()
        except TutelageError as error:
            logger.error("the configuration is not reloaded, the running one stays: %s", error)
        else:
            logger.info("the configuration is reloaded")


def uvicorn_config(app: Any, settings: GatewayConfig) -> uvicorn.Config:
    """How uvicorn serves an application of ours."""
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        loop="none",
        http=Connection.bounded(settings.limits, affordable_connections()),
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_s)),
    )
