from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.benchmarks.worker_worlds import ABSENT, TASKS

from tutelage.benchmarks import worker
from tutelage.benchmarks.environment import Opening, OracleAction
from tutelage.benchmarks.worker import WorldProcess
from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorkerDied, WorldMissing

ROOM = "tests.benchmarks.worker_worlds:Room"
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[WorldProcess]:
    world = WorldProcess(ROOM, data=tmp_path)
    yield world
    await world.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process sets it
            await asyncio.sleep(0.005)


async def test_a_world_is_played_in_another_process(room: WorldProcess) -> None:
    assert tuple(await room.tasks("test")) == TASKS
    assert await room.reset(TASKS[1]) == Opening("count", "You are in room-1.")
    assert await room.oracle() == OracleAction("sit", "expert")
    outcome = await room.step("sit")
    assert room.pid != os.getpid()
    assert outcome.observation == f"sit, step 1 of process {room.pid}"
    assert (outcome.done, outcome.success) == (False, False)


async def test_the_instructions_are_known_once_the_world_has_started(room: WorldProcess) -> None:
    with pytest.raises(BenchmarkError, match="reset a task first"):
        _ = room.instructions
    await room.reset(TASKS[0])
    assert room.instructions == "Do something."


async def test_an_error_of_the_world_comes_back_as_itself(room: WorldProcess) -> None:
    with pytest.raises(WorldMissing, match="unknown split 'nope' of room"):
        await room.tasks("nope")
    await room.reset(TASKS[0])
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[chairs\]'") as caught:
        await room.step("import")
    assert (caught.value.package, caught.value.extra) == ("chairlib", "chairs")
    assert (await room.step("sit")).observation.startswith("sit, step 2")


async def test_a_world_that_cannot_start_says_why(tmp_path: Path) -> None:
    world = WorldProcess("tests.benchmarks.worker_worlds:Broken", data=tmp_path)
    for _ in range(2):
        with pytest.raises(WorldMissing, match=f"no rooms in {tmp_path}"):
            await world.tasks("test")
    assert world.pid is None
    await world.aclose()


async def test_an_unknown_world_names_the_known_ones() -> None:
    world = WorldProcess("chess")
    with pytest.raises(BenchmarkError, match="unknown world 'chess': use one of alfworld, appw"):
        await world.tasks("test")
    await world.aclose()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("fail", "ended with exit code 1 in 'step': KeyError: 'no such chair'"),
        ("exit 3", "ended with exit code 3 in 'step': out of chairs"),
    ],
)
async def test_a_dead_worker_is_named_with_its_exit_code_and_last_words(
    room: WorldProcess, action: str, message: str
) -> None:
    await room.reset(TASKS[0])
    with pytest.raises(WorkerDied, match=message):
        await room.step(action)


async def test_a_killed_worker_is_noticed_and_started_anew(room: WorldProcess) -> None:
    await room.reset(TASKS[0])
    first = room.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="exit code -9"):
        await room.step("sit")
    await room.reset(TASKS[0])
    assert room.pid not in (None, first)
    assert (await room.step("sit")).observation.startswith("sit, step 1")


async def test_ctrl_c_does_not_reach_the_worker(room: WorldProcess) -> None:
    await room.reset(TASKS[0])
    assert room.pid is not None
    os.kill(room.pid, signal.SIGINT)
    assert (await room.step("sit")).observation.startswith("sit, step 1")


async def test_the_announced_task_is_loaded_when_the_worker_is_idle(
    room: WorldProcess, tmp_path: Path
) -> None:
    room.prefetch(TASKS[2])
    await until((tmp_path / "prefetched-room-2").exists)
    assert (await room.reset(TASKS[2])).observation == "You are in room-2."


async def test_a_task_that_cannot_be_loaded_ahead_fails_at_its_reset(
    room: WorldProcess, tmp_path: Path
) -> None:
    room.prefetch(ABSENT)
    await until((tmp_path / "prefetched-absent").exists)
    with pytest.raises(WorldMissing, match="room absent"):
        await room.reset(ABSENT)


async def test_a_world_that_loads_nothing_ahead_is_left_in_peace() -> None:
    world = WorldProcess("household")
    task = (await world.tasks("test"))[0]
    world.prefetch(task)
    await asyncio.sleep(2 * worker.IDLE_S)
    assert (await world.reset(task)).goal
    await world.aclose()


async def test_a_waiting_step_does_not_hold_up_the_event_loop_or_mix_up_answers(
    room: WorldProcess, tmp_path: Path
) -> None:
    await room.reset(TASKS[0])
    waiting = asyncio.create_task(room.step("wait"))
    await until((tmp_path / "waiting").exists)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    following = asyncio.create_task(room.step("sit"))
    (tmp_path / "go").touch()
    assert (await following).observation.startswith("sit, step 2")


async def test_output_of_a_world_is_not_shown(
    room: WorldProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    await room.reset(TASKS[0])
    await room.step("talk")
    assert capfd.readouterr() == ("", "")


async def test_closing_ends_the_worker_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    world = WorldProcess(ROOM)
    await world.reset(TASKS[0])
    pid = world.pid
    assert pid is not None
    await world.aclose()
    await world.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not os.listdir(tmp_path)
    with pytest.raises(BenchmarkError, match="was closed"):
        await world.step("sit")
    world.prefetch(TASKS[0])


async def test_a_world_that_never_started_can_be_closed() -> None:
    world = WorldProcess(ROOM)
    await world.aclose()
    assert world.pid is None


async def test_closing_stops_a_busy_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CLOSE_GRACE_S", 0.05)
    world = WorldProcess(ROOM, data=tmp_path)
    await world.reset(TASKS[0])
    hanging = asyncio.create_task(world.step("hang"))
    await until((tmp_path / "hanging").exists)
    await world.aclose()
    with pytest.raises(WorkerDied, match="exit code -15"):
        await hanging


def test_a_worker_does_not_outlive_its_parent() -> None:
    started = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.orphaned_worker"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == -signal.SIGKILL
    status = Path(f"/proc/{int(started.stdout)}/status")
    deadline = time.monotonic() + 30
    while _is_running(status):
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.01)


def _is_running(status: Path) -> bool:
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False


def test_a_script_that_starts_a_world_unguarded_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import asyncio\n"
        "from tutelage.benchmarks.worker import WorldProcess\n"
        "asyncio.run(WorldProcess('household').tasks('test'))\n"
    )
    started = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert started.returncode == 1
    assert "ended with exit code 1 in 'starting': a script that starts a world" in started.stderr
