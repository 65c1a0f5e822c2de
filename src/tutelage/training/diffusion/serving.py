"""The process that serves a diffusion student."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.commit_rule import commit_rule
from tutelage.training.diffusion.decoding import Cache, DecodingSettings
from tutelage.training.diffusion.server import DiffusionServer
from tutelage.training.diffusion.student import load_diffusion_student

Ready = Callable[[str], None]
"""Told the base URL, which ends in ``/v1``."""


def serve_folder(
    folder: Path,
    *,
    host: str,
    port: int,
    name: str,
    rule: str,
    threshold: float | None,
    cache: str,
    rows: int,
    threads: int | None,
    device: str,
    ready: Ready,
) -> None:
    """Loads the student of a folder and serves it until SIGTERM or Ctrl-C.

    Args:
        folder: Of the student.
        host: Address of the interface.
        port: 0: any free one.
        name: Model name that requests use.
        rule: Of committing, by its name.
        threshold: Of the rule; its own if ``None``.
        cache: A cache, or ``auto``: exact for block-causal students, none for others.
        rows: Most samples in a batch.
        threads: Threads that torch computes with; ``None`` leaves one core free.
        device: torch device.
        ready: Told the base URL.

    Raises:
        ConfigError: The folder, the rule, the cache or the address cannot be used.
        CheckpointDamaged: The weights do not fit.
    """
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) - 1))
    chosen = commit_rule(rule, threshold)
    try:
        placed = torch.device(device)
        torch.empty(0, device=placed)
    except (RuntimeError, AssertionError) as error:
        line = str(error).strip().splitlines()[0]
        raise ConfigError(f"device = {device!r} cannot be used: {line}") from None
    student = load_diffusion_student(folder, device=device)
    kept = cache_for(cache, student.shape.attention)
    server = DiffusionServer(student, DecodingSettings(chosen, cache=kept), name=name, rows=rows)
    serve_forever(server, host, port, ready)


def cache_for(name: str, attention: str) -> Cache:
    """The cache of a name, for a student of an attention.

    Raises:
        ConfigError: There is no such cache, or it does not fit the attention.
    """
    if name == "auto":
        return "exact" if attention == "block-causal" else "none"
    if name == "exact" and attention != "block-causal":
        raise ConfigError(
            f"cache = 'exact' needs a block-causal student, and this one attends {attention}: use "
            "approximate or none"
        )
    for known in get_args(Cache):
        if name == known:
            found: Cache = known
            return found
    raise ConfigError(f"cache = {name!r}: use auto, none, exact or approximate")


def serve_forever(
    server: DiffusionServer, host: str, port: int, ready: Callable[[str], None]
) -> None:
    """Serves until SIGTERM or Ctrl-C, and finishes what is under way.

    Args:
        server: What to serve.
        host: Address of the interface.
        port: 0: any free one.
        ready: Called with the base URL, which ends in ``/v1``.

    Raises:
        ConfigError: The address cannot be used.
    """
    import uvicorn

    door = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.closing(door):
        try:
            door.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} ({error.strerror or error}): choose another "
                "--host or --port"
            ) from None
        door.listen()
        shown = f"[{host}]" if ":" in host else host
        asyncio.run(
            _serve(uvicorn, server, door, f"http://{shown}:{door.getsockname()[1]}/v1", ready)
        )


async def _serve(
    uvicorn: Any,
    server: DiffusionServer,
    door: socket.socket,
    base_url: str,
    ready: Callable[[str], None],
) -> None:
    settings = uvicorn.Config(
        server.app, lifespan="off", log_config=None, access_log=False, server_header=False
    )
    running = uvicorn.Server(settings)
    started = running.startup

    async def startup(sockets: list[socket.socket] | None = None) -> None:
        await started(sockets)
        if running.started:
            ready(base_url)

    running.startup = startup
    try:
        await running.serve(sockets=[door])
    finally:
        await server.aclose()
