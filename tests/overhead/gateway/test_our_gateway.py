from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tutelage.overhead.gateway.our_gateway import PEPPER, Service, our_gateway, toml
from tutelage.overhead.gateway.upstream import Upstream
from tutelage.runtime.config import load_config
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Pepper
from tutelage.runtime.secret import Secret
from tutelage.runtime.store.database import open_engine

MODES: Any = ["passthrough", "cascade"]


@pytest.mark.parametrize("mode", MODES)
async def test_the_configuration_is_one_that_the_gateway_reads(
    upstream: Upstream, tmp_path: Path, mode: Any
) -> None:
    service = Service("ours", mode=mode, trace=False, embedder="hash")

    made = await our_gateway(service, upstream, tmp_path)

    config = load_config(Path(made.command[-1]), {})
    assert config.teacher.base_url == upstream.base_url
    assert config.teacher.attempts == 1
    assert config.student.base_url == (upstream.base_url if mode == "cascade" else None)
    assert config.aliases["*"].mode == mode
    assert config.retrieval.enabled is (mode == "cascade")
    assert config.gateway.trace is False
    assert config.gateway.port == made.port


async def test_its_key_opens_it(upstream: Upstream, tmp_path: Path) -> None:
    made = await our_gateway(Service("ours"), upstream, tmp_path)

    engine = open_engine(f"sqlite:///{tmp_path / 'overhead.sqlite'}")
    async with Keyring(engine, Pepper(Secret(PEPPER))) as keyring:
        caller = await keyring.identify(made.headers["Authorization"].removeprefix("Bearer "))
    engine.dispose()
    assert caller.tenant == load_config(Path(made.command[-1]), {}).tenant
    assert not caller.is_limited
    assert made.environment["TUTELAGE_CACHE"].startswith(str(tmp_path))


async def test_a_probe_is_put_into_the_same_command(upstream: Upstream, tmp_path: Path) -> None:
    plain = await our_gateway(Service("ours"), upstream, tmp_path)
    probed = await our_gateway(Service("ours", probe=tmp_path / "ticks"), upstream, tmp_path)

    assert plain.command[1:5] == ("-m", "tutelage.cli.main", "serve", "--config")
    assert probed.command[2:6] == (
        "tutelage.overhead.gateway.probed",
        str(tmp_path / "ticks"),
        "serve",
        "--config",
    )


def test_tables_are_written_as_toml() -> None:
    tables = {"a": 'x"\\', "b": {"c": 1, "d": {"*": {"e": True}}}, "f": {}}

    assert tomllib.loads(toml(tables)) == tables
