"""Gateways as processes of their own, on sockets of the loopback interface."""

from __future__ import annotations

import itertools
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

START_WITHIN_S = 60.0
LOGGED_WITHIN_S = 10.0
_SERVE = "from tutelage.cli.main import main; main()"


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that answers."""

    url: str
    """Without ``/v1``."""
    config: Path
    store: Path
    log: Path
    spool: Path
    """Where traces wait while the database is gone."""

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

    @property
    def log_characters(self) -> int:
        """How long the log is now."""
        return len(self.log.read_text("utf-8"))

    def logged(self, pattern: str, count: int, *, after: int = 0) -> list[re.Match[str]]:
        """Where a pattern is found in the log, once it is found ``count`` times or time is up.

        Args:
            pattern: A regular expression.
            count: A request is logged after its answer, so it may take a moment.
            after: Characters of the log to leave out.
        """
        deadline_s = time.monotonic() + LOGGED_WITHIN_S
        while True:
            found = list(re.finditer(pattern, self.log.read_text("utf-8")[after:]))
            if len(found) >= count or time.monotonic() > deadline_s:
                return found
            time.sleep(0.02)

    def steps(self, episode: str, count: int, *, after: int = 0) -> list[str]:
        """By whom each step of an episode was served, and why; see ``logged``."""
        pattern = rf" episode={episode} step=\d+ served=([\w-]+)\S* reason=(\w+)"
        return [f"{one[1]} {one[2]}" for one in self.logged(pattern, count, after=after)]

    def episodes(self) -> dict[str, bool | None]:
        """Episodes that have steps, and whether they are known to have succeeded."""
        query = (
            "select distinct traces.episode_id, success from traces "
            "left join episodes on episodes.id = traces.episode_id"
        )
        with sqlite3.connect(self.store) as connection:
            rows = connection.execute(query).fetchall()
        return {id: None if success is None else bool(success) for id, success in rows}

    def decisions(self) -> set[str]:
        """Ids of all traces in the database."""
        with sqlite3.connect(self.store) as connection:
            return {id for (id,) in connection.execute("select id from traces")}


def write_config(
    folder: Path, sections: Mapping[str, Mapping[str, Any]], *, written: str = ""
) -> Path:
    """A configuration file with a store in the same folder.

    Args:
        folder: Made if it is missing.
        sections: Tables and what stands in them.
        written: What a user wrote, in TOML; other tables than ``sections``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = {"url": f"sqlite:///{folder / 'store.sqlite'}", "spool": str(folder / "spool")}
    lines = [written]
    tables: dict[str, Mapping[str, Any]] = {
        "gateway": {"port": 0},
        "store": store,
        **sections,
    }
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
    configs: Mapping[str, Path],
    *,
    keyed: frozenset[str] = frozenset(),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[dict[str, RunningGateway]]:
    """Starts a gateway for each configuration, all at once, and stops them at the end.

    Args:
        configs: By name.
        keyed: Names of those that ask for keys.
        variables: What they find in their environment beside the usual.
    """
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(
                _process(config, {**environment_of(config), **variables}, is_open=name not in keyed)
            )
            for name, config in configs.items()
        }
        yield {
            name: RunningGateway(
                _address(process, log),
                config,
                store=config.parent / "store.sqlite",
                log=log,
                spool=config.parent / "spool",
            )
            for (name, config), (process, log) in zip(
                configs.items(), started.values(), strict=True
            )
        }


def lose_database(gateway: RunningGateway, model: str) -> None:
    """Puts something that is no database in its place, while the gateway runs.

    Args:
        gateway: It is asked once before, as any that has been running has: it then has the
            demonstrations in memory.
        model: What it is asked for.
    """
    ask = {"model": model, "messages": [{"role": "user", "content": "Say something."}]}
    after = gateway.log_characters
    httpx.post(f"{gateway.openai_url}/chat/completions", json=ask).raise_for_status()
    gateway.logged(" step=", 1, after=after)
    for file in gateway.store.parent.glob(f"{gateway.store.name}*"):
        file.unlink()
    gateway.store.mkdir()


def environment_of(config: Path) -> dict[str, str]:
    """What a gateway, and a command about its store, run with."""
    names = ("PATH", "HOME", "LANG", "PYTHONPATH")
    kept = {name: os.environ[name] for name in names if name in os.environ}
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
def _process(
    config: Path, environment: Mapping[str, str], *, is_open: bool
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    log = config.parent / "gateway.log"
    command = [sys.executable, "-c", _SERVE, "serve", "-c", str(config), "--json"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command + (["--open"] if is_open else []),
            env=environment,
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
