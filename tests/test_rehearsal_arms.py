"""The arms of a replay beside those that have a name of their own on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint
from tests.small_household import a_play, with_bank

from tutelage.assembly import Assembly
from tutelage.benchmarks.arms import GUARDS, Arm
from tutelage.benchmarks.manifest import read_manifest
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import EpisodeResult, read_results
from tutelage.rehearsal import replay, split_tasks
from tutelage.runtime.errors import BenchmarkError, ConfigError, WorldMissing
from tutelage.runtime.types import Trace

PAPER = Arm("arm", "tried", "paper", demonstrations=True, guards=GUARDS, student="copying")
ROUTER = {"feature": "agreement", "threshold": 0.5, "samples": 1, "weights": [0.0] * 256}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
async def assembly(tmp_path: Path) -> AsyncIterator[Assembly]:
    async with with_bank(tmp_path) as opened:
        yield opened


async def played(
    assembly: Assembly, arm: Arm, split: str = "test:2", **changes: Any
) -> tuple[list[EpisodeResult], list[Trace]]:
    """The episodes of an arm, and their traces."""
    play = a_play(Path("played") / arm.name, split, **{"max_steps": 8, **changes})
    await replay(assembly, play, [arm], Unwatched())
    results = list(read_results(play.out))
    traces = [
        trace
        for result in results
        for trace in await assembly.traces.traces("default", episode_id=result.episode_id)
    ]
    return results, traces


# Who acts.


async def test_the_copier_needs_no_student(
    assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Assembly) -> Any:
        raise AssertionError("the student was made")

    monkeypatch.setattr(Assembly, "student", never)
    results, traces = await played(assembly, PAPER)

    assert sum(one.student_steps for one in results) > 0
    assert {len(trace.samples) for trace in traces if trace.samples} == {3}
    assert all("logprob_mean" in trace.features for trace in traces if trace.features)


async def test_a_pool_votes_with_recalled_actions(assembly: Assembly) -> None:
    pooled = replace(PAPER, student="copying-pooled", options={"samples": 4})

    _, traces = await played(assembly, pooled)

    sampled = [trace for trace in traces if trace.samples]
    assert sampled
    for trace in sampled:
        assert len(trace.samples) == 4
        # The vote of retrieved actions is one answer, said for both of its samples.
        assert trace.samples[2].text == trace.samples[3].text


@pytest.mark.parametrize(("p", "asked"), [(0.4, True), (0.6, False)])
async def test_a_router_asks_the_student_where_the_prompt_looks_easy(
    assembly: Assembly, p: float, asked: bool
) -> None:
    # Without weights every prompt has probability 1 / 2.
    options = {**ROUTER, "intercept": 0.0, "p": p}
    arm = replace(PAPER, policy="threshold", student="copying-routed", options=options)

    results, _ = await played(assembly, arm)

    assert (sum(one.student_steps for one in results) > 0) is asked
    if not asked:
        assert {tuple(one.usage) for one in results} == {("student", "teacher")}
        assert sum(one.usage["student"].output_tokens for one in results) == 0


async def test_a_verified_student_is_asked_whether_it_is_right(tmp_path: Path) -> None:
    def say(body: dict[str, Any], index: int) -> str:
        return "yes" if "Answer yes or no" in body["messages"][-1]["content"] else "look"

    with ScriptedEndpoint(say) as endpoint:
        async with with_bank(
            tmp_path, student__base_url=endpoint.base_url, student__model="small"
        ) as assembly:
            arm = replace(
                PAPER,
                policy="threshold",
                student="verifying",
                guards=(),
                options={"feature": "logprob_mean", "threshold": -0.1, "samples": 1},
            )
            results, traces = await played(assembly, arm, "test:1", max_steps=2)

    assert results[0].student_steps == 2
    assert {trace.features["logprob_mean"] for trace in traces} == {0.0}


async def test_a_judge_is_the_teachers_model(tmp_path: Path) -> None:
    with ScriptedEndpoint("look") as student, ScriptedEndpoint("no") as judge:
        async with with_bank(
            tmp_path,
            student__base_url=student.base_url,
            student__model="small",
            teacher__base_url=judge.base_url,
            teacher__model="big",
        ) as assembly:
            options = {"feature": "logprob_mean", "threshold": -1.0, "samples": 1}
            arm = replace(PAPER, policy="threshold", student="judged", guards=(), options=options)
            results, _ = await played(assembly, arm, "test:1", max_steps=2)

    assert results[0].teacher_steps == 2
    assert "Answer yes or no" in json.dumps(judge.bodies[0]["messages"][-1])
    assert all("Answer yes or no" not in json.dumps(body) for body in student.bodies)


# What it is shown.


async def test_static_demonstrations_are_the_same_at_every_step(assembly: Assembly) -> None:
    _, traces = await played(assembly, replace(PAPER, static=True))

    seen = {trace.demonstrations for trace in traces if trace.samples}
    k = assembly.config.retrieval.k
    assert {len(one) for one in seen} == {k}
    assert len({frozenset(one) for one in seen}) == 1
    trajectories = [one.id for one in await assembly.bank.trajectories("default")]
    assert {one.partition(":")[0] for one in next(iter(seen))} == set(trajectories[:k])


async def test_static_demonstrations_of_the_very_task_are_not_shown(assembly: Assembly) -> None:
    shown = (await assembly.bank.trajectories("default"))[0]
    number = int(str(shown.task_id).rpartition("-")[2])

    _, traces = await played(assembly, replace(PAPER, static=True), f"train:{number}-{number + 1}")

    k = assembly.config.retrieval.k
    assert {len(trace.demonstrations) for trace in traces if trace.samples} == {k - 1}


# What is done with an arm.


async def test_every_step_of_the_student_is_labelled_at_no_cost_of_the_arm(
    assembly: Assembly,
) -> None:
    explore = replace(PAPER, policy="explore", labels=True)

    results, traces = await played(assembly, explore)

    audits = {one.trace_id: one for one in await assembly.audits.audits("default")}
    served = [trace for trace in traces if trace.decision.served == "student"]
    assert served
    assert audits.keys() == {trace.id for trace in served}
    assert all(one.agrees is not None and one.cost_usd > 0 for one in audits.values())
    assert sum(one.total_cost_usd for one in results) == pytest.approx(
        sum(sum(trace.cost_usd.values()) for trace in traces)
    )


async def test_options_are_part_of_what_an_arm_is(assembly: Assembly) -> None:
    one_sample = replace(PAPER, policy="explore", options={"samples": 1, "temperature": 0.0})

    _, traces = await played(assembly, one_sample)

    assert {len(trace.samples) for trace in traces if trace.samples} == {1}
    manifest = read_manifest(Path("played/arm"))
    assert manifest is not None
    assert manifest.arms["arm"]["options"] == {"samples": 1, "temperature": 0.0}
    other = replace(one_sample, options={"samples": 2})
    with pytest.raises(BenchmarkError, match=r"arms\.arm\.options\.samples = 1, now it is 2"):
        await played(assembly, other)


@pytest.mark.parametrize(("routed", "reasons"), [(True, {"uncovered"}), (False, set())])
async def test_routing_takes_part_where_an_arm_says_so(
    tmp_path: Path, routed: bool, reasons: set[str]
) -> None:
    async with with_bank(tmp_path, routing__coverage=100.0) as assembly:
        results, _ = await played(assembly, replace(PAPER, routed=routed))

    assert {r for one in results for r in one.reasons} & {"uncovered"} == reasons


async def test_an_arm_without_the_options_of_its_policy_is_refused_before_it_is_played(
    assembly: Assembly, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="needs the options feature and threshold"):
        await played(assembly, replace(PAPER, policy="threshold"))
    with pytest.raises(ConfigError, match=r"needs cascade\.policy_file: `tutelage calibrate`"):
        await played(assembly, replace(PAPER, policy="calibrated"))

    assert "played" not in os.listdir(tmp_path)


# Parts of splits.


async def test_a_part_of_a_split_leaves_out_its_first_tasks(tmp_path: Path) -> None:
    part = await split_tasks(a_play(tmp_path, "train:3-6"))
    whole = await split_tasks(a_play(tmp_path, "train:6"))

    assert [task.id for task in part] == ["train-00003", "train-00004", "train-00005"]
    assert list(part) == list(whole)[3:]


@pytest.mark.parametrize("split", ["train:6-3", "train:3-3", "train:-3", "train:3-", "train:a-b"])
async def test_a_part_that_is_none_is_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(BenchmarkError, match="write a part of it like 'train:200-500'"):
        await split_tasks(a_play(tmp_path, split))


async def test_a_split_of_another_name_is_no_part(tmp_path: Path) -> None:
    with pytest.raises(WorldMissing, match="household has no split 'my-own'"):
        await split_tasks(a_play(tmp_path, "my-own"))


# Samples that arms share.


def counting(body: dict[str, Any], index: int) -> str:
    return f"go to {body['seed'] + index}"


async def test_arms_share_the_samples_of_the_student_and_their_bill(tmp_path: Path) -> None:
    asking = replace(PAPER, student="student", demonstrations=False, guards=())
    arms = [replace(asking, name=name) for name in ("one", "two")]
    arms.append(replace(asking, name="in-turn", options={"draw": "sequential"}))
    with ScriptedEndpoint(counting) as student:
        given = {"student.base_url": student.base_url, "student.model": "small"}
        async with with_bank(tmp_path, "train:1", **given) as assembly:
            play = a_play(tmp_path / "out", "test:1", max_steps=4)
            play = replace(play, samples=tmp_path / "samples.sqlite")
            await replay(assembly, play, arms, Unwatched())
            bodies = len(student.bodies)
            await replay(assembly, replace(play, out=tmp_path / "again"), arms, Unwatched())

    by_arm = {one.arm: one for one in read_results(play.out)}
    again = {one.arm: one for one in read_results(tmp_path / "again")}
    assert bodies == len(student.bodies) == 4
    assert by_arm["one"].usage["student"] == by_arm["two"].usage["student"]
    assert by_arm["one"].cost_usd == by_arm["two"].cost_usd == again["two"].cost_usd
    # Two samples that differ decide; the third is not paid for.
    together, in_turn = (by_arm[name].usage["student"].output_tokens for name in ("one", "in-turn"))
    assert 0 < in_turn < together


async def test_greedy_answers_of_a_teacher_are_kept_where_that_is_wanted(tmp_path: Path) -> None:
    arms = [Arm(name, name, "always-teacher") for name in ("one", "two")]
    with ScriptedEndpoint("look") as teacher:
        given = {"teacher.base_url": teacher.base_url, "teacher.model": "large"}
        async with with_bank(tmp_path, "train:1", **given) as assembly:
            play = a_play(tmp_path / "out", "test:1", max_steps=3, teacher="model")
            play = replace(play, samples=tmp_path / "samples.sqlite", keep_teacher=True)
            await replay(assembly, play, arms, Unwatched())

    assert [one.steps for one in read_results(play.out)] == [3, 3]
    assert [body["temperature"] for body in teacher.bodies] == [0.0, 0.0, 0.0]
