"""A real ``tutelage serve`` process: its start, its signals, its workers and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.served_gateway import Got, World, call, received, text_of, until

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.gateway.server import GatewayServer, listen
from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.serving import open_gateway

pytestmark = pytest.mark.slow
STUDENT, TEACHER = "go to desk 1", "go to the teacher's desk"
PEPPER = {"TUTELAGE_PEPPER": "a pepper of the tests, long enough"}


@dataclass
class Process:
    """A gateway of its own."""

    process: asyncio.subprocess.Process
    base_url: str
    client: aiohttp.ClientSession
    log: list[str] = field(default_factory=list)

    async def ask(self, model: str = "cascade", **fields: Any) -> Got:
        body = call("chat", model, **fields)
        async with self.client.post(f"{self.base_url}/chat/completions", json=body) as response:
            return await received(response)

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()

    async def logged(self, text: str, times: int = 1) -> None:
        """Returns when the log says something so often."""
        await until(lambda: sum(text in line for line in self.log) >= times, 60)

    def workers(self) -> list[int]:
        """Processes that serve, if there are several."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [pid for pid in map(int, children.split()) if _is_worker(pid)]


def _stored(database: Path) -> int:
    """How many traces are in the database."""
    with closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM traces").fetchone()
    return int(count)


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def write(world: World, path: Path, settings: dict[str, Any]) -> None:
    """Writes a configuration of the world as TOML."""
    tree = world.config(settings).model_dump(mode="json", exclude_none=True, exclude_unset=True)
    path.write_text("\n".join(_toml(tree)), encoding="utf-8")


def _toml(table: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    plain = {k: v for k, v in table.items() if not isinstance(v, dict)}
    if prefix and plain:
        lines.append(f"[{prefix}]")
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _toml(value, f"{prefix}.{json.dumps(key)}" if prefix else json.dumps(key))
    return lines


async def run(
    arguments: Sequence[str], folder: Path, environment: dict[str, str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tutelage.cli.main", "serve", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=folder,
        env={**os.environ, "TUTELAGE_CACHE": str(folder / "cache"), **environment},
    )  # fmt: skip


Start = Callable[..., Any]


@pytest.fixture
async def start(world: World, tmp_path: Path) -> Start:
    """Starts ``tutelage serve`` with settings, and ends it with the block."""

    @asynccontextmanager
    async def started(
        settings: dict[str, Any] | None = None, *, keys: bool = False
    ) -> AsyncIterator[Process]:
        path = tmp_path / "tutelage.toml"
        write(world, path, settings or {})
        arguments = ["--config", str(path), "--json", *([] if keys else ["--open"])]
        process = await run(arguments, tmp_path, PEPPER if keys else {})
        assert process.stdout is not None
        log: list[str] = []
        reading = asyncio.create_task(read(process, log))
        try:
            ready = await asyncio.wait_for(process.stdout.readuntil(b"}\n"), 60)
            async with aiohttp.ClientSession() as client:
                yield Process(process, json.loads(ready)["base_url"], client, log)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            # Both to their ends: a pipe that is left open is a warning in a later test.
            await asyncio.gather(reading, process.stdout.read())

    async def read(process: asyncio.subprocess.Process, log: list[str]) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            log.append(line.decode().rstrip())

    return started


async def refused(arguments: Sequence[str], folder: Path, **environment: str) -> tuple[int, str]:
    """How a process ends that does not start, and its one line on stderr."""
    clean = {name: "" for name in ("TUTELAGE_PEPPER",)}
    process = await run(arguments, folder, {**clean, **environment})
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, err.decode().strip()


@pytest.fixture
def file(world: World, tmp_path: Path) -> Path:
    path = tmp_path / "tutelage.toml"
    write(world, path, {})
    return path


# What it refuses to start with.


async def test_an_open_gateway_is_for_the_loopback_interface_only(
    file: Path, tmp_path: Path
) -> None:
    arguments = ["--config", str(file), "--open", "--set", "gateway.host=0.0.0.0"]

    code, err = await refused(arguments, tmp_path)

    assert code == 2
    assert "--open" in err
    assert "0.0.0.0" in err
    assert "Traceback" not in err


async def test_keys_need_a_pepper(file: Path, tmp_path: Path) -> None:
    code, err = await refused(["--config", str(file)], tmp_path)

    assert code == 2
    assert "TUTELAGE_PEPPER" in err
    assert "Traceback" not in err


async def test_a_port_that_is_taken_is_named(file: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--config", str(file), "--open", "--set", f"gateway.port={port}"]
        code, err = await refused(arguments, tmp_path)

    assert code == 2
    assert f"127.0.0.1:{port}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_bad_configuration_is_named(workers: int, file: Path, tmp_path: Path) -> None:
    bad = ["--set", "aliases.x.upstreams=['nobody']", "--set", f"gateway.workers={workers}"]

    code, err = await refused(["--config", str(file), "--open", *bad], tmp_path)

    assert code == 2
    assert "aliases.x.upstreams" in err
    assert "nobody" in err
    assert "Traceback" not in err


def test_an_address_that_cannot_be_used_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 203\.0\.113\.1:0"):
        listen("203.0.113.1", 0)


def test_small_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as door:
        assert door.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_in_flight_is_finished_and_traced_before_the_end(
    number: signal.Signals, start: Start, world: World, database: Path, tmp_path: Path
) -> None:
    world.teacher.gate = asyncio.Event()
    async with start() as served:
        streaming = asyncio.create_task(served.ask("teacher", stream=True))
        whole = asyncio.create_task(served.ask("teacher"))
        await world.teacher.arrived(2)
        served.tell(number)
        await refuses_new_clients(served.base_url)
        world.teacher.gate.set()
        answers = [await streaming, await whole]
        code = await served.ended()

    async with SqlTraceStore(f"sqlite:///{database}", spool=Spool(tmp_path / "spool")) as store:
        traces = await store.traces("default")
    assert code == 0
    assert b"data: [DONE]" in answers[0].raw
    assert text_of("chat", answers[1].json) == TEACHER
    assert {trace.id for trace in traces} == {one.told("decision-id") for one in answers}
    assert not any("Traceback" in line for line in served.log)


async def refuses_new_clients(base_url: str) -> None:
    port = int(base_url.split(":")[2].split("/")[0])
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.01)


async def test_what_does_not_finish_in_time_is_cut_off_and_traced(
    start: Start, world: World, database: Path, tmp_path: Path
) -> None:
    world.teacher.fault = "hang"
    async with start({"gateway.shutdown_s": 1.0}) as served:
        asking = asyncio.create_task(served.ask("teacher"))
        await world.teacher.arrived()
        served.tell(signal.SIGTERM)
        code = await served.ended()
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            assert (await asking).status == 200

    async with SqlTraceStore(f"sqlite:///{database}", spool=Spool(tmp_path / "spool")) as store:
        (trace,) = await store.traces("default")
    assert code == 0
    assert trace.error is not None
    assert trace.error.startswith("cancelled")


async def test_a_hang_up_reads_the_configuration_again(
    start: Start, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "tutelage.toml"
    world.teacher.gate = asyncio.Event()
    async with start() as served:
        before = await served.ask("cascade")
        in_flight = asyncio.create_task(served.ask("teacher"))
        await world.teacher.arrived()
        write(world, path, {"aliases": {"cascade": {"mode": "passthrough"}}})
        served.tell(signal.SIGHUP)
        await served.logged("the configuration is reloaded")
        world.teacher.gate.set()
        finished = await in_flight
        after = await served.ask("cascade")
        gone = await served.ask("teacher")

        path.write_text("[gateway\nport = 'none'", encoding="utf-8")
        served.tell(signal.SIGHUP)
        await served.logged("the running one stays")
        kept = await served.ask("cascade")
        write(world, path, {"aliases": {"x": {"upstreams": ["nobody"]}}})
        served.tell(signal.SIGHUP)
        await served.logged("the running one stays", times=2)
        still = await served.ask("cascade")

    assert text_of("chat", before.json) == STUDENT
    assert text_of("chat", finished.json) == TEACHER
    assert gone.status == 404
    assert [text_of("chat", one.json) for one in (after, kept, still)] == [TEACHER] * 3
    assert any("nobody" in line for line in served.log)


async def test_signals_reach_a_server_within_a_process(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    config = world.config()
    gateway = await open_gateway(config, is_open=True)
    reloads: list[str] = []

    async def reload() -> None:
        reloads.append("asked")
        if len(reloads) == 2:
            raise ConfigError("nobody reads this")

    server = GatewayServer(gateway, config.gateway, listen("127.0.0.1", 0), reload=reload)
    ready = asyncio.Event()
    serving = asyncio.create_task(server.serve(ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    with caplog.at_level("INFO"):
        for count in (1, 2):
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda wanted=count: len(reloads) == wanted)  # type: ignore[misc]
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 10)

    assert gateway.is_stopping
    assert "the configuration is reloaded" in caplog.text
    assert "the running one stays: nobody reads this" in caplog.text


async def test_a_second_signal_drops_what_is_in_flight(world: World) -> None:
    world.teacher.fault = "hang"
    config = world.config()
    gateway = await open_gateway(config, is_open=True)
    door = listen("127.0.0.1", 0)
    address = f"http://127.0.0.1:{door.getsockname()[1]}/v1/chat/completions"

    async def reload() -> None:
        raise AssertionError("nobody asked for it")

    server = GatewayServer(gateway, config.gateway, door, reload=reload)
    ready = asyncio.Event()
    serving = asyncio.create_task(server.serve(ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    async with aiohttp.ClientSession() as client:
        asking = asyncio.create_task(client.post(address, json=call("chat", "teacher")))
        await world.teacher.arrived()
        server.stop()
        await asyncio.sleep(0.05)
        assert not serving.done()
        server.stop()
        await asyncio.wait_for(serving, 10)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    assert gateway.is_stopping


# Several workers.


async def test_a_worker_that_dies_is_replaced(
    start: Start, world: World, database: Path, tmp_path: Path
) -> None:
    async with start({"gateway.workers": 2}) as served:
        first = set(served.workers())
        answers = [await served.ask() for _ in range(10)]
        # What a killed worker had not yet written is gone; only that.
        await until(lambda: _stored(database) == 10, 60)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(set(served.workers()) - {victim}) == 2, 60)
        # A client whose worker died with its connection comes again.
        async with aiohttp.ClientSession() as served.client:
            answers += [await served.ask() for _ in range(10)]
        served.tell(signal.SIGHUP)
        await served.logged("the configuration is reloaded")
        async with aiohttp.ClientSession() as served.client:
            answers += [await served.ask() for _ in range(10)]
        served.tell(signal.SIGTERM)
        code = await served.ended()

    async with SqlTraceStore(f"sqlite:///{database}", spool=Spool(tmp_path / "spool")) as store:
        traces = await store.traces("default")
    assert len(first) == 2
    assert code == 0
    assert {text_of("chat", one.json) for one in answers} == {STUDENT}
    # Several processes wrote to one database, and none of it is lost.
    assert {trace.id for trace in traces} == {one.told("decision-id") for one in answers}


async def test_workers_do_not_outlive_their_supervisor(start: Start) -> None:
    async with start({"gateway.workers": 2}) as served:
        workers = served.workers()
        served.process.kill()
        await served.ended()
        await until(lambda: not any(map(_is_worker, workers)), 60)

    assert len(workers) == 2


# The process that writes traces.

RELAYED = {"aliases": {"relayed": {"mode": "passthrough"}}}


def _writing(pid: int) -> list[int]:
    """Processes that write traces for another one."""
    # A thread of it has started them.
    found = [one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/children")]
    return [one for one in map(int, " ".join(found).split()) if _writes_traces(one)]


def _writes_traces(pid: int) -> bool:
    try:
        return b"trace_writing" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def test_traces_are_written_by_a_process_that_is_replaced_when_it_dies(
    start: Start, database: Path
) -> None:
    async with start(RELAYED) as served:
        answers = [await served.ask("relayed") for _ in range(5)]
        await until(lambda: _stored(database) == 5, 60)
        (victim,) = _writing(served.process.pid)
        os.kill(victim, signal.SIGKILL)
        answers += [await served.ask("relayed") for _ in range(5)]
        await served.logged("another one starts")
        answers += [await served.ask("relayed") for _ in range(5)]
        served.tell(signal.SIGTERM)
        code = await served.ended()

    assert code == 0
    assert {one.status for one in answers} == {200}
    assert _ids(database) == {one.told("decision-id") for one in answers}


async def test_what_was_handed_over_is_written_although_the_gateway_is_killed(
    start: Start, database: Path
) -> None:
    async with start(RELAYED) as served:
        answers = [await served.ask("relayed") for _ in range(5)]
        await until(lambda: _stored(database) == 5, 60)
        (writer,) = _writing(served.process.pid)
        os.kill(writer, signal.SIGSTOP)
        answers += [await served.ask("relayed") for _ in range(5)]
        # Within 20 ms it is on its way; a process that is told nothing does not count them.
        await asyncio.sleep(0.5)
        served.process.kill()
        # Not `ended`: the stopped process still holds the pipe of the log.
        await until(lambda: served.process.returncode is not None, 60)
        os.kill(writer, signal.SIGCONT)
        await until(lambda: _stored(database) == 10, 60)
        await until(lambda: not _writes_traces(writer), 60)

    assert _ids(database) == {one.told("decision-id") for one in answers}


async def test_only_a_gateway_that_relays_everything_has_such_a_process(start: Start) -> None:
    async with start() as served:
        await served.ask("passthrough")
        assert _writing(served.process.pid) == []


async def test_each_worker_has_its_own_and_none_outlives_it(start: Start, database: Path) -> None:
    async with start({**RELAYED, "gateway.workers": 2}) as served:
        answers = [await served.ask("relayed") for _ in range(6)]
        writers = [one for worker in served.workers() for one in _writing(worker)]
        served.tell(signal.SIGHUP)
        await served.logged("the configuration is reloaded", 2)
        answers += [await served.ask("relayed") for _ in range(6)]
        served.tell(signal.SIGTERM)
        code = await served.ended()
        await until(lambda: not any(map(_writes_traces, writers)), 60)

    assert code == 0
    assert len(writers) == 2
    assert _ids(database) == {one.told("decision-id") for one in answers}


def _ids(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {id for (id,) in connection.execute("SELECT id FROM traces")}


# Keys.


async def test_a_gateway_with_keys_asks_for_them(start: Start) -> None:
    async with start(keys=True) as served:
        got = await served.ask()

    assert got.status == 401
    assert got.json["error"]["code"] == "invalid_api_key"
