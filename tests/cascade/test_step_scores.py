from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.absence import absent

from tutelage.cascade.features import FEATURES
from tutelage.cascade.prompt_score import PromptScore, held_out_probabilities
from tutelage.cascade.scores import IsotonicScore, LogisticScore
from tutelage.cascade.step_scores import (
    PRIOR_FEATURES,
    StepCosts,
    StepScores,
    best_floor,
    fit_step_scores,
)
from tutelage.runtime.errors import ConfigError, MissingExtra

PRIOR = IsotonicScore("similarity", (0.0, 1.0), (0.1, 0.9), missing_rate=0.3)
LATE = IsotonicScore("agreement", (0.0, 1.0), (0.2, 0.95), missing_rate=0.5)
COSTS = StepCosts(teacher_usd=1.0, student_usd=0.1, wrong_usd=1.0)


@pytest.fixture
def sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        absent("needs scikit-learn")


def labelled(count: int = 200) -> tuple[list[dict[str, float]], list[bool], list[str], Any]:
    """Steps of which vector, similarity and agreement each tell a part."""
    random = np.random.default_rng(1)
    queries = random.normal(size=(count, 4)).astype(np.float32)
    similarity, agreement = random.random(count), random.integers(1, 4, count) / 3
    evidence = queries[:, 0] + 2 * similarity + 3 * agreement - 3
    right = (evidence + random.normal(size=count) > 0).tolist()
    rows = [
        {"similarity": float(near), "agreement": float(share), "step_index": float(place % 5)}
        for place, (near, share) in enumerate(zip(similarity, agreement, strict=True))
    ]
    return rows, right, [f"e{place // 5}" for place in range(count)], queries


# As JSON.


@pytest.mark.parametrize("prompt", [None, PromptScore(np.array([0.5, -0.25]), 0.125)])
def test_scores_come_back_from_json(prompt: PromptScore | None) -> None:
    scores = StepScores(prompt, PRIOR, LATE)
    found = StepScores.from_json(json.loads(json.dumps(scores.to_json())))
    assert found.to_json() == scores.to_json()
    assert (found.prior, found.score) == (PRIOR, LATE)
    assert (found.prompt is None) == (prompt is None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prior": None}, "prior and score must be tables"),
        ({"score": [1]}, "prior and score must be tables"),
        ({"prompt": 3}, "prompt = 3 is not a table"),
        ({"prompt": {"weights": [1.0]}}, "intercept"),
        ({"score": {"kind": "oracle"}}, "kind = 'oracle' is unknown"),
    ],
)
def test_damaged_scores_are_one_clear_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        StepScores.from_json({**StepScores(None, PRIOR, LATE).to_json(), **changes})


# Fitting.


def test_the_prior_knows_only_what_stands_before_sampling() -> None:
    assert set(PRIOR_FEATURES) < set(FEATURES)
    late = {"agreement", "logprob_low", "logprob_mean", "mutating", "repeats", "support"}
    assert set(PRIOR_FEATURES) == set(FEATURES) - late


@pytest.mark.usefixtures("sklearn")
def test_each_score_is_fitted_on_what_it_may_know() -> None:
    rows, right, episodes, queries = labelled()
    scores, given_ = fit_step_scores(rows, right, episodes, queries)
    assert isinstance(scores.prior, LogisticScore)
    assert scores.prior.scale.names == ("prompt", "similarity", "step_index")
    assert isinstance(scores.score, LogisticScore)
    assert scores.score.scale.names == ("agreement", "prompt", "similarity", "step_index")
    expected = held_out_probabilities(queries, right, episodes)
    assert [row["prompt"] for row in given_] == expected
    assert scores.prompt is not None
    assert [scores.prompt.probability(query) for query in queries] != expected
    assert "prompt" not in rows[0]


@pytest.mark.usefixtures("sklearn")
def test_a_later_score_tells_more_than_an_earlier_one() -> None:
    rows, right, episodes, queries = labelled(600)
    scores, known = fit_step_scores(rows, right, episodes, queries)

    def loss(told: Sequence[float]) -> float:
        return float(np.mean((np.array(told) - np.array(right)) ** 2))

    prompt = loss([row["prompt"] for row in known])
    prior = loss([scores.prior.score(row) for row in known])
    late = loss([scores.score.score(row) for row in known])
    assert late < prior < prompt < loss([float(np.mean(right))] * len(right))


@pytest.mark.usefixtures("sklearn")
def test_without_vectors_there_is_no_prompt_score() -> None:
    rows, right, episodes, _ = labelled()
    scores, given_ = fit_step_scores(rows, right, episodes, None)
    assert scores.prompt is None
    assert given_ == rows


@pytest.mark.usefixtures("sklearn")
def test_a_step_without_demonstrations_has_no_vector_when_it_is_served() -> None:
    rows, right, episodes, queries = labelled()
    del rows[7]["similarity"]
    _, given_ = fit_step_scores(rows, right, episodes, queries)
    assert [place for place, row in enumerate(given_) if "prompt" not in row] == [7]


@pytest.mark.usefixtures("sklearn")
@pytest.mark.parametrize("is_right", [True, False])
def test_of_one_kind_of_label_no_vector_can_tell(is_right: bool) -> None:
    rows, _, episodes, queries = labelled(20)
    scores, known = fit_step_scores(rows, [is_right] * 20, episodes, queries)
    assert scores.prompt is None
    assert {scores.score.score(row) > 0.5 for row in known} == {is_right}


@pytest.mark.usefixtures("sklearn")
def test_the_late_score_may_rest_on_agreement_alone() -> None:
    rows, right, episodes, queries = labelled()
    scores, _ = fit_step_scores(rows, right, episodes, queries, "isotonic")
    assert isinstance(scores.score, IsotonicScore)
    assert scores.score.feature == "agreement"
    assert isinstance(scores.prior, LogisticScore)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    rows, right, episodes, queries = labelled(20)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[calibrate\]'"):
        fit_step_scores(rows, right, episodes, queries)


# The floor.


def cost(
    floor: float,
    priors: Sequence[float],
    scores: Sequence[float],
    right: Sequence[bool],
    threshold: float,
    costs: StepCosts,
) -> float:
    """What all steps cost with a floor, step by step."""
    total = 0.0
    for prior, score, is_right in zip(priors, scores, right, strict=True):
        if prior < floor:
            total += costs.teacher_usd
        elif score >= threshold:
            total += costs.student_usd + (0.0 if is_right else costs.wrong_usd)
        else:
            total += costs.student_usd + costs.teacher_usd
    return total


def test_samples_that_are_never_served_are_not_paid_for() -> None:
    priors = [0.1] * 50 + [0.9] * 50
    floor = best_floor(priors, priors, [False] * 50 + [True] * 50, 0.5, COSTS)
    assert 0.1 < floor <= 0.9


def test_where_the_student_is_always_served_and_right_it_is_always_asked() -> None:
    priors = np.linspace(0, 1, 50).tolist()
    assert best_floor(priors, [1.0] * 50, [True] * 50, 0.5, COSTS) == 0.0


def test_free_samples_are_always_drawn() -> None:
    priors = np.linspace(0, 1, 50).tolist()
    right = [prior > 0.5 for prior in priors]
    free = StepCosts(teacher_usd=1.0, student_usd=0.0, wrong_usd=1.0)
    assert best_floor(priors, priors, right, 0.5, free) == 0.0


def test_a_dear_error_that_the_threshold_lets_through_raises_the_floor() -> None:
    priors = np.linspace(0, 1, 101).tolist()
    right = [prior > 0.6 for prior in priors]
    cheap, dear = (StepCosts(1.0, 0.1, wrong_usd) for wrong_usd in (0.0, 20.0))
    scores = [1.0] * 101
    assert best_floor(priors, scores, right, 0.5, cheap) == 0.0
    assert best_floor(priors, scores, right, 0.5, dear) == pytest.approx(0.65)


def test_where_nothing_is_served_almost_nothing_is_asked() -> None:
    priors = np.linspace(0, 1, 100).tolist()
    assert best_floor(priors, priors, [True] * 100, 2.0, COSTS) == 1.0


@given(
    steps=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), min_size=1),
    threshold=st.floats(0, 1),
    student_usd=st.sampled_from([0.0, 0.05, 0.4, 2.0]),
    wrong_usd=st.sampled_from([0.0, 1.0, 5.0]),
)
def test_no_floor_of_the_grid_is_cheaper(
    steps: list[tuple[float, float, bool]], threshold: float, student_usd: float, wrong_usd: float
) -> None:
    priors, scores, right = zip(*steps, strict=True)
    costs = StepCosts(1.0, student_usd, wrong_usd)
    floor = best_floor(priors, scores, right, threshold, costs)
    chosen = cost(floor, priors, scores, right, threshold, costs)
    grid = [0.0, *np.quantile(priors, np.linspace(0.05, 1, 20)).tolist()]
    assert floor in grid
    for other in grid:
        assert chosen <= cost(other, priors, scores, right, threshold, costs) + 1e-9
