"""Who is measured, and how each is started in front of the scripted upstream."""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from tutelage.overhead.gateway.answers import MODEL
from tutelage.overhead.gateway.processes import started, wait_for
from tutelage.overhead.gateway.upstream import Upstream

READY_S = 120.0

DIRECT = "direct"
REFERENCE = "reference"
TUTELAGE = "tutelage"
UNTRACED = "tutelage, tracing off"
LITELLM = "litellm"
PORTKEY = "portkey"
OTHERS = (LITELLM, PORTKEY)
"""Whose absence does not end a run."""
NAMES = (DIRECT, REFERENCE, TUTELAGE, UNTRACED, *OTHERS)
"""In the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A gateway, and how it is run."""

    name: str
    version: str
    command: tuple[str, ...]
    port: int
    ready_path: str
    """Answered with 2xx once the gateway serves."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside ours."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What its clients have to send."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A contender that is not measured."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that answers."""

    name: str
    version: str
    port: int
    pid: int | None
    """``None``: the upstream itself, whose CPU is nobody's overhead."""
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def running(contender: Contender, folder: Path) -> Iterator[Running]:
    """Runs a contender until it answers, and ends it afterwards.

    Args:
        contender: Whom.
        folder: Gets its log.

    Raises:
        BenchmarkError: It does not start.
    """
    log = folder / f"{contender.name.replace(',', '').replace(' ', '-')}.log"
    # Settings of ours must not reach a contender, nor a PYTHONPATH its own environment.
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TUTELAGE_") or name == "TUTELAGE_CACHE"
    }
    environment = {**ours, **contender.environment}
    url = f"http://127.0.0.1:{contender.port}{contender.ready_path}"
    with started(contender.command, log, environment=environment, folder=folder) as one:
        wait_for(one, lambda: answers(url), timeout_s=READY_S)
        yield Running(contender.name, contender.version, contender.port, one.pid, contender.headers)


def direct(upstream: Upstream) -> Running:
    """The upstream without anybody in front of it."""
    kind = "compiled" if upstream.is_compiled else "asyncio"
    return Running(DIRECT, kind, upstream.port, None)


def reference(upstream: Upstream) -> Contender:
    """The raw ASGI and aiohttp pass-through of this folder."""
    port = free_port()
    module = "tutelage.overhead.gateway.reference"
    address = upstream.base_url.removesuffix("/v1")
    command = (sys.executable, "-m", module, address, str(port))
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "aiohttp"))
    return Contender(REFERENCE, packages, command, port, "/v1/models")


def litellm(upstream: Upstream, folder: Path, environment: Path, found: str) -> Contender:
    """LiteLLM's proxy as lean as it goes: no database, no callbacks, no retries, one worker.

    Args:
        upstream: In front of which it runs.
        folder: Gets its configuration.
        environment: The folder that it is installed in.
        found: Its version.
    """
    port = free_port()
    key = "sk-bench"
    config = folder / "litellm.json"
    # JSON is YAML.
    config.write_text(
        json.dumps(
            {
                "model_list": [
                    {
                        "model_name": MODEL,
                        "litellm_params": {
                            "model": f"openai/{MODEL}",
                            "api_base": upstream.base_url,
                            "api_key": "unused",
                        },
                    }
                ],
                "general_settings": {"master_key": key},
                "litellm_settings": {"num_retries": 0, "telemetry": False},
                "router_settings": {"num_retries": 0},
            }
        )
    )
    command = (
        *(str(environment / "bin" / "litellm"), "--config", str(config)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", "1", "--telemetry", "False"),
    )
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
    headers = {"Authorization": f"Bearer {key}"}
    return Contender(LITELLM, found, command, port, "/health/liveliness", quiet, headers)


def portkey(upstream: Upstream, environment: Path, found: str) -> Contender:
    """Portkey's open-source gateway, whose clients say where the upstream is.

    Args:
        upstream: In front of which it runs.
        environment: The folder that it is installed in.
        found: Its version.
    """
    port = free_port()
    program = environment / "node_modules/@portkey-ai/gateway/build/start-server.js"
    command = ("node", str(program), f"--port={port}", "--headless")
    headers = {
        "Authorization": "Bearer unused",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": upstream.base_url,
    }
    return Contender(PORTKEY, found, command, port, "/", headers=headers)


def free_port() -> int:
    """A port of the loopback address that nobody listens at now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(url: str) -> bool:
    """Whether an address answers with 2xx; no proxy of the environment is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5.0) as answer:
            return bool(200 <= answer.status < 300)
    except (OSError, urllib.error.URLError):
        return False
