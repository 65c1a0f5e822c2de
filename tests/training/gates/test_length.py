from __future__ import annotations

import pytest
from tests.training.gates.planted import Student, planted

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.evaluation import Evaluation, PairedEpisode, PlayedEpisode
from tutelage.training.gates.length import TokensPerStep


def _written(before: int, after: int, tasks: int = 25) -> Evaluation:
    return Evaluation(
        tuple(
            PairedEpisode(
                str(one),
                PlayedEpisode(True, 0.0, 0.0, 2, output_tokens=before),
                PlayedEpisode(True, 0.0, 0.0, 1, output_tokens=after),
            )
            for one in range(tasks)
        )
    )


def test_tokens_are_counted_by_step() -> None:
    verdict = TokensPerStep().check(_written(40, 24))
    assert verdict.value == pytest.approx(1.2)
    assert verdict.passed
    assert not TokensPerStep().check(_written(40, 30)).passed


def test_an_equal_student_passes_and_a_wordy_one_does_not() -> None:
    assert TokensPerStep().check(planted(Student(), 1, tasks=60)).passed
    assert not TokensPerStep().check(planted(Student(tokens=28), 1, tasks=60)).passed


def test_where_nobody_counted_there_is_nothing_to_judge() -> None:
    assert TokensPerStep().check(_written(0, 0)).passed
    assert TokensPerStep().check(Evaluation(())).passed


def test_a_first_student_that_writes_is_a_warning_and_no_block() -> None:
    verdict = TokensPerStep().check(_written(0, 5))
    assert (verdict.passed, verdict.blocking) == (False, False)


def test_few_tasks_do_not_pass() -> None:
    assert "too few" in TokensPerStep().check(_written(4, 2, tasks=3)).text


def test_a_ratio_of_zero_is_refused() -> None:
    with pytest.raises(TrainingError, match="most = -1"):
        TokensPerStep(most=-1)
