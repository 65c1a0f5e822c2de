from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.recorded_traffic import EASY, HARD, request, runtime_of, serve
from tests.small_household import a_play, household, with_bank

from tutelage.assembly import Assembly, open_assembly
from tutelage.benchmarks.manifest import read_manifest
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import read_results
from tutelage.calibrating import (
    COPYING_STUDENT,
    Calibration,
    Goal,
    calibrate_by_play,
    calibrate_from_traces,
    thresholds,
    to_json,
)
from tutelage.cascade.certificate import Certificate, Refusal
from tutelage.cascade.scores import for_fitting
from tutelage.rehearsal import Play
from tutelage.runtime.errors import BenchmarkError, ConfigError, MissingExtra
from tutelage.runtime.types import Reason, Trajectory, Turn

pytest.importorskip("sklearn")

LENIENT = Goal(alpha=0.3, delta=0.2, thresholds=3, student="copying")
"""Five episodes without a loss certify it."""
FIT = "train:12-18"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
async def assembly(tmp_path: Path) -> AsyncIterator[Assembly]:
    async with with_bank(tmp_path) as opened:
        yield opened


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return a_play(tmp_path / "out", "train:20-26", max_steps=50)


async def calibrated(
    assembly: Assembly,
    play: Play,
    goal: Goal = LENIENT,
    *,
    fit: str = FIT,
    watcher: Any = None,
    stop: asyncio.Event | None = None,
) -> tuple[Calibration, list[str]]:
    said: list[str] = []
    found = await calibrate_by_play(
        assembly, play, fit, goal, watcher or Unwatched(), stop, said.append
    )
    return found, said


# Goals and grids.


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"alpha": 0.0}, "alpha = 0.0: give a number between 0 and 1"),
        ({"alpha": 1.0}, "alpha = 1.0"),
        ({"delta": -0.1}, "delta = -0.1"),
        ({"thresholds": 0}, "thresholds = 0: give at least 1"),
        ({"adaptive": 1.0}, "adaptive = 1.0: give a number between 0 and 1"),
    ],
)
def test_a_goal_out_of_range_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Goal(**wrong)


def test_a_grid_goes_from_strict_to_permissive_and_ends_where_everything_is_accepted() -> None:
    scores = [n / 100 for n in range(101)]

    assert thresholds(scores, 4) == (0.75, 0.5, 0.25, 0.0)
    assert thresholds(scores, 1) == (0.0,)
    assert thresholds([0.5, 0.5, 0.5], 10) == (0.5,)


# By play.


async def test_what_is_certified_is_written_with_its_conditions(
    assembly: Assembly, play: Play
) -> None:
    found, said = await calibrated(assembly, play)

    assert isinstance(found.outcome, Certificate)
    assert found.file is not None
    assert found.curve is not None
    assert (found.outcome.units, found.outcome.scope, found.outcome.unit) == (
        6,
        "rollouts",
        "episode",
    )
    assert found.file.threshold == found.outcome.threshold
    assert found.file.certified() == found.outcome
    assert found.file.conditions.student == COPYING_STUDENT
    assert found.file.conditions.bank == await assembly.bank.version("default")
    assert found.file.conditions.teacher.startswith("oracle: a scripted searcher")
    assert found.file.source == (
        "household train:20-26, oracle teacher: a scripted searcher that knows only what it has "
        "seen"
    )
    costs = [point.cost_usd for point in found.curve.points[: found.outcome.certified]]
    assert found.outcome.cost_usd == min(cost for cost in costs if cost is not None)
    assert said[0] == "playing train:12-18 with every step labelled by the teacher"
    assert said[1].startswith(f"{found.labelled} labelled steps, the student right in 0.")
    assert said[-1].endswith("certified")


async def test_a_finished_calibration_plays_nothing_again(assembly: Assembly, play: Play) -> None:
    first, said = await calibrated(assembly, play)
    stages = ("fit", "teacher", "certify")
    before = [read_results(play.out / stage) for stage in stages]

    again, repeated = await calibrated(assembly, play)

    assert [read_results(play.out / stage) for stage in stages] == before
    assert (again.outcome, again.curve, repeated) == (first.outcome, first.curve, said)


async def test_draws_are_compared_and_adaptive_ones_are_played(
    assembly: Assembly, play: Play
) -> None:
    goal = replace(LENIENT, thresholds=1, adaptive=0.9, delta=0.3)

    found, _ = await calibrated(assembly, play, goal)

    assert [one.name for one in found.draws][:2] == ["all 3 agree", "2 of 3 agree"]
    assert [one["name"] for one in to_json(found)["draws"]] == [one.name for one in found.draws]
    manifest = read_manifest(play.out / "certify")
    assert manifest is not None
    (arm,) = manifest.arms.values()
    assert isinstance(arm["options"], dict)
    sure = arm["options"]["sure"]
    assert isinstance(sure, float)
    assert 0.0 <= sure <= 1.0
    assert found.file is None or found.file.sure == sure


async def test_recorded_steps_do_not_certify_adaptive_draws(assembly: Assembly) -> None:
    with pytest.raises(ConfigError, match="--adaptive is for calibrating in a world"):
        await calibrate_from_traces(assembly, "default", replace(LENIENT, adaptive=0.1), "step")


FREE = {"input": 0.0, "output": 0.0}


async def test_a_student_that_loses_what_the_teacher_wins_is_refused(
    tmp_path: Path, play: Play
) -> None:
    # Samples that cost nothing are drawn at every step, and nothing guards against their loops.
    async with with_bank(tmp_path, cascade__guards=[], student__price=FREE) as assembly:
        found, said = await calibrated(assembly, play, replace(LENIENT, thresholds=1))

    assert isinstance(found.outcome, Refusal)
    assert (found.file, found.outcome.missing_units, found.outcome.units) == (None, None, 6)
    assert "more episodes will not help; raise alpha" in found.outcome.reason
    assert said[-1].endswith(": not certified")
    taught = {one.task_id: one.success for one in read_results(play.out / "teacher")}
    played = read_results(play.out / "certify")
    lost = [one for one in played if taught[one.task_id] and not one.success]
    assert found.outcome.risk == pytest.approx(len(lost) / 6)


async def test_the_guards_that_will_serve_are_those_that_are_certified(
    tmp_path: Path, play: Play
) -> None:
    async with with_bank(tmp_path, cascade__guards=["stall"]) as assembly:
        found, _ = await calibrated(assembly, play)

    assert found.file is not None
    assert found.file.conditions.guards == ("stall",)
    reasons = {name for one in read_results(play.out / "certify") for name in one.reasons}
    assert reasons.isdisjoint({"loop", "rejected"})


async def test_too_few_tasks_are_refused_before_anything_is_played(
    assembly: Assembly, play: Play
) -> None:
    found, said = await calibrated(assembly, play, Goal(student="copying"))

    assert isinstance(found.outcome, Refusal)
    assert (found.outcome.units, found.outcome.missing_units) == (6, 53)
    assert "takes at least 59 episodes, 53 more" in found.outcome.reason
    assert (said, found.stopped, play.out.exists()) == ([], "finished", False)
    assert to_json(found)["outcome"]["missing_units"] == 53
    assert to_json(found)["curve"] is None


async def test_tasks_in_common_are_refused(assembly: Assembly, play: Play) -> None:
    with pytest.raises(ConfigError, match="share 2 tasks, train-00020 for one"):
        await calibrated(assembly, play, fit="train:12-22")

    assert not play.out.exists()


async def test_a_missing_extra_shows_before_anything_is_played(
    assembly: Assembly, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)

    with pytest.raises(MissingExtra, match=r"tutelage\[calibrate\]"):
        await calibrated(assembly, play)
    with pytest.raises(MissingExtra, match=r"tutelage\[calibrate\]"):
        await calibrate_from_traces(assembly, "default", LENIENT, "episode")

    assert not play.out.exists()


@pytest.mark.parametrize("stage", ["labels", "teacher", "calibrated"])
async def test_a_stopped_calibration_goes_on_where_it_was(
    assembly: Assembly, play: Play, stage: str
) -> None:
    stop = asyncio.Event()

    class Stops(Unwatched):
        def finished(self, result: Any) -> None:
            if result.arm.startswith(stage):
                stop.set()

    play = replace(play, jobs=1)
    stopped, _ = await calibrated(assembly, play, watcher=Stops(), stop=stop)
    before = {part: read_results(play.out / part) for part in ("fit", "teacher", "certify")}
    found, _ = await calibrated(assembly, play)

    assert (stopped.file, stopped.outcome, stopped.stopped) == (None, None, "interrupted")
    assert to_json(stopped)["stopped"] == "interrupted"
    assert found.outcome is not None
    for part, results in before.items():
        assert read_results(play.out / part)[: len(results)] == results


async def test_a_spending_cap_stops_it(assembly: Assembly, play: Play) -> None:
    stopped, _ = await calibrated(assembly, replace(play, max_usd=0.01))
    played = sum(
        one.total_cost_usd
        for part in ("fit", "teacher", "certify")
        for one in read_results(play.out / part)
    )

    assert (stopped.file, stopped.outcome, stopped.stopped) == (None, None, "budget")
    assert played <= 0.01


async def test_episodes_of_another_split_in_the_same_folder_teach_nothing(
    assembly: Assembly, play: Play
) -> None:
    stop = asyncio.Event()

    class Stops(Unwatched):
        def finished(self, result: Any) -> None:
            if result.arm == "teacher":
                stop.set()

    for fit, split in (("train:20-26", "train:30-36"), ("train:12-14", "train:20-26")):
        stop.clear()
        found, _ = await calibrated(
            assembly, replace(play, split=split), fit=fit, watcher=Stops(), stop=stop
        )

    steps = {one.task_id: one.steps for one in read_results(play.out / "fit")}
    assert len(steps) == 8
    assert 0 < found.labelled <= steps["train-00012"] + steps["train-00013"]


async def test_what_a_stand_in_certifies_is_not_served_by_the_configured_student(
    assembly: Assembly, play: Play, tmp_path: Path
) -> None:
    found, _ = await calibrated(assembly, play)
    assert found.file is not None
    path = tmp_path / "policy.json"
    found.file.write(path)

    config = household(cascade__policy="calibrated", cascade__policy_file=str(path))
    with pytest.raises(ConfigError, match="student was 'copying stand-in' and is 'SmolLM2"):
        async with open_assembly(config):
            raise AssertionError("opened all the same")


# From traffic.


SHARE = Goal(alpha=0.3, delta=0.2, thresholds=5)


async def test_shadow_traffic_certifies_what_the_student_could_have_served(
    tmp_path: Path,
) -> None:
    async with with_bank(tmp_path, "train:2") as assembly:
        answers = await serve(runtime_of(assembly), 60, mode="shadow")
        found = await calibrate_from_traces(assembly, "default", SHARE, "episode")

    assert {one.decision.reason for one in answers} == {Reason.SHADOW}
    assert isinstance(found.outcome, Certificate)
    assert found.file is not None
    assert (found.outcome.scope, found.file.floor) == ("logged states", 0.0)
    assert found.outcome.risk == 0.0
    # Two of three steps are easy.
    assert found.right_share == pytest.approx(2 / 3, abs=0.05)
    assert found.outcome.teacher_share == pytest.approx(1 / 3, abs=0.05)
    assert found.file.source == f"traces of tenant 'default': {found.outcome.units} episodes"
    assert found.outcome.statement.endswith("for the logged states only)")


async def test_a_policy_from_traffic_serves_what_it_was_certified_for(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    async with with_bank(tmp_path, "train:2", evidence__audits=1.0) as assembly:
        answers = await serve(runtime_of(assembly), 60)
        found = await calibrate_from_traces(assembly, "default", SHARE, "step")
    assert {one.decision.reason for one in answers} == {Reason.AGREED, Reason.DISAGREED}
    assert isinstance(found.outcome, Certificate)
    assert found.file is not None
    assert (found.outcome.unit, found.outcome.loss_kind) == ("step", "bounded")
    found.file.write(path)

    config = household(cascade__policy="calibrated", cascade__policy_file=str(path))
    async with open_assembly(config) as serving:
        runtime = runtime_of(serving, agrees_with_itself=False)
        easy = await runtime.complete(request(EASY))
        hard = await runtime.complete(request(HARD))
        await runtime.aclose()

    assert (easy.decision.served, easy.decision.reason) == ("student", Reason.CERTIFIED)
    assert (hard.decision.served, hard.decision.reason) == ("teacher", Reason.UNCERTAIN)
    assert easy.decision.score is not None
    assert easy.decision.score >= found.file.threshold


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cascade__samples": 5}, "samples was 3 and is 5"),
        ({"student__model": "other"}, "student was 'SmolLM2-135M-Instruct' and is 'other'"),
        ({"cascade__guards": []}, r"guards was \('loop', 'rejection', 'stall'\) and is \(\)"),
        ({"routing__coverage": 0.4}, "routing was 'off' and is 'coverage=0.4"),
        ({"prompt__history_turns": 1}, "prompt was "),
    ],
)
async def test_other_conditions_than_those_of_the_traffic_are_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    path = tmp_path / "policy.json"
    async with open_assembly(household()) as assembly:
        await serve(runtime_of(assembly), 30, mode="shadow")
        found = await calibrate_from_traces(assembly, "default", SHARE, "episode")
    assert found.file is not None
    found.file.write(path)

    given = {"cascade__policy": "calibrated", "cascade__policy_file": str(path), **changes}
    with pytest.raises(ConfigError, match=says):
        async with open_assembly(household(**given)):
            raise AssertionError("opened all the same")


async def test_a_student_that_agrees_with_itself_where_it_is_wrong_is_not_certified() -> None:
    async with open_assembly(household()) as assembly:
        runtime = runtime_of(assembly, agrees_with_itself=True)
        await serve(runtime, 60, mode="shadow", is_hard=lambda episode, step: episode % 2 == 0)
        goal = replace(SHARE, score="isotonic")
        found = await calibrate_from_traces(assembly, "default", goal, "episode")

    assert isinstance(found.outcome, Refusal)
    assert found.outcome.risk == pytest.approx(0.5, abs=0.2)
    assert found.curve is not None


async def test_too_little_traffic_says_how_much_is_missing() -> None:
    async with open_assembly(household()) as assembly:
        await serve(runtime_of(assembly), 30, mode="shadow")
        found = await calibrate_from_traces(assembly, "default", Goal(), "episode")

    assert isinstance(found.outcome, Refusal)
    assert found.outcome.missing_units == 59 - found.outcome.units
    assert "episodes are too few to certify a risk of 0.05" in found.outcome.reason


async def test_traffic_without_labels_says_what_to_set(assembly: Assembly) -> None:
    await serve(runtime_of(assembly), 4)

    with pytest.raises(BenchmarkError, match=r"0 episodes of tenant 'default' are fully labelled"):
        await calibrate_from_traces(assembly, "default", SHARE, "episode")


async def test_an_episode_that_lacks_a_label_counts_as_lost() -> None:
    async with open_assembly(household()) as assembly:
        await serve(runtime_of(assembly), 60, mode="shadow")
        whole = await calibrate_from_traces(assembly, "default", SHARE, "episode")
        # Nobody asked the teacher about the steps of the student in these.
        await serve(runtime_of(assembly), 8, name="unlabelled")
        partly = await calibrate_from_traces(assembly, "default", SHARE, "episode")
        await serve(runtime_of(assembly), 40, name="many")
        with pytest.raises(BenchmarkError, match=r"60 episodes .* labelled, 48 are not"):
            await calibrate_from_traces(assembly, "default", SHARE, "episode")

    assert whole.curve is not None
    assert partly.curve is not None
    lost = sum(not for_fitting(f"unlabelled{n}") for n in range(8))
    assert 0 < lost < 8
    assert partly.curve.units == whole.curve.units + lost
    assert whole.curve.points[0].risk == 0.0
    assert partly.curve.points[0].risk == pytest.approx(lost / partly.curve.units)


async def test_only_the_tenants_traffic_since_a_time_counts(tmp_path: Path) -> None:
    async with with_bank(tmp_path, "train:2") as assembly:
        await serve(runtime_of(assembly), 30, mode="shadow", tenant="acme")
        with pytest.raises(BenchmarkError, match="0 episodes of tenant 'default'"):
            await calibrate_from_traces(assembly, "default", SHARE, "episode")
        with pytest.raises(BenchmarkError, match="0 episodes of tenant 'acme'"):
            await calibrate_from_traces(assembly, "acme", SHARE, "episode", since_s=1e12)

        found = await calibrate_from_traces(assembly, "acme", SHARE, "episode")
        bank = await assembly.bank.version("acme")

    assert found.file is not None
    assert found.file.conditions.bank == bank


async def test_what_is_recalled_counts_as_served_at_every_threshold() -> None:
    # In what is shown of a hard step everybody opens a drawer, which the teacher never does.
    routing = {"routing__recall": 0.9, "routing__votes": 2, "routing__recall_mutating": True}
    async with open_assembly(household(**routing)) as assembly:
        shown = Trajectory(
            id="a",
            tenant="default",
            goal="tidy the room.",
            turns=(Turn(HARD, "open drawer 7", "teacher"),),
            success=True,
            source="t",
        )
        await assembly.bank.add([shown.model_copy(update={"id": id}) for id in ("a", "b", "c")])
        hard = range(0, 60, 3)
        await serve(
            runtime_of(assembly), 60, mode="shadow", steps=1, is_hard=lambda e, step: e in hard
        )
        aside = await assembly.traces.traces("default", limit=100)
        found = await calibrate_from_traces(assembly, "default", SHARE, "episode")

    reasons = {trace.episode_id: trace.shadow.reason for trace in aside if trace.shadow}
    assert {id for id, one in reasons.items() if one is Reason.RECALLED} == {f"e{n}" for n in hard}
    # What is sampled is always right; the recalled episodes alone are lost, whatever the threshold.
    assert found.right_share == 1.0
    assert found.curve is not None
    held = [id for id in reasons if not for_fitting(id)]
    lost = sum(reasons[id] is Reason.RECALLED for id in held) / len(held)
    assert [point.risk for point in found.curve.points] == [pytest.approx(lost)]
    assert isinstance(found.outcome, Refusal)
