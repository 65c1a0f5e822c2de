"""Score models on steps whose true rates are known."""

from __future__ import annotations

import json
import sys
import time
from math import nan
from typing import Any

import numpy as np
import pytest
from tests.cascade.synthetic_student import SyntheticWorld

from tutelage.cascade.feature_scale import FeatureScale
from tutelage.cascade.lelp import HeadOptions, train_head
from tutelage.cascade.score_quality import auroc, brier, calibration_error
from tutelage.cascade.scores import (
    IsotonicScore,
    LogisticScore,
    ScoreModel,
    fit_isotonic,
    fit_logistic,
    for_fitting,
    score_from_json,
)
from tutelage.runtime.errors import ConfigError, MissingExtra

NAMES = tuple(f"f{place:02d}" for place in range(12))


def agreement_steps(steps: int, seed: int) -> tuple[list[dict[str, float]], list[bool]]:
    generator = np.random.default_rng(seed)
    scores = generator.random(steps)
    right = generator.random(steps) < SyntheticWorld().right_rate(scores)
    return [{"agreement": float(score)} for score in scores], right.tolist()


def logistic_steps(steps: int, seed: int) -> tuple[list[dict[str, float]], list[bool], np.ndarray]:
    """P(right) = logistic(1 + 2 a - b), and 1 / (1 + e) where "a" is missing."""
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, steps))
    missing = generator.random(steps) < 0.2
    logits = np.where(missing, -1.0, 1 + 2 * a) - b
    right = generator.random(steps) < 1 / (1 + np.exp(-logits))
    rows = [
        {"a": nan if gone else float(x), "b": float(y)}
        for x, y, gone in zip(a, b, missing, strict=True)
    ]
    return rows, right.tolist(), 1 / (1 + np.exp(-logits))


def test_the_isotonic_curve_finds_the_true_one() -> None:
    rows, right = agreement_steps(20_000, 0)
    model = fit_isotonic(rows, right)
    at = np.linspace(0.05, 0.95, 19)
    found = [model.score({"agreement": float(x)}) for x in at]
    assert found == sorted(found)
    assert found == pytest.approx(SyntheticWorld().right_rate(at).tolist(), abs=0.06)
    assert model.score({"agreement": -1.0}) == model.rates[0]
    assert model.score({"agreement": 2.0}) == model.rates[-1]


def test_a_value_seen_twice_is_not_scored_as_certain() -> None:
    rows = [{"agreement": 1.0}] * 2 + [{"agreement": 0.5}] * 8
    right = [True, True, *[True] * 4, *[False] * 4]
    assert fit_isotonic(rows, right, prior_steps=0).score(rows[0]) == 1.0
    pulled = fit_isotonic(rows, right, prior_steps=2).score(rows[0])
    assert pulled == pytest.approx((2 + 2 * 7 / 12) / 4)


def test_steps_without_the_feature_get_their_own_rate() -> None:
    rows = [{"agreement": 1.0}] * 10 + [{"agreement": nan}] * 8
    model = fit_isotonic(rows, [True] * 10 + [False] * 8)
    assert model.score({}) == pytest.approx(1 / 10)
    assert fit_isotonic(rows[:10], [True] * 10).score({}) == pytest.approx(11 / 12)


def test_between_knots_the_curve_is_linear() -> None:
    model = IsotonicScore("agreement", (0.0, 0.5, 1.0), (0.2, 0.4, 1.0), 0.3)
    assert model.score({"agreement": 0.25}) == pytest.approx(0.3)
    assert model.score({"agreement": 0.5}) == 0.4
    assert model.score({"agreement": 0.75}) == pytest.approx(0.7)


def test_logistic_regression_finds_the_true_probabilities() -> None:
    rows, right, truth = logistic_steps(20_000, 1)
    model = fit_logistic(rows, right)
    assert model.scale.columns == ("a", "b", "a missing")
    found = [model.score(features) for features in rows]
    assert np.abs(np.array(found) - truth).mean() < 0.01
    assert calibration_error(found, right) < 0.02
    assert brier(found, right) < brier([float(np.mean(right))] * len(right), right)
    assert auroc(found, right) == pytest.approx(auroc(truth.tolist(), right), abs=0.002)


def test_weights_undo_a_choice_of_what_was_audited() -> None:
    rows, right = agreement_steps(30_000, 2)
    generator = np.random.default_rng(3)
    # Wrong steps are audited three times as often.
    odds = np.where(right, 0.2, 0.6)
    kept = generator.random(len(rows)) < odds
    some = [features for features, keep in zip(rows, kept, strict=True) if keep]
    labels = np.array(right)[kept].tolist()
    weighted = fit_logistic(some, labels, weights=(1 / odds[kept]).tolist())
    plain = fit_logistic(some, labels)
    everything = fit_logistic(rows, right)
    at = {"agreement": 0.5}
    assert weighted.score(at) == pytest.approx(everything.score(at), abs=0.02)
    assert plain.score(at) < everything.score(at) - 0.1
    curve = fit_isotonic(some, labels, weights=(1 / odds[kept]).tolist())
    assert curve.score({"agreement": 0.3}) == pytest.approx(
        SyntheticWorld().right_rate(np.array(0.3)).item(), abs=0.06
    )


@pytest.mark.parametrize("outcome", [True, False])
def test_steps_of_one_outcome_give_a_rate_and_no_coefficients(outcome: bool) -> None:
    model = fit_logistic([{"a": 1.0}, {"a": 2.0}], [outcome] * 2)
    assert model.score({"a": 9.0}) == pytest.approx(0.75 if outcome else 0.25)


def test_far_features_do_not_overflow() -> None:
    model = LogisticScore(FeatureScale(("a",), (0.0,), (1.0,), (False,)), (1.0,), 0.0)
    assert model.score({"a": 1e6}) == 1.0
    assert model.score({"a": -1e6}) == 0.0


def models() -> list[ScoreModel]:
    rows, right, _ = logistic_steps(400, 4)
    wide = [
        dict(zip(NAMES, row, strict=True)) for row in np.random.default_rng(0).random((400, 12))
    ]
    scale = FeatureScale(NAMES, (0.0,) * 12, (1.0,) * 12, (False,) * 12)
    half = np.full((400, 2), 0.5)
    head = train_head(
        scale, scale.matrix(wide), half, HeadOptions(updates=5), np.random.default_rng(0)
    )
    agreements, judged = agreement_steps(400, 5)
    return [fit_isotonic(agreements, judged), fit_logistic(rows, right), head]


@pytest.mark.parametrize("place", range(3))
def test_a_model_survives_a_file_and_scores_in_microseconds(place: int) -> None:
    model = models()[place]
    read = score_from_json(json.loads(json.dumps(model.to_json())))
    features = {"agreement": 0.4, "a": 0.3, "b": -1.0} | dict.fromkeys(NAMES, 0.5)
    assert read.score(features) == model.score(features)
    assert 0 <= read.score(features) <= 1
    times = []
    for _ in range(200):
        start = time.perf_counter()
        read.score(features)
        times.append(time.perf_counter() - start)
    # A plain loop of as many additions as the model has inputs stands for the machine's speed.
    start = time.perf_counter()
    for _ in range(200):
        sum(range(400))
    assert sorted(times)[100] < 20 * (time.perf_counter() - start) / 200


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kind": "forest"}, "kind = 'forest' is unknown: choose one of isotonic, logistic, lelp"),
        ({}, "kind = None"),
        ({"kind": "isotonic", "knots": [0], "rates": [0]}, "feature = None"),
        ({"kind": "isotonic", "feature": "a", "knots": [], "rates": []}, "empty or differ"),
        ({"kind": "isotonic", "feature": "a", "knots": [1, 0], "rates": [0, 1]}, "must rise"),
        ({"kind": "logistic", "weights": [1.0]}, "scale = None is not a table"),
        (
            {
                "kind": "logistic",
                "scale": {"names": [], "means": [], "deviations": [], "marked": []},
                "weights": [1.0],
            },
            "1 weights do not fit 0 columns",
        ),
    ],
)
def test_a_damaged_model_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        score_from_json(values)


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        fit_logistic([{"a": 1.0}], [True, False])
    with pytest.raises(ValueError, match="at least one"):
        fit_isotonic([], [])
    with pytest.raises(ValueError, match="no step has the feature 'agreement'"):
        fit_isotonic([{"a": 1.0}], [True])


def test_a_missing_scikit_learn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    rows = [{"agreement": 1.0}, {"agreement": 0.0}]
    with pytest.raises(MissingExtra, match=r"tutelage\[calibrate\]"):
        fit_isotonic(rows, [True, False])
    with pytest.raises(MissingExtra, match=r"tutelage\[calibrate\]"):
        fit_logistic(rows, [True, False])


def test_an_episode_is_always_on_the_same_side() -> None:
    names = [f"episode-{place}" for place in range(4000)]
    sides = [for_fitting(name, 0.3) for name in names]
    assert sides == [for_fitting(name, 0.3) for name in names]
    assert np.mean(sides) == pytest.approx(0.3, abs=0.03)
    assert sides != [for_fitting(name, 0.3, seed=1) for name in names]
