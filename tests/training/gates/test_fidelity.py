from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.gates.planted import Student, outcomes, planted

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.evaluation import Evaluation
from tutelage.training.gates.fidelity import (
    Fidelity,
    label_loyalty,
    probability_loyalty,
    score_closeness,
)

ROWS = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3)


def test_loyalty_of_a_model_to_itself_is_one() -> None:
    rows = np.array([[0.2, 0.8], [1.0, 0.0]])
    assert label_loyalty(["a", "b"], ["a", "b"]) == 1.0
    for form in ("distance", "divergence"):
        assert probability_loyalty(rows, rows, form) == pytest.approx([1.0, 1.0])


@given(ROWS, ROWS)
def test_loyalty_is_symmetric_and_a_share(ours: list[float], theirs: list[float]) -> None:
    a, b = (np.array([one]) / sum(one) for one in (ours, theirs))
    found = probability_loyalty(a, b)[0]
    assert found == pytest.approx(probability_loyalty(b, a)[0], abs=1e-6)
    assert 0 <= found <= 1


def test_uniform_against_certain_has_the_value_computed_by_hand() -> None:
    # m = (3/4, 1/4): KL((1, 0) || m) = log2(4/3), KL((1/2, 1/2) || m) = log2(4/3) / 2.
    divergence = (np.log2(4 / 3) + (0.5 * np.log2(2 / 3) + 0.5 * np.log2(2))) / 2
    ours, theirs = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    assert probability_loyalty(ours, theirs, "divergence")[0] == pytest.approx(1 - divergence)
    assert probability_loyalty(ours, theirs)[0] == pytest.approx(1 - divergence**0.5)


def test_distributions_that_share_nothing_have_no_loyalty() -> None:
    assert probability_loyalty(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0] == 0


def test_labels_are_compared_one_by_one() -> None:
    assert label_loyalty(["a", "b", "c", "d"], ["a", "x", "c", "d"]) == 0.75


def test_scores_are_compared_by_distance_and_by_order() -> None:
    found = score_closeness([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], 10.0)
    assert found.closeness == pytest.approx(0.9)
    assert found.correlation == pytest.approx(1.0)
    assert score_closeness([1.0, 1.0], [2.0, 3.0], 1.0).correlation is None


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(TrainingError, match="as many of both"):
        label_loyalty([], [])
    with pytest.raises(TrainingError, match="score_range = 0"):
        score_closeness([1.0], [1.0], 0)
    with pytest.raises(TrainingError, match="shapes"):
        probability_loyalty(np.ones((1, 2)), np.ones((1, 3)))
    with pytest.raises(TrainingError, match="row of the teacher"):
        probability_loyalty(np.array([[0.5, 0.5]]), np.array([[0.5, 0.6]]))


@pytest.mark.parametrize(
    ("candidate", "warning"),
    [
        (Student(success=0.99, same=0.4), "better, but less like the teacher"),
        (Student(success=0.8, same=0.95), "more like the teacher, but no better"),
        (Student(success=0.99, same=0.95), None),
    ],
)
def test_success_and_loyalty_that_move_apart_are_a_warning(
    candidate: Student, warning: str | None
) -> None:
    verdict = Fidelity().check(planted(candidate, 4, tasks=100))
    assert not verdict.blocking
    assert verdict.passed is (warning is None)
    assert verdict.text.endswith(warning or "")
    assert "probability loyalty" in verdict.text


def test_without_the_teachers_actions_nothing_is_measured() -> None:
    assert "not measured" in Fidelity().check(outcomes([(True, True)])).text
    assert Fidelity().check(Evaluation(())).passed
