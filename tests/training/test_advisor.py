from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tutelage.runtime.errors import TrainingError
from tutelage.training.advisor import PastRun, RecipeName, TaskFeatures, recommend

TASK = TaskFeatures(
    examples=500,
    families=6,
    mean_steps=12,
    student_parameters=1.3e8,
    student_success=0.1,
    teacher_success=0.9,
)


@pytest.mark.parametrize(
    ("features", "recipes"),
    [
        (TASK, ("supervised",)),
        (replace(TASK, logits=True), ("progressive", "supervised")),
        (replace(TASK, pairs=500), ("supervised", "preference")),
        (replace(TASK, pairs=500, student_success=0.6), ("preference", "supervised")),
        (replace(TASK, recall=0.2), ("retriever", "supervised")),
        (replace(TASK, recall=0.9), ("supervised", "retriever")),
    ],
)
def test_rules_rank_the_recipes_that_can_be_run(
    features: TaskFeatures, recipes: tuple[RecipeName, ...]
) -> None:
    advice = recommend(features, [])
    assert advice.recipes == recipes
    assert advice.basis == "rules"
    assert advice.text.startswith("by rules, as only 0 of 30 runs exist")


def _runs(count: int) -> list[PastRun]:
    """Preference pays for students that are good already, supervision for weak ones."""
    generator = np.random.default_rng(0)
    runs = []
    for place in range(count):
        success = float(generator.random())
        recipe: RecipeName = "preference" if place % 2 else "supervised"
        gain = 0.3 * (success if recipe == "preference" else 1 - success)
        runs.append(PastRun(replace(TASK, student_success=success, pairs=500), recipe, gain))
    return runs


def test_the_thirtieth_run_switches_to_past_runs() -> None:
    features = replace(TASK, pairs=500)
    assert recommend(features, _runs(29)).basis == "rules"
    assert recommend(features, _runs(30)).basis == "past runs"


@pytest.mark.parametrize(("success", "first"), [(0.05, "supervised"), (0.95, "preference")])
def test_past_runs_of_like_tasks_decide(success: float, first: str) -> None:
    advice = recommend(replace(TASK, student_success=success, pairs=500), _runs(60))
    assert advice.recipes[0] == first
    assert dict(advice.expected_gains)[advice.recipes[0]] > 0.2


def test_recipes_that_were_hardly_tried_stay_behind() -> None:
    advice = recommend(replace(TASK, pairs=500, logits=True, recall=0.1), _runs(40))
    assert set(advice.recipes[:2]) == {"supervised", "preference"}
    assert advice.recipes[2:] == ("retriever", "progressive")
    assert "hardly tried: retriever, progressive" in advice.text


def test_a_recipe_that_cannot_be_run_is_never_recommended() -> None:
    assert "preference" not in recommend(TASK, _runs(60)).recipes


def test_past_runs_of_nothing_that_fits_leave_the_rules_order() -> None:
    runs = [replace(one, recipe="retriever") for one in _runs(30)]
    advice = recommend(TASK, runs)
    assert advice.recipes == ("supervised",)
    assert "none has enough" in advice.text


def test_negative_counts_are_refused() -> None:
    with pytest.raises(TrainingError, match="must not be negative"):
        replace(TASK, examples=-1)
