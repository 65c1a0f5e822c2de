from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.recipes import toys

from tutelage.runtime.errors import NoExamples, TrainingError
from tutelage.training.data.example import TrainingExample
from tutelage.training.objectives.divergences import forward_kl
from tutelage.training.recipes.adapters import Lora
from tutelage.training.recipes.packing import collate
from tutelage.training.recipes.progressive import Progressive
from tutelage.training.recipes.recipe import TrainedStudent
from tutelage.training.recipes.supervised import Supervised
from tutelage.training.recipes.tokenized import load_tokenizer
from tutelage.training.recipes.weights import load_weights, logits_at

EXAMPLES = [toys.example(number) for number in range(8)]


@pytest.fixture(scope="module")
def teacher(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny student after fine-tuning."""
    chosen = toys.settings(epochs=8, lora=None)
    out = tmp_path_factory.mktemp("teacher")
    return Supervised(chosen).train(EXAMPLES, tiny_llama, out).checkpoint


def train(checkpoint: Path, out: Path, objective: str, **given: Any) -> TrainedStudent:
    changed = {key: given.pop(key) for key in ("epochs", "lora", "batching") if key in given}
    made = Progressive(objective, settings=toys.settings(**changed), **given)
    return made.train(EXAMPLES, checkpoint, out)


def distance(teacher: Path, student: Path) -> float:
    """Forward KL at the supervised positions, nats a token."""
    chats = load_tokenizer(student).encode_all(EXAMPLES, 120)
    batch = collate(tuple((index,) for index in range(len(chats))), chats)
    with torch.no_grad():
        theirs, ours = (
            logits_at(load_weights(folder, dtype="float32", device="cpu").eval(), batch)
            for folder in (teacher, student)
        )
    return float(forward_kl(ours[None], theirs[None]).mean())


@pytest.mark.parametrize(
    ("objective", "options", "batching"),
    [("taid", {}, "sorted"), ("taid", {"start": 0.5}, "packed"), ("jsd", {"beta": 0.3}, "sorted")],
)
def test_the_student_comes_nearer_to_a_larger_teacher(
    objective: str,
    options: dict[str, float],
    batching: str,
    teacher: Path,
    tiny_llama: Path,
    tmp_path: Path,
) -> None:
    student = train(
        tiny_llama,
        tmp_path,
        objective,
        options=options,
        teacher=teacher,
        epochs=10,
        lora=None,
        batching=batching,
    )
    assert distance(teacher, student.checkpoint) < 0.7 * distance(teacher, tiny_llama)


def test_a_teacher_that_is_the_student_begins_at_no_loss(tiny_llama: Path, tmp_path: Path) -> None:
    student = train(tiny_llama, tmp_path, "fkl", teacher=tiny_llama, epochs=1, lora=Lora(rank=2))
    assert student.losses[0] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("lora", [Lora(rank=4, alpha=8), None])
def test_demonstrations_go_into_the_weights(
    lora: Lora | None, tiny_llama: Path, tmp_path: Path
) -> None:
    student = train(tiny_llama, tmp_path, "context", shown=toys.shown, epochs=12, lora=lora)
    assert student.losses[0] > 0
    assert sum(student.losses[-3:]) < 0.7 * sum(student.losses[:3])


def test_the_teacher_must_be_another_or_see_more(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="would be the student itself"):
        train(tiny_llama, tmp_path, "taid")


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("redi", "needs pairs, which this recipe does not give"),
        ("context", "needs demonstrations, which"),
        ("mi-alpha", "needs the teacher's hidden-states"),
    ],
)
def test_an_objective_that_needs_more_is_refused(
    objective: str, words: str, tiny_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=words):
        train(tiny_llama, tmp_path, objective, teacher=tiny_llama)


def test_another_vocabulary_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_llama, other)
    tokenizer = load_tokenizer(other).tokenizer
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(other)
    with pytest.raises(TrainingError, match="another vocabulary than the student"):
        train(tiny_llama, tmp_path / "out", "taid", teacher=other)


def test_shown_must_keep_the_supervised_turns(tiny_llama: Path, tmp_path: Path) -> None:
    def other(one: TrainingExample) -> TrainingExample:
        return one.model_copy(update={"supervised": one.supervised[:1]})

    with pytest.raises(TrainingError, match="has other supervised turns where demonstrations"):
        train(tiny_llama, tmp_path, "context", shown=other)


def test_no_example_of_weight_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    made = Progressive(shown=toys.shown, settings=toys.settings())
    with pytest.raises(NoExamples, match="weight above 0"):
        made.train([toys.example(0, weight=0.0)], tiny_llama, tmp_path)
