from __future__ import annotations

import pytest
from tests.training.gates.planted import outcomes

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.evaluation import (
    Checkpoint,
    Evaluation,
    PairedEpisode,
    PlayedEpisode,
    StepRow,
)


def test_episodes_of_a_task_stand_together() -> None:
    evaluation = outcomes([(True, False)] * 6, repeats=3)
    assert [len(task) for task in evaluation.by_task()] == [3, 3]


def test_rows_are_those_of_one_student() -> None:
    played = [PlayedEpisode(True, 0.0, 0.0, 1, rows=(StepRow(share),)) for share in (0.2, 0.8)]
    evaluation = Evaluation((PairedEpisode("a", played[0], played[1]),))
    assert [row.agreement for row in evaluation.rows(candidate=False)] == [0.2]
    assert [row.agreement for row in evaluation.rows(candidate=True)] == [0.8]


def test_an_episode_that_is_there_twice_is_refused() -> None:
    pair = outcomes([(True, True)]).episodes[0]
    with pytest.raises(TrainingError, match="task 'task-0', seed 0 is there twice"):
        Evaluation((pair, pair))


@pytest.mark.parametrize(
    ("cost_usd", "steps", "teacher_steps", "text"),
    [
        (float("nan"), 1, 0, "cost_usd = nan"),
        (-1.0, 1, 0, "cost_usd = -1.0"),
        (0.0, 1, 2, "teacher_steps = 2 exceeds steps = 1"),
    ],
)
def test_figures_that_cannot_be_are_refused(
    cost_usd: float, steps: int, teacher_steps: int, text: str
) -> None:
    with pytest.raises(TrainingError, match=text):
        PlayedEpisode(True, cost_usd, 0.0, steps, teacher_steps)


@pytest.mark.parametrize(
    ("step", "proxy", "golden", "error"),
    [(0, 1.0, 0.5, 0.1), (1, -1.0, 0.5, 0.1), (1, 1.0, float("nan"), 0.1), (1, 1.0, 0.5, -0.1)],
)
def test_checkpoints_that_cannot_be_are_refused(
    step: int, proxy: float, golden: float, error: float
) -> None:
    with pytest.raises(TrainingError, match="checkpoint at step"):
        Checkpoint(step, proxy, golden, error)


def test_checkpoints_must_ascend() -> None:
    points = (Checkpoint(20, 1.0, 0.5, 0.1), Checkpoint(10, 0.9, 0.5, 0.1))
    with pytest.raises(TrainingError, match="must ascend"):
        Evaluation((), checkpoints=points)
