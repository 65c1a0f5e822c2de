from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint
from tests.small_household import a_play, household, with_bank

from tutelage.assembly import Assembly
from tutelage.benchmarks.baselines.prompt_router import PromptClassifier
from tutelage.benchmarks.progress import Unwatched
from tutelage.cascade.scores import IsotonicScore
from tutelage.cascade.step_scores import StepCosts, StepScores
from tutelage.labelling import Fitted
from tutelage.policies import Choice, Policies
from tutelage.policy_study import (
    Study,
    check_families,
    compare,
    only,
    play_study,
    quantiles,
    study_arms,
)
from tutelage.rehearsal import Play
from tutelage.runtime.errors import BenchmarkError, ConfigError

pytest.importorskip("sklearn")

SCORES = StepScores(
    None,
    IsotonicScore("similarity", (0.0, 1.0), (0.0, 1.0), 0.5),
    IsotonicScore("agreement", (0.0, 1.0), (0.0, 1.0), 0.5),
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
async def assembly(tmp_path: Path) -> AsyncIterator[Assembly]:
    async with with_bank(tmp_path) as opened:
        yield opened


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return a_play(tmp_path / "out", "test:2", max_steps=6)


def fitted(*, logprobs: bool = True) -> Fitted:
    rows = [
        {
            "agreement": n / 20,
            "similarity": (n * 7 % 20) / 20,
            **({"logprob_mean": -n / 20} if logprobs else {}),
        }
        for n in range(21)
    ]
    return Fitted(SCORES, rows, [n > 8 for n in range(21)], StepCosts(0.01, 0.001, 0.01))


ROUTER = (PromptClassifier((1.0,) * 256, 0.0), [n / 20 for n in range(21)])


async def studied(
    assembly: Assembly,
    play: Play,
    *,
    stop: asyncio.Event | None = None,
    watcher: Any = None,
    chosen: tuple[str, ...] = (),
) -> tuple[Study | str, list[str]]:
    said: list[str] = []
    found = await play_study(
        assembly,
        play,
        "train:12-15",
        "copying",
        2,
        watcher or Unwatched(),
        stop or asyncio.Event(),
        said.append,
        chosen,
    )
    return found, said


# Arms.


def test_every_family_has_its_points_under_names_of_their_own() -> None:
    arms, families = study_arms("copying", fitted(), ROUTER, 4)

    names = [arm.name for arm in arms]
    assert len(set(names)) == len(names)
    assert families.keys() == set(names)
    assert set(families.values()) == {
        *("teacher", "student", "paper", "calibrated", "benefit", "random"),
        *("logprob", "router", "static", "two-students"),
    }
    for family in ("calibrated", "logprob", "router"):
        assert list(families.values()).count(family) == 4
    assert {arm.student for arm in arms if families[arm.name] != "teacher"} == {
        "copying",
        "copying-pooled",
        "copying-routed",
    }


def test_a_real_student_verifies_itself_too() -> None:
    arms, families = study_arms("student", fitted(), ROUTER, 2)

    assert "self-verification" in families.values()
    assert {arm.student for arm in arms if families[arm.name] != "teacher"} == {
        "student",
        "pooled",
        "routed",
        "verifying",
    }


def test_thresholds_that_differ_little_are_arms_of_their_own() -> None:
    near = replace(
        fitted(), rows=[{"agreement": 0.5 + n * 1e-5, "logprob_mean": -1.0} for n in range(21)]
    )

    arms, families = study_arms("copying", near, ROUTER, 4)

    assert list(families.values()).count("calibrated") == 4
    assert len({arm.name for arm in arms}) == len(arms)


def test_without_log_probabilities_no_arm_rests_on_them() -> None:
    _, families = study_arms("copying", fitted(logprobs=False), ROUTER, 2)

    assert "logprob" not in families.values()


def test_every_arm_can_be_made_from_its_options() -> None:
    arms, _ = study_arms("student", fitted(), ROUTER, 3)
    policies = Policies(household(), lambda step: 0.01)

    made = [
        policies.policy(
            Choice(arm.policy, arm.guards, arm.p_teacher, options=arm.options, bare=True)
        )
        for arm in arms
    ]

    assert len(made) == len(arms)


def test_families_and_single_arms_can_be_chosen() -> None:
    arms, families = study_arms("copying", fitted(), ROUTER, 3)

    kept = only(arms, families, ("paper", "calibrated", "random-0.4"))

    names = [arm.name for arm in kept]
    assert names[0] == "teacher"
    assert {families[name] for name in names} == {"teacher", "paper", "calibrated", "random"}
    assert [name for name in names if families[name] == "random"] == ["random-0.4"]
    assert only(arms, families, ()) == arms


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (("calibrated", "random-0.5"), "'random-0.5' is not played; there are random-0.2, random-"),
        (("paper", "random"), "a comparison takes arms of calibrated or benefit and of another"),
        (("benefit", "teacher"), "a comparison takes arms of calibrated or benefit and of another"),
    ],
)
def test_arms_that_make_no_comparison_are_refused(chosen: tuple[str, ...], told: str) -> None:
    arms, families = study_arms("copying", fitted(), ROUTER, 2)

    with pytest.raises(ConfigError, match=told):
        only(arms, families, chosen)


def test_names_of_no_family_are_refused() -> None:
    check_families(("paper", "paper-early-stop", "calibrated-0.5"))

    with pytest.raises(ConfigError, match=r"arm 'papers' is unknown: give families \(teacher, stu"):
        check_families(("calibrated", "papers"))


def test_a_family_of_which_a_student_has_no_arm_is_left_out() -> None:
    arms, families = study_arms("copying", fitted(logprobs=False), ROUTER, 2)

    kept = only(arms, families, ("logprob", "paper", "benefit"))

    assert {families[arm.name] for arm in kept} == {"teacher", "paper", "benefit"}


def test_quantiles_are_inner_ones_of_what_is_known() -> None:
    assert quantiles([None, 0.0, 1.0, 0.5, 0.25, 0.75], 3) == [0.75, 0.5, 0.25]
    assert quantiles([None, None], 3) == []
    assert quantiles([0.5, 0.5], 3) == [0.5]


# Playing.


async def test_a_study_plays_every_arm_and_compares_at_equal_cost(
    assembly: Assembly, play: Play
) -> None:
    study, said = await studied(assembly, play)

    assert isinstance(study, Study)
    assert len(study.results) == len(study.arms) * 2
    assert said[0] == "playing train:12-15 with every step labelled by the teacher"
    assert said[-1] == (
        f"{study.labelled} labelled steps; playing {len(study.arms)} arms on test:2"
    )
    found = compare(study, resamples=50)
    rows = {row["arm"]: row for row in found["arms"]}
    assert rows.keys() == study.families.keys()
    assert rows["teacher"]["teacher_share"] == 1.0
    assert rows["teacher"]["student_output_tokens"] == 0
    assert rows["student"]["teacher_share"] == 0.0
    assert rows["paper"]["episodes"] == 2
    assert rows["static"]["uncached_cost_usd"] >= rows["static"]["cost_usd"] > 0
    for gaps in found["gaps"].values():
        assert {one["arm"] for one in gaps} == {
            name
            for name, family in study.families.items()
            if family not in ("calibrated", "benefit", "teacher")
        }
        assert all(one["low"] <= one["high"] for one in gaps)
    assert compare(study, resamples=50) == found


async def test_a_stopped_study_says_how_it_ended_and_goes_on(
    assembly: Assembly, play: Play
) -> None:
    for arm in ("labels", "teacher"):
        stop = asyncio.Event()

        class Stops(Unwatched):
            def __init__(self, arm: str, stop: asyncio.Event) -> None:
                self.arm, self.stop = arm, stop

            def finished(self, result: Any) -> None:
                if result.arm == self.arm:
                    self.stop.set()

        found, _ = await studied(assembly, play, stop=stop, watcher=Stops(arm, stop))
        assert found == "interrupted"

    capped, _ = await studied(assembly, replace(play, max_usd=0.001))
    assert capped == "budget"


async def test_tasks_in_common_are_refused(assembly: Assembly, play: Play) -> None:
    with pytest.raises(ConfigError, match="share 1 tasks, train-00012"):
        await studied(assembly, replace(play, split="train:12-13"))


async def test_labels_that_are_all_equal_compare_nothing(tmp_path: Path, play: Play) -> None:
    # Without a demonstration nor a turn the copier says nothing, which is never right.
    async with with_bank(tmp_path, "train:1", retrieval__enabled=False) as assembly:
        with pytest.raises(BenchmarkError, match="labels are equal: there is nothing to compare"):
            await studied(assembly, replace(play, max_steps=1))


async def test_only_the_chosen_arms_are_played_and_more_can_follow(
    assembly: Assembly, play: Play
) -> None:
    few, _ = await studied(assembly, play, chosen=("paper", "calibrated"))
    more, _ = await studied(assembly, play, chosen=("paper", "calibrated", "random-0.4"))

    assert isinstance(few, Study)
    assert isinstance(more, Study)
    assert set(few.families.values()) == {"teacher", "paper", "calibrated"}
    assert set(more.families.values()) == {"teacher", "paper", "calibrated", "random"}
    assert all(one in more.results for one in few.results)
    assert len(more.results) > len(few.results)
    assert {row["arm"] for row in compare(few, resamples=20)["arms"]} == few.families.keys()


async def test_an_unknown_arm_is_refused_before_anything_is_played(
    assembly: Assembly, play: Play
) -> None:
    with pytest.raises(ConfigError, match="arm 'judge' is unknown"):
        await studied(assembly, play, chosen=("judge",))

    assert not play.out.exists()


def latest_action(body: dict[str, Any], index: int) -> str:
    """Says what the prompt says last: the action of a demonstration, or its own."""
    said = [one["content"] for one in body["messages"] if one["role"] == "assistant"]
    return said[-1] if said else "look"


async def test_a_student_behind_an_endpoint_is_asked_once_for_all_arms(tmp_path: Path) -> None:
    with ScriptedEndpoint(latest_action) as student:
        given = {"student.base_url": student.base_url, "student.model": "small"}
        async with with_bank(tmp_path, **given) as assembly:
            play = a_play(tmp_path / "out", "test:2", max_steps=4, jobs=1)
            play = replace(play, samples=tmp_path / "out" / "samples.sqlite")
            said: list[str] = []
            study = await play_study(
                assembly,
                play,
                "train:12-15",
                "student",
                1,
                Unwatched(),
                asyncio.Event(),
                said.append,
                ("student", "paper", "paper-early-stop", "calibrated", "random-0.4"),
            )
            asked = len(student.bodies)

    assert isinstance(study, Study)
    assert set(study.families.values()) == {"teacher", "student", "paper", "calibrated", "random"}
    assert any("tells no log-probabilities" in line for line in said)
    rows = {row["arm"]: row for row in compare(study, resamples=20)["arms"]}
    early, together = rows["paper-early-stop"], rows["paper"]
    assert early["success"] == together["success"]
    assert early["teacher_share"] == together["teacher_share"]
    steps = sum(row["steps"] * row["episodes"] for row in rows.values())
    assert 0 < asked < steps
