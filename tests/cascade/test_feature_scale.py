"""Features of a step as rows of numbers."""

from __future__ import annotations

import json
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from tutelage.cascade.feature_scale import fit_scale, number, scale_from_json
from tutelage.runtime.errors import ConfigError

ROWS = [{"agreement": 1.0, "logprob": nan}, {"agreement": 0.0, "logprob": -2.0, "flat": 3.0}]


def test_features_are_standardised_and_missing_ones_marked() -> None:
    scale = fit_scale(ROWS)
    assert scale.columns == ("agreement", "flat", "logprob", "flat missing", "logprob missing")
    assert scale.row(ROWS[0]) == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert scale.row(ROWS[1]) == [-1.0, 0.0, 0.0, 0.0, 0.0]
    assert scale.matrix(ROWS).tolist() == [scale.row(features) for features in ROWS]


def test_a_feature_that_was_always_there_counts_as_its_mean_when_it_is_missing() -> None:
    scale = fit_scale([{"agreement": 1.0}, {"agreement": 0.5}])
    assert scale.columns == ("agreement",)
    assert scale.row({}) == scale.row({"agreement": inf}) == [0.0]
    assert scale.row({"agreement": 0.75, "unknown": 9.0}) == [0.0]


def test_columns_have_mean_0_and_deviation_1() -> None:
    generator = np.random.default_rng(0)
    rows = [{"a": float(x), "b": 5.0} for x in generator.normal(7, 3, 200)]
    matrix = fit_scale(rows).matrix(rows)
    assert matrix.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert matrix.std(axis=0) == pytest.approx([1, 0], abs=1e-12)


def test_a_feature_that_is_never_there_is_harmless() -> None:
    scale = fit_scale(ROWS, ["never"])
    assert scale.row({"never": 2.0}) == [2.0, 0.0]
    assert scale.matrix([]).shape == (0, 2)


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no features"):
        fit_scale([])
    with pytest.raises(ValueError, match="no features"):
        fit_scale([{}])


def test_a_scale_survives_a_file() -> None:
    scale = fit_scale(ROWS)
    assert scale_from_json(json.loads(json.dumps(scale.to_json()))) == scale


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"names": "agreement"}, "names = 'agreement' is not a list"),
        ({"means": [0.0]}, "differ in length"),
        ({"means": [0.0, nan, 0.0]}, "means holds nan"),
        ({"means": [0.0, True, 0.0]}, "means holds True"),
        ({"deviations": [1.0, 0.0, 1.0]}, "deviations holds 0"),
    ],
)
def test_a_damaged_scale_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        scale_from_json(fit_scale(ROWS).to_json() | change)


def test_a_number_must_be_there() -> None:
    assert number({"width": 3}, "width") == 3.0
    with pytest.raises(ConfigError, match="width holds None"):
        number({}, "width")
