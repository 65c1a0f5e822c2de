from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.training.gates.planted import Student, planted

from tutelage.training.gates.agreement_quality import AgreementQuality, auroc
from tutelage.training.gates.evaluation import Evaluation


def test_the_auroc_is_the_share_of_ordered_pairs() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(2)
    right, wrong = generator.integers(0, 9, (2, 5))
    scores = np.repeat(np.tile(np.arange(5), 2), np.concatenate([right, wrong]))
    labels = np.repeat([1, 0], [right.sum(), wrong.sum()])
    assert auroc(right.astype(float), wrong.astype(float)) == pytest.approx(
        roc_auc_score(labels, scores)
    )


def test_the_auroc_without_a_wrong_step_is_not_a_number() -> None:
    assert np.isnan(auroc(np.array([1.0, 2.0]), np.array([0.0, 0.0])))


def test_a_student_that_is_sure_of_its_errors_is_blocked() -> None:
    verdict = AgreementQuality().check(planted(Student(sure_if_wrong=0.8), 3, tasks=100))
    assert (verdict.passed, verdict.blocking) == (False, True)
    assert verdict.value is not None
    assert verdict.value < -0.1
    assert "entropy 0.500 against 0.500 nats" in verdict.text


def test_a_fall_within_the_tolerance_is_allowed() -> None:
    evaluation = planted(Student(sure_if_wrong=0.8), 3, tasks=100)
    assert AgreementQuality(tolerance=0.5).check(evaluation).passed


@pytest.mark.slow
def test_an_equal_student_is_blocked_about_as_often_as_stated() -> None:
    gate = AgreementQuality(resamples=400)
    blocked = sum(not gate.check(planted(Student(), seed, tasks=60)).passed for seed in range(200))
    # 0.05 of 200 is 10; four standard errors above are 22.
    assert blocked <= 22


def test_with_few_wrong_steps_it_warns_and_does_not_block() -> None:
    verdict = AgreementQuality().check(planted(Student(right=1.0), 3, tasks=30))
    assert (verdict.passed, verdict.blocking, verdict.value) == (False, False, None)
    assert "there are 0" in verdict.text
    assert not AgreementQuality().check(Evaluation(())).blocking


def test_steps_that_nobody_judged_do_not_count() -> None:
    evaluation = planted(Student(), 3, tasks=30)
    unjudged = tuple(
        replace(
            pair,
            candidate=replace(
                pair.candidate,
                rows=tuple(replace(row, right=None, entropy=None) for row in pair.candidate.rows),
            ),
        )
        for pair in evaluation.episodes
    )
    verdict = AgreementQuality().check(replace(evaluation, episodes=unjudged))
    assert "not measured" in verdict.text
    blind = tuple(
        replace(pair, candidate=pair.current, current=pair.current) for pair in evaluation.episodes
    )
    without = tuple(
        replace(
            pair,
            current=replace(
                pair.current, rows=tuple(replace(row, entropy=None) for row in pair.current.rows)
            ),
        )
        for pair in blind
    )
    verdict = AgreementQuality().check(replace(evaluation, episodes=without))
    assert verdict.passed
    assert verdict.value == 0
    assert "entropy" not in verdict.text
