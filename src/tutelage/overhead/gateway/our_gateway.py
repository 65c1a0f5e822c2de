"""``tutelage serve`` as a contender: its configuration, its key, its command."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tutelage.overhead.gateway.answers import MODEL
from tutelage.overhead.gateway.contenders import Contender, free_port
from tutelage.overhead.gateway.upstream import Upstream
from tutelage.overhead.setting import TENANT
from tutelage.version import __version__

PEPPER_VARIABLE = "TUTELAGE_PEPPER"
PEPPER = "only-for-the-benchmark-0123456789"
READY_PATH = "/readyz"
NEVER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Service:
    """How our gateway is configured."""

    name: str
    mode: Literal["passthrough", "cascade"] = "passthrough"
    trace: bool = True
    embedder: Literal["minilm", "hash"] = "minilm"
    probe: Path | None = None
    """Gets the stalls of its event loop; absent: nothing watches it."""


async def our_gateway(service: Service, upstream: Upstream, folder: Path) -> Contender:
    """Writes the configuration and a client's key, and says how the gateway is run.

    A bank that lies in the folder as ``overhead.sqlite`` is used; else there is none.

    Args:
        service: How it is configured.
        upstream: Teacher, and student if there is one.
        folder: Gets configuration, database and cache.

    Raises:
        StoreError: The key cannot be stored.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    url = f"sqlite:///{folder / 'overhead.sqlite'}"
    key = await _new_key(url)
    port = free_port()
    config = folder / f"{port}.toml"
    config.write_text(toml(settings(service, upstream, url, folder, port)))
    program: tuple[str, ...] = ("tutelage.cli.main",)
    if service.probe is not None:
        program = ("tutelage.overhead.gateway.probed", str(service.probe))
    command = (sys.executable, "-m", *program, "serve", "--config", str(config))
    environment = {PEPPER_VARIABLE: PEPPER, "TUTELAGE_CACHE": str(folder / "cache")}
    headers = {"Authorization": f"Bearer {key}"}
    return Contender(service.name, __version__, command, port, READY_PATH, environment, headers)


def settings(
    service: Service, upstream: Upstream, store_url: str, folder: Path, port: int
) -> dict[str, Any]:
    """The configuration of one gateway, as nested tables."""
    model = {"base_url": upstream.base_url, "model": MODEL, "attempts": 1}
    cascades = service.mode == "cascade"
    return {
        "tenant": TENANT,
        # What fails on purpose is to be passed on, neither repeated nor kept away from.
        "teacher": {**model, "priced_as": "claude-sonnet-4-5", "break_after": NEVER},
        "student": {**model, "priced_as": "gpt-4.1-mini"} if cascades else {},
        "cascade": {"grammar": "household"},
        "retrieval": {"enabled": cascades, "embedder": service.embedder},
        "store": {"url": store_url, "spool": str(folder / f"spool-{port}")},
        "aliases": {"*": {"mode": service.mode}},
        "gateway": {"port": port, "trace": service.trace, "log_requests": False},
    }


def toml(tables: Mapping[str, Any]) -> str:
    """Nested tables of plain values as TOML."""
    return "".join(f"{line}\n" for line in _lines(tables, ()))


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [f"[{'.'.join(json.dumps(name) for name in path)}]"] if path else []
    # A JSON string, number or boolean is one of TOML, too.
    lines += [
        f"{json.dumps(key)} = {json.dumps(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping)
    ]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _lines(value, (*path, key))
    return lines


async def _new_key(url: str) -> str:
    from tutelage.runtime.gateway.key_store import Operator
    from tutelage.runtime.gateway.keyring import Keyring
    from tutelage.runtime.gateway.keys import Pepper
    from tutelage.runtime.gateway.orders import KeyOrder
    from tutelage.runtime.secret import Secret
    from tutelage.runtime.store.database import migrate, open_engine

    engine = open_engine(url)
    try:
        await asyncio.to_thread(migrate, engine)
        async with Keyring(engine, Pepper(Secret(PEPPER))) as keyring:
            order = KeyOrder(name="benchmark", tenant=TENANT)
            issued = await keyring.create(order, Operator("benchmark"))
        return issued.text.reveal()
    finally:
        engine.dispose()
