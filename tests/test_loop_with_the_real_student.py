"""The whole loop with real parts: traffic, gate, LoRA of SmolLM2, release, vLLM, canary."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.absence import absent
from tests.conftest import VllmEndpoint

from tutelage.assembly import Assembly, open_assembly
from tutelage.benchmarks.arms import ARMS, Arm
from tutelage.benchmarks.budget import Budget
from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.episode import EpisodePlay
from tutelage.benchmarks.manifest import RunSettings
from tutelage.benchmarks.oracle_teacher import OracleTeacher
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import EpisodeResult, read_results, teacher_share
from tutelage.benchmarks.worker import WorldProcess
from tutelage.loop import open_flywheel
from tutelage.policies import Choice
from tutelage.rehearsal import Play, collect, replay, split_tasks
from tutelage.released import released_config
from tutelage.runtime.cache_dir import cache_dir
from tutelage.runtime.config import Config, load_config
from tutelage.runtime.models.vllm_environment import detect_device, is_installed, vllm_folder
from tutelage.runtime.prefix_cache import PrefixCacheMeter
from tutelage.runtime.release import Release, Served
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training.deploy import ServerDeployment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.student,
    # Raised inside peft by transformers 5, not by our calls.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

LEARNT = "train:240"
"""What the teacher plays before there is anything to learn from."""
TRAFFIC = "train:300-380"
"""Tasks on which the canary is tried."""
UNSEEN = "test:20"
MAX_STEPS = 20


async def test_a_student_that_learnt_from_traffic_replaces_the_one_that_only_saw_demonstrations(
    vllm_server: VllmEndpoint, tmp_path: Path
) -> None:
    if not is_installed(vllm_folder(cache_dir(), detect_device())):
        absent("vLLM is not installed: run `make student`")
    config = _config(vllm_server, tmp_path)
    before = await _with_demonstrations(config, tmp_path)

    async with open_assembly(config) as assembly:
        deployment = ServerDeployment(tmp_path / "servers")
        flywheel = open_flywheel(assembly, config.tenant, deployment=deployment)
        turning = asyncio.create_task(flywheel.run(config.tenant, "student"))
        try:
            await _serve_until(turning, assembly, await _tasks(tmp_path, TRAFFIC))
            result = await turning
            assert (result.state, "promoted" in result.text) == ("finished", True), result
            release = _current(assembly)
            after = await _played(released_config(config, _served(release)), tmp_path / "after")
        finally:
            turning.cancel()
            for release in _releases(assembly):
                await deployment.down(release)

    assert _solved(after, "student") >= _solved(before, "demos") + 0.2
    assert _share(after, "cascade") < _share(before, "demos-cascade")
    assert _solved(after, "cascade") >= _solved(before, "demos-cascade") - 0.05


def _config(server: VllmEndpoint, folder: Path) -> Config:
    return load_config(
        environment={},
        overrides={
            "store.url": f"sqlite:///{folder / 'store.sqlite'}",
            "cascade.grammar": "household",
            # Whole chats, as the student is taught to read.
            "prompt.history_turns": "all",
            "teacher.priced_as": "claude-sonnet-4-5",
            "student.base_url": server.base_url,
            "student.model": server.model,
            "student.priced_as": "gpt-4.1-mini",
            "releases.student": "student",
            "releases.folder": str(folder / "releases"),
            # 20 tasks can show a loss of 30 points, not one of 5.
            "releases.canary_margin": 0.3,
            "releases.canary_delta": 0.2,
            "releases.canary_shares": [0.5],
            "releases.canary_poll_s": 1.0,
            "releases.drain_s": 0.0,
            "releases.refresh_s": 1.0,
            "flywheel.folder": str(folder / "flywheel"),
            "flywheel.min_new_traces": 100,
            "flywheel.world": "household",
            "flywheel.split": UNSEEN,
            "flywheel.arm": "cascade",
            "training.shape": "trajectories",
            "training.settings": {
                "steps": 320,
                "tokens_per_batch": 640,
                "learning_rate": 2e-3,
                "threads": 2,
            },
            "training.held_out": 0.05,
            "releases.shadow_steps": 10,
        },
    )


async def _with_demonstrations(config: Config, folder: Path) -> list[EpisodeResult]:
    """The teacher's traffic, with feedback, and what demonstrations of it do for the student."""
    # A database of its own: what is played to measure is no traffic.
    async with open_assembly(config) as assembly:
        learnt = Play(world="household", split=LEARNT, out=folder / "collected", max_steps=50)
        await collect(assembly, learnt, Unwatched())
    store = folder / "measured.sqlite"
    with (
        closing(sqlite3.connect(folder / "store.sqlite")) as traffic,
        closing(sqlite3.connect(store)) as copy,
    ):
        traffic.backup(copy)
    measured = config.store.model_copy(update={"url": f"sqlite:///{store}"})
    return await _played(
        config.model_copy(update={"store": measured}),
        folder / "before",
        (ARMS["demos"], ARMS["demos-cascade"]),
    )


async def _played(
    config: Config, out: Path, arms: Sequence[Arm] = (ARMS["student"], ARMS["cascade"])
) -> list[EpisodeResult]:
    play = Play(world="household", split=UNSEEN, out=out, jobs=4, max_steps=MAX_STEPS)
    async with open_assembly(config) as assembly:
        await replay(assembly, play, arms, Unwatched())
    return read_results(out)


async def _serve_until(
    turning: asyncio.Task[object], assembly: Assembly, tasks: Sequence[Task]
) -> None:
    """Traffic through the library, as an agent sends it, until the flywheel has decided."""
    queue = iter(tasks)

    async def agent() -> None:
        world = WorldProcess("household")
        try:
            while not turning.done():
                if not _canary_serves(assembly):
                    await asyncio.sleep(0.5)
                    continue
                task = next(queue, None)
                assert task is not None, "the canary is not decided after all tasks"
                await _serve(assembly, world, task)
        finally:
            await world.aclose()

    await asyncio.gather(agent(), agent())


async def _serve(assembly: Assembly, world: WorldProcess, task: Task) -> None:
    runtime = assembly.runtime(
        teacher=OracleTeacher(world, count_tokens=assembly.count_tokens, meter=PrefixCacheMeter()),
        student=await assembly.student(),
        choice=Choice(guards=("loop", "rejection", "stall")),
        demonstrations=False,
        releases=True,
    )
    settings = RunSettings(
        world="household",
        split="train",
        teacher="oracle",
        teacher_kind="oracle",
        student="released",
        teacher_priced_as="claude-sonnet-4-5",
        student_priced_as="gpt-4.1-mini",
        prices_date="2026-11",
        max_steps=50,
        max_tokens=24,
        bank_episodes=0,
        more={},
    )
    arm = replace(ARMS["cascade"], name="traffic")
    play = EpisodePlay(arm, task, 0, settings, "", assembly.config.tenant, time.time, time.time)
    await play.play(world, runtime, f"traffic-{task.id}", Budget(None, 0.0))


async def _tasks(folder: Path, split: str) -> Sequence[Task]:
    return await split_tasks(Play(world="household", split=split, out=folder))


def _releases(assembly: Assembly) -> Sequence[Release]:
    store = SqlReleaseStore(assembly.engine, time.time)
    return store.releases(assembly.config.tenant, "student")


def _canary_serves(assembly: Assembly) -> bool:
    return any(one.stage == "canary" for one in _releases(assembly))


def _current(assembly: Assembly) -> Release:
    return next(one for one in _releases(assembly) if one.stage == "current")


def _served(release: Release) -> Served:
    return Served(release.name, release.weights_sha256, release.base_url)


def _solved(results: Sequence[EpisodeResult], arm: str) -> float:
    mine = [one.success for one in results if one.arm == arm]
    return sum(mine) / len(mine)


def _share(results: Sequence[EpisodeResult], arm: str) -> float:
    share = teacher_share([one for one in results if one.arm == arm])
    assert share is not None
    return share
