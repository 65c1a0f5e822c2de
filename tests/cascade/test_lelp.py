"""The LELP head in its limits, and against plain code."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.cascade.judged_world import judged_trial

from tutelage.cascade.lelp import (
    HeadOptions,
    JudgedSteps,
    LelpHead,
    distillation_loss,
    fit_lelp,
    residual,
    shuffle_subclasses,
    subclass_targets,
    train_head,
)
from tutelage.runtime.errors import ConfigError

QUICK = HeadOptions(updates=40)


@pytest.fixture(scope="module")
def judged() -> JudgedSteps:
    return judged_trial(0, modes=6, steps=300, held_out=1).fitted


def targets(judged: JudgedSteps, subclasses: int, scale: float = 1.0) -> np.ndarray:
    return subclass_targets(
        judged.probabilities,
        scale * judged.embeddings,
        judged.output_weights,
        subclasses=subclasses,
        generator=np.random.default_rng(7),
    )


def test_the_residual_is_invisible_to_the_judges_output(judged: JudgedSteps) -> None:
    remaining = residual(judged.embeddings, judged.output_weights)
    assert np.abs(remaining @ judged.output_weights.T).max() < 1e-10
    assert np.abs(remaining).max() > 0.1


def test_a_judge_with_dependent_output_weights_is_no_special_case(judged: JudgedSteps) -> None:
    twice = np.vstack([judged.output_weights[0], 2 * judged.output_weights[0]])
    assert np.abs(residual(judged.embeddings, twice) @ twice.T).max() < 1e-10


@pytest.mark.parametrize("subclasses", [1, 2, 4, 8])
def test_subclasses_share_the_mass_of_their_class(judged: JudgedSteps, subclasses: int) -> None:
    found = targets(judged, subclasses).reshape(-1, 2, subclasses)
    assert found.sum(axis=2) == pytest.approx(judged.probabilities, abs=1e-12)
    assert (found >= 0).all()


def test_rescaling_the_embedding_changes_nothing(judged: JudgedSteps) -> None:
    assert targets(judged, 4, scale=1000.0) == pytest.approx(targets(judged, 4), abs=1e-9)


def test_one_subclass_is_vanilla_distillation_bit_for_bit(judged: JudgedSteps) -> None:
    assert np.array_equal(targets(judged, 1), judged.probabilities)
    head = fit_lelp(judged, HeadOptions(subclasses=1, updates=40), seed=3)
    weights = np.random.default_rng(3).spawn(3)[0]
    matrix = head.scale.matrix(judged.rows)
    plain = train_head(head.scale, matrix, judged.probabilities, QUICK, weights)
    for name in ("inner", "inner_bias", "outer", "outer_bias"):
        assert np.array_equal(getattr(head, name), getattr(plain, name))


def test_the_loss_is_the_cross_entropy_and_training_follows_its_slope(judged: JudgedSteps) -> None:
    generator = np.random.default_rng(0)
    logits, wanted = generator.standard_normal((5, 8)), generator.dirichlet(np.ones(8), 5)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert distillation_loss(logits, wanted) == pytest.approx(
        float(np.mean([-(p * np.log(q)).sum() for p, q in zip(wanted, shares, strict=True)]))
    )

    # One step of Adam from its start moves every weight by the learning rate against its slope.
    head = fit_lelp(judged, HeadOptions(updates=1, weight_decay=0.0), seed=1)
    start = fit_lelp(judged, HeadOptions(updates=0), seed=1)
    matrix, goal = head.scale.matrix(judged.rows), targets_of(judged, seed=1)

    def loss(bias: np.ndarray) -> float:
        hidden = np.tanh(matrix @ start.inner + start.inner_bias)
        return distillation_loss(hidden @ start.outer + bias, goal)

    for place in range(8):
        nudge = np.zeros(8)
        nudge[place] = 1e-5
        slope = (loss(start.outer_bias + nudge) - loss(start.outer_bias - nudge)) / 2e-5
        moved = head.outer_bias[place] - start.outer_bias[place]
        assert moved == pytest.approx(-0.01 * np.sign(slope), rel=1e-3)


def targets_of(judged: JudgedSteps, seed: int) -> np.ndarray:
    return subclass_targets(
        judged.probabilities,
        judged.embeddings,
        judged.output_weights,
        subclasses=4,
        generator=np.random.default_rng(seed).spawn(3)[1],
    )


def test_training_lowers_the_loss_and_ranks_steps(judged: JudgedSteps) -> None:
    trial = judged_trial(1, modes=6, steps=400, held_out=400)
    head = fit_lelp(trial.fitted, HeadOptions(updates=150), seed=0)
    scores = head.scores(head.scale.matrix(trial.rows))
    right = np.array(trial.right)
    assert scores[right].mean() > scores[~right].mean() + 0.3
    assert head.score(trial.rows[0]) == pytest.approx(scores[0])


def test_the_shuffle_keeps_class_masses_and_moves_shares(judged: JudgedSteps) -> None:
    before = targets(judged, 4)
    after = shuffle_subclasses(before, judged.probabilities, np.random.default_rng(0))
    shape = (-1, 2, 4)
    assert after.reshape(shape).sum(axis=2) == pytest.approx(judged.probabilities)
    assert np.abs(after - before).mean() > 0.01
    shares = before.reshape(shape) / judged.probabilities[:, :, None]
    moved = after.reshape(shape) / judged.probabilities[:, :, None]
    assert np.sort(moved[:, 0, 0]) == pytest.approx(np.sort(shares[:, 0, 0]))


def test_a_class_without_examples_or_spread_has_equal_subclasses() -> None:
    sure = np.array([[0.1, 0.9]] * 3)
    found = subclass_targets(
        sure, np.ones((3, 5)), np.eye(2, 5), subclasses=4, generator=np.random.default_rng(0)
    )
    assert found[:, :4] == pytest.approx(np.full((3, 4), 0.025))
    assert found[:, 4:] == pytest.approx(np.full((3, 4), 0.225))


def test_no_subclass_at_all_is_refused(judged: JudgedSteps) -> None:
    with pytest.raises(ValueError, match="subclasses = 0"):
        targets(judged, 0)


def test_a_head_survives_a_file(judged: JudgedSteps) -> None:
    head = fit_lelp(judged, QUICK, seed=0)
    read = LelpHead.from_json(json.loads(json.dumps(head.to_json())))
    assert read.to_json() == head.to_json()
    assert read.score(judged.rows[0]) == head.score(judged.rows[0])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"outputs": 3}, "outputs = 3: give an even number"),
        ({"hidden": 31}, "inner has"),
        ({"outer_bias": None}, "outer_bias = None is not a list"),
        ({"scale": []}, "is not a table"),
    ],
)
def test_a_damaged_head_is_refused(judged: JudgedSteps, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        LelpHead.from_json(fit_lelp(judged, QUICK, seed=0).to_json() | change)
