from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tutelage.runtime.errors import CheckpointDamaged, MissingExtra, NoExamples, TrainingError
from tutelage.training.recipes.recipe import TrainingProgress
from tutelage.training.recipes.retriever import (
    QueryProjection,
    RetrieverSettings,
    ScoredStep,
    Vectors,
    distillation_loss,
    recall_of_useful,
    retriever_loss,
    train_retriever,
)

WIDTH = 12


def unit(rows: NDArray[Any]) -> Vectors:
    scaled: Vectors = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


def steps(count: int, seed: int, candidates: int = 20) -> list[ScoredStep]:
    """Useful is what is near to the query with its halves exchanged."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        query = unit(rng.normal(size=WIDTH))
        rows = unit(rng.normal(size=(candidates, WIDTH)))
        useful = (rows @ np.roll(query, WIDTH // 2) > 0.3).astype(np.float32)
        made.append(ScoredStep(query, rows, useful))
    return made


def chosen(**changed: object) -> RetrieverSettings:
    given: dict[str, object] = {"threads": 1, "epochs": 20, "learning_rate": 0.02, **changed}
    return RetrieverSettings(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [None, 6])
def test_more_useful_demonstrations_are_found_on_held_out_steps(
    rank: int | None, tmp_path: Path
) -> None:
    held_out = steps(200, seed=1)
    trained = train_retriever(
        steps(400, seed=0), tmp_path / "r", chosen(rank=rank), embedder="hash-256"
    )
    before = recall_of_useful(held_out, None, 3)
    after = recall_of_useful(held_out, trained.projection, 3)
    assert after > before + 0.1
    assert trained.losses[-1] < trained.losses[0]
    assert trained.projection.embedder == "hash-256"


def test_shuffled_usefulness_teaches_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    shuffled = [
        ScoredStep(step.query, step.candidates, rng.permutation(step.usefulness))
        for step in steps(400, seed=0)
    ]
    held_out = steps(200, seed=1)
    trained = train_retriever(shuffled, tmp_path / "r", chosen())
    gain = recall_of_useful(held_out, trained.projection, 3) - recall_of_useful(held_out, None, 3)
    assert gain < 0.05


def test_equal_runs_write_equal_weights_and_damage_is_found(tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    for name in ("a", "b"):
        train_retriever(
            steps(64, seed=0, candidates=60), tmp_path / name, chosen(epochs=2), seen.append
        )
    first = tmp_path / "a" / "projection.safetensors"
    assert first.read_bytes() == (tmp_path / "b" / "projection.safetensors").read_bytes()
    assert seen[-1].step == seen[-1].steps == 4
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(CheckpointDamaged, match="is not as it was written"):
        QueryProjection.load(tmp_path / "a")


def test_scores_may_be_shifted_and_candidates_permuted() -> None:
    scores = torch.randn(3, 5)
    assert float(distillation_loss(scores, scores + 7.0)) == pytest.approx(0.0, abs=1e-6)
    teacher, order = torch.randn(3, 5), torch.randperm(5)
    torch.testing.assert_close(
        distillation_loss(scores, teacher), distillation_loss(scores[:, order], teacher[:, order])
    )
    assert float(distillation_loss(scores[:, :1], teacher[:, :1])) == 0.0


def test_the_gradient_is_that_of_the_difference_of_the_distributions() -> None:
    scores = torch.randn(1, 4, requires_grad=True)
    teacher = torch.randn(1, 4)
    distillation_loss(scores, teacher).backward()
    torch.testing.assert_close(scores.grad, scores.detach().softmax(-1) - teacher.softmax(-1))


def test_absent_candidates_and_frozen_documents_have_no_part() -> None:
    matrix = (torch.eye(WIDTH) + 0.1 * torch.randn(WIDTH, WIDTH)).requires_grad_()
    queries = torch.nn.functional.normalize(torch.randn(2, WIDTH), dim=-1)
    documents = torch.nn.functional.normalize(torch.randn(2, 3, WIDTH), dim=-1).requires_grad_()
    teacher = torch.tensor([[1.0, 0.0, -1e4], [0.0, 1.0, -1e4]])
    settings = chosen(contrastive=0.0)
    padded = retriever_loss(matrix, queries, documents.detach(), teacher, settings)
    short = retriever_loss(matrix, queries, documents.detach()[:, :2], teacher[:, :2], settings)
    torch.testing.assert_close(padded, short)
    padded.backward()
    assert documents.grad is None
    assert matrix.grad is not None


def test_recall_counts_what_could_be_found() -> None:
    candidates = np.eye(4, dtype=np.float32)
    step = ScoredStep(
        unit(np.array([4.0, 3.0, 2.0, 1.0])), candidates, np.array([1, 0, 1, 1], np.float32)
    )
    assert recall_of_useful([step], None, 1) == 1.0
    assert recall_of_useful([step], None, 2) == 0.5
    assert recall_of_useful([step], None, 4) == 1.0
    backwards = QueryProjection(np.fliplr(np.eye(4)).astype(np.float32))
    assert recall_of_useful([step], backwards, 3) == pytest.approx(2 / 3)


def test_steps_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    alike = ScoredStep(np.ones(2, np.float32), np.ones((3, 2), np.float32), np.ones(3, np.float32))
    with pytest.raises(NoExamples, match="none of 1 steps"):
        train_retriever([alike], tmp_path)
    with pytest.raises(NoExamples, match="no held-out step"):
        recall_of_useful([alike], None, 3)
    uneven = ScoredStep(alike.query, alike.candidates, np.array([0, 1], np.float32))
    with pytest.raises(TrainingError, match=r"2 scores and candidates of shape \(3, 2\)"):
        train_retriever([uneven], tmp_path)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(MissingExtra, match="train"):
        train_retriever(steps(4, seed=0), tmp_path)
    with pytest.raises(MissingExtra, match="train"):
        QueryProjection.load(tmp_path)
