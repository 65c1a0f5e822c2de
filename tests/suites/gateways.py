"""Gateways as processes of their own, on sockets of the loopback interface."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_WITHIN_S = 60.0
_SERVE = "from tutelage.cli.main import main; main()"


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that answers."""

    url: str
    """Without ``/v1``."""
    config: Path
    store: Path
    log: Path

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    def served(self) -> dict[tuple[str, str, str], int]:
        """How many steps of each model were served by whom, and why."""
        query = (
            "select json_extract(body, '$.model'), served, reason, count(*) "
            "from traces group by 1, 2, 3"
        )
        with sqlite3.connect(self.store) as connection:
            rows = connection.execute(query).fetchall()
        return {(model, served, reason): count for model, served, reason, count in rows}


def write_config(folder: Path, sections: Mapping[str, Mapping[str, Any]]) -> Path:
    """A configuration file with a store in the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    store = {"store": {"url": f"sqlite:///{folder / 'store.sqlite'}"}}
    lines = []
    tables: dict[str, Mapping[str, Any]] = {"gateway": {"port": 0}, **store, **sections}
    for name, section in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in section.items()]
    path = folder / "tutelage.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


@contextmanager
def serving(
    configs: Mapping[str, Path], *, keyed: frozenset[str] = frozenset()
) -> Iterator[dict[str, RunningGateway]]:
    """Starts a gateway for each configuration, all at once, and stops them at the end.

    Args:
        configs: By name.
        keyed: Names of those that ask for keys.
    """
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(_process(config, is_open=name not in keyed))
            for name, config in configs.items()
        }
        yield {
            name: RunningGateway(
                _address(process, log), config, config.parent / "store.sqlite", log
            )
            for (name, config), (process, log) in zip(
                configs.items(), started.values(), strict=True
            )
        }


def environment_of(config: Path) -> dict[str, str]:
    """What a gateway, and a command about its store, run with."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "TUTELAGE_CACHE": str(config.parent / "cache"),
        "TUTELAGE_PEPPER": "a pepper of tests, at least 32 characters long",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_command(config: Path, *arguments: str) -> Any:
    """What a ``tutelage`` command prints as JSON."""
    command = [sys.executable, "-c", _SERVE, *arguments, "-c", str(config), "--json"]
    done = subprocess.run(
        command, env=environment_of(config), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def _process(config: Path, *, is_open: bool) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    log = config.parent / "gateway.log"
    command = [sys.executable, "-c", _SERVE, "serve", "-c", str(config), "--json"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command + (["--open"] if is_open else []),
            env=environment_of(config),
            cwd=config.parent,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield process, log
    finally:
        process.terminate()
        process.wait(START_WITHIN_S)
        assert process.stdout is not None
        process.stdout.close()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    lines = list(itertools.takewhile(lambda line: line.strip() != "}", process.stdout))
    assert lines, f"the gateway did not start: {log.read_text()[-2000:]}"
    return str(json.loads("".join([*lines, "}"]))["base_url"]).removesuffix("/v1")
