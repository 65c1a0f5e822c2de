from __future__ import annotations

import numpy as np
import pytest

from tutelage.runtime.errors import TrainingError
from tutelage.training.relation_similarity import rank_correlation, relation_similarity


def test_a_model_is_as_similar_to_itself_as_can_be() -> None:
    features = np.random.default_rng(0).standard_normal((8, 5))
    assert relation_similarity(features, features) == 0


def test_rotations_and_scales_of_features_change_nothing() -> None:
    generator = np.random.default_rng(1)
    teacher, student = generator.standard_normal((8, 5)), generator.standard_normal((8, 5))
    rotation, _ = np.linalg.qr(generator.standard_normal((5, 5)))
    assert relation_similarity(teacher, student @ rotation * 3) == pytest.approx(
        relation_similarity(teacher, student)
    )


def test_widths_may_differ_and_the_value_is_that_computed_by_hand() -> None:
    # Rows of the products: (1, 0), (0, 1) against (1, 1) / sqrt(2) twice.
    found = relation_similarity(np.eye(2), np.ones((2, 3)))
    gap = 2 * ((1 - 0.5**0.5) ** 2 + 0.5)
    assert found == pytest.approx(-gap / 4)


def test_a_student_that_sees_the_same_relations_is_more_similar_than_a_random_one() -> None:
    generator = np.random.default_rng(2)
    teacher = generator.standard_normal((20, 32))
    near = teacher @ generator.standard_normal((32, 64)) / 8
    assert relation_similarity(teacher, near) > relation_similarity(
        teacher, generator.standard_normal((20, 64))
    )


def test_features_of_other_steps_are_refused() -> None:
    with pytest.raises(TrainingError, match="of the same steps"):
        relation_similarity(np.ones((2, 3)), np.ones((3, 3)))


def test_rank_correlation_is_that_of_scipy() -> None:
    from scipy.stats import spearmanr

    scores, results = [0.1, 0.4, 0.4, 0.9, 0.2], [3.0, 5.0, 4.0, 9.0, 1.0]
    assert rank_correlation(scores, results) == pytest.approx(spearmanr(scores, results).statistic)


def test_rank_correlation_says_nothing_of_two_or_of_constants() -> None:
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    with pytest.raises(TrainingError, match="1 scores and 0 results"):
        rank_correlation([1.0], [])
