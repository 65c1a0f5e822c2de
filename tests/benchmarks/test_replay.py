from __future__ import annotations

import asyncio
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.tiny_world import (
    Corridor,
    TinyRuntime,
    lasting,
    oracle,
    settings,
    tasks,
    tiny_replay,
)

from tutelage.benchmarks.arms import Arm, find_arms
from tutelage.benchmarks.environment import OracleAction, Outcome
from tutelage.benchmarks.episode import EpisodeRuntime
from tutelage.benchmarks.manifest import read_manifest
from tutelage.benchmarks.replay import ReplaySummary, stop_on_interrupt
from tutelage.benchmarks.results import EpisodeResult, deferral_share, read_results
from tutelage.benchmarks.results_folder import open_results
from tutelage.runtime.errors import BenchmarkError, ConfigError, ModelTimeout, WorkerDied
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Completion

ALL = find_arms(["teacher", "student", "demos", "demos-cascade", "random-mix"])


async def play(folder: Path, arms: tuple[Arm, ...] = ALL, **parts: Any) -> ReplaySummary:
    with open_results(folder, settings(), arms) as results:
        return await tiny_replay(results, arms, **parts).run()


async def test_every_arm_plays_every_task_with_every_seed_once(tmp_path: Path) -> None:
    summary = await play(tmp_path, seeds=[0, 1], jobs=3)
    results = read_results(tmp_path)
    assert summary.stopped == "finished"
    assert summary.done == summary.planned == len(results) == 5 * 4 * 2
    assert len({result.key for result in results}) == 40
    assert summary.exit_code == 0
    assert "40 of 40" in summary.line("x")


async def test_the_number_of_jobs_changes_no_result(tmp_path: Path) -> None:
    await play(tmp_path / "one", jobs=1)
    await play(tmp_path / "many", jobs=4)
    assert lasting(read_results(tmp_path / "one")) == lasting(read_results(tmp_path / "many"))


async def test_a_second_run_plays_only_what_is_missing(tmp_path: Path) -> None:
    worlds: list[Corridor] = []

    def world() -> Corridor:
        worlds.append(Corridor())
        return worlds[-1]

    teacher = find_arms(["teacher"])
    await play(tmp_path, teacher, tasks=tasks(2), world=world)
    await play(tmp_path, teacher, tasks=tasks(4), world=world)
    await play(tmp_path, teacher, tasks=tasks(4), world=world)
    assert [one.resets for one in worlds] == [
        ["corridor-0", "corridor-1"],
        ["corridor-2", "corridor-3"],
    ]
    assert all(one.closed for one in worlds)


async def test_the_next_game_is_prefetched(tmp_path: Path) -> None:
    worlds = [Corridor()]
    await play(tmp_path, find_arms(["teacher", "student"]), world=lambda: worlds[0])
    assert worlds[0].prefetched == ["corridor-1", "corridor-2", "corridor-3"]


async def test_a_random_mix_uses_the_measured_deferral_share_and_keeps_it(tmp_path: Path) -> None:
    chances: list[float | None] = []

    def build(arm: Arm, teacher: Model, seed: int) -> EpisodeRuntime:
        if arm.name == "random-mix":
            chances.append(arm.p_teacher)
        return TinyRuntime(arm, teacher, seed)

    await play(tmp_path, build_runtime=build)
    share = deferral_share(r for r in read_results(tmp_path) if r.arm == "demos-cascade")
    assert chances == [share] * 4
    await play(tmp_path, build_runtime=build, tasks=tasks(6))
    assert chances == [share] * 6
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.mix == {"random-mix": share}


async def test_a_random_mix_without_its_measured_arm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"random-mix .* demos-cascade.*: add demos-cascade"):
        await play(tmp_path, find_arms(["random-mix"]))


async def test_the_dollar_cap_stops_the_run_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    teacher = find_arms(["teacher"])
    full = await play(tmp_path / "full", teacher)
    cap = full.spent_usd / 2
    summary = await play(tmp_path / "capped", teacher, max_usd=cap)
    assert summary.stopped == "budget"
    assert 0 < summary.done < summary.planned
    # One step beyond the cap at most, with one episode at a time.
    assert cap <= summary.spent_usd <= cap + 0.001
    assert "the cap of $" in summary.line("again")
    with open_results(tmp_path / "capped", settings(), teacher) as folder:
        assert folder.spent_usd == pytest.approx(summary.spent_usd)
        # Still at the cap: nothing is played.
        assert (await tiny_replay(folder, teacher, max_usd=cap).run()).done == summary.done
    summary = await play(tmp_path / "capped", teacher, max_usd=1.0)
    assert summary.stopped == "finished"
    assert lasting(read_results(tmp_path / "capped")) == lasting(read_results(tmp_path / "full"))


async def test_the_mix_is_not_measured_on_an_arm_that_a_cap_cut_short(tmp_path: Path) -> None:
    summary = await play(tmp_path, max_usd=0.001)
    manifest = read_manifest(tmp_path)
    assert summary.stopped == "budget"
    assert manifest is not None
    assert manifest.mix == {}


async def test_a_stop_cuts_what_is_in_play_and_loses_nothing_that_is_done(tmp_path: Path) -> None:
    stop = asyncio.Event()
    played: list[EpisodeResult] = []

    class StopAfterThree:
        def planned(self, arm: Arm, episodes: int, done: object) -> None:
            assert episodes == 4

        def finished(self, result: EpisodeResult) -> None:
            played.append(result)
            if len(played) == 3:
                stop.set()

    with open_results(tmp_path, settings(), ALL) as folder:
        replay = tiny_replay(
            folder,
            ALL,
            jobs=2,
            world=lambda: Corridor(delay_s=0.001),
            watcher=StopAfterThree(),
        )
        summary = await replay.run(stop)
    assert summary.stopped == "interrupted"
    assert summary.exit_code == 130
    assert "go on with: tutelage replay --out x" in summary.line("tutelage replay --out x")
    assert read_results(tmp_path) == played
    await play(tmp_path)
    await play(tmp_path / "undisturbed")
    assert lasting(read_results(tmp_path)) == lasting(read_results(tmp_path / "undisturbed"))


async def test_a_stop_before_the_start_plays_nothing(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    with open_results(tmp_path, settings(), ALL) as folder:
        summary = await tiny_replay(folder, ALL).run(stop)
    assert (summary.stopped, summary.done) == ("interrupted", 0)


async def test_a_dead_teacher_stops_the_run_with_one_line(tmp_path: Path) -> None:
    class Dying:
        left = 2

        async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
            Dying.left -= 1
            if Dying.left < 0:
                raise ModelTimeout("no answer from http://127.0.0.1:9 within 60 s")
            return await oracle(Corridor()).complete(request, n)

    with pytest.raises(BenchmarkError) as caught:
        await play(tmp_path, find_arms(["teacher"]), build_teacher=lambda world: Dying())
    text = str(caught.value)
    assert "\n" not in text
    assert "arm teacher, task corridor-1, seed 0: no answer from" in text
    assert "1 finished episodes are kept" in text
    assert len(read_results(tmp_path)) == 1


async def test_a_world_that_fails_to_end_keeps_no_other_one_open(tmp_path: Path) -> None:
    worlds: list[Corridor] = []

    class Stuck(Corridor):
        async def aclose(self) -> None:
            await super().aclose()
            raise WorkerDied("the corridor ended early")

    def world() -> Corridor:
        worlds.append(Stuck())
        return worlds[-1]

    with pytest.raises(WorkerDied):
        await play(tmp_path, world=world, jobs=3)
    assert [one.closed for one in worlds] == [True] * 3
    assert len(read_results(tmp_path)) == 20


async def test_what_a_result_records(tmp_path: Path) -> None:
    await play(tmp_path, find_arms(["teacher", "student", "demos-cascade"]), clock=lambda: 123.0)
    results = {(one.arm, one.task_id): one for one in read_results(tmp_path)}
    taught = results["teacher", "corridor-2"]
    assert (taught.success, taught.steps, taught.teacher_steps) == (True, 3, 3)
    assert (taught.expert_steps, taught.planner_steps) == (2, 1)
    assert taught.reasons == {"always": 3}
    assert taught.finished_at_s == 123.0
    # Instructions 10 words, opening 4 + 6, then 2 + 6 a turn: prompts of 20, 28, 36 words.
    usage = taught.usage["teacher"]
    assert usage.prompt_tokens == 20 + 28 + 36
    assert usage.cache_read_tokens == 20 + 28
    assert usage.output_tokens == 6
    assert taught.total_uncached_cost_usd == pytest.approx(84 * 3e-6 + 6 * 15e-6)
    assert taught.total_cost_usd == pytest.approx(48 * 0.3e-6 + 36 * 3e-6 + 6 * 15e-6)
    assert taught.latency_s["total"] == pytest.approx(1.5)
    assert "world" in taught.latency_s
    alone = [one for one in results.values() if one.arm == "student"]
    assert all(one.teacher_steps == 0 and "teacher" not in one.usage for one in alone)
    assert sum(one.refused_steps.get("student", 0) for one in alone) > 0
    assert any(one.steps == settings().max_steps and not one.success for one in alone)
    mixed = [one for one in results.values() if one.arm == "demos-cascade"]
    assert all(one.steps == one.teacher_steps + one.student_steps for one in mixed)
    assert all(one.demonstrations == one.steps for one in mixed)
    assert taught.run != alone[0].run


async def test_the_student_sees_an_append_only_transcript_and_acts_without_the_prefix(
    tmp_path: Path,
) -> None:
    runtimes: list[TinyRuntime] = []
    world = Corridor()

    def build(arm: Arm, teacher: Model, seed: int) -> EpisodeRuntime:
        runtimes.append(TinyRuntime(arm, teacher, seed))
        return runtimes[-1]

    demos = find_arms(["demos"])
    await play(tmp_path, demos, tasks=tasks(4)[3:], build_runtime=build, world=lambda: world)
    requests = runtimes[0].requests
    first = requests[0]
    assert [message.role for message in first.messages] == ["system", "user"]
    assert first.messages[1].text == "Task: reach the goal\nThe goal is 4 rooms away."
    assert (first.stop, first.max_tokens, first.temperature) == (["\n"], 24, 0.0)
    for before, after in pairwise(requests):
        assert after.messages[: len(before.messages)] == before.messages
        assert [message.role for message in after.messages[-2:]] == ["assistant", "user"]
    assert set(world.actions) <= {"go right", "dance"}
    seeds = [request.wire()["seed"] for request in requests]
    assert len(set(seeds)) == len(seeds)
    assert list(runtimes[0].feedback.values()) == [True]


async def test_an_empty_answer_is_an_action_like_another(tmp_path: Path) -> None:
    class Silent(Corridor):
        async def oracle(self) -> OracleAction:
            return OracleAction("", "expert")

        async def step(self, action: str) -> Outcome:
            assert action == ""
            return await super().step(action)

    await play(tmp_path, find_arms(["teacher"]), tasks=tasks(1), world=Silent)
    (only,) = read_results(tmp_path)
    assert (only.success, only.steps, only.refused_steps) == (False, 8, {"teacher": 8})


async def test_the_first_ctrl_c_asks_to_stop_and_the_second_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with stop_on_interrupt() as stop:
            assert not stop.is_set()
            signal.raise_signal(signal.SIGINT)
            await asyncio.wait_for(stop.wait(), 10)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("parts", "named"),
    [({"tasks": []}, "tasks"), ({"seeds": []}, "seeds"), ({"jobs": 0}, "jobs = 0")],
)
async def test_an_empty_plan_is_refused(tmp_path: Path, parts: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        await play(tmp_path, find_arms(["teacher"]), **parts)
