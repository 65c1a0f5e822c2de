from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.recipes import toys

from tutelage.runtime.errors import NoExamples, TrainingError
from tutelage.training.objectives.tokens import sequence_sums, target_log_probs
from tutelage.training.recipes.adapters import Lora
from tutelage.training.recipes.packing import collate
from tutelage.training.recipes.preference import Preference, PreferenceObjective, scored_rows
from tutelage.training.recipes.recipe import TrainedStudent
from tutelage.training.recipes.tokenized import load_tokenizer
from tutelage.training.recipes.weights import load_weights, logits_at

EXAMPLES = [toys.step_example(number) for number in range(8)]
REJECTED = {example.id: "no" for example in EXAMPLES}


def train(
    checkpoint: Path, out: Path, objective: PreferenceObjective = "dpo", **given: Any
) -> TrainedStudent:
    changed = {"lora": Lora(rank=4), "epochs": 4, **given}
    rejected = changed.pop("rejected", REJECTED)
    teacher = changed.pop("teacher", None)
    chosen = toys.settings(**changed)
    made = Preference(rejected, objective, teacher=teacher, settings=chosen)
    return made.train(EXAMPLES, checkpoint, out)


def margin(checkpoint: Path) -> float:
    """Mean of ``log pi(right) - log pi(wrong)``, nats an answer."""
    model = load_weights(checkpoint, dtype="float32", device="cpu").eval()
    tokenizer = load_tokenizer(checkpoint)
    sums = []
    for answer in (None, "no"):
        examples = [
            one
            if answer is None
            else one.model_copy(
                update={"messages": (*one.messages[:-1], {"role": "assistant", "content": answer})}
            )
            for one in EXAMPLES
        ]
        chats = tokenizer.encode_all(examples, 120)
        batch = collate(tuple((index,) for index in range(len(chats))), chats)
        with torch.no_grad():
            scored = scored_rows(logits_at(model, batch), batch)
        sums.append(sequence_sums(target_log_probs(scored.logits, scored.targets), scored.mask))
    return float((sums[0] - sums[1]).mean())


@pytest.mark.parametrize("objective", ["dpo", "kto-pair", "redi"])
def test_the_teacher_s_answer_rises_above_the_student_s(
    objective: PreferenceObjective, tiny_llama: Path, tmp_path: Path
) -> None:
    student = train(tiny_llama, tmp_path, objective)
    assert margin(student.checkpoint) > margin(tiny_llama) + 1


@pytest.mark.parametrize(("objective", "first"), [("dpo", math.log(2)), ("kto-pair", 0.5)])
@pytest.mark.parametrize("reference", ["former self", "copy", "teacher"])
def test_the_first_loss_is_that_of_a_student_that_equals_its_reference(
    objective: PreferenceObjective,
    first: float,
    reference: str,
    tiny_llama: Path,
    tmp_path: Path,
) -> None:
    given: dict[str, Any] = {"former self": {}, "copy": {"lora": None}}.get(
        reference, {"teacher": tiny_llama}
    )
    student = train(tiny_llama, tmp_path, objective, epochs=1, **given)
    assert student.losses[0] == pytest.approx(first, abs=1e-4)


def test_examples_without_a_rejected_answer_are_left_out(tiny_llama: Path, tmp_path: Path) -> None:
    one = train(tiny_llama, tmp_path / "one", rejected={EXAMPLES[0].id: "no"}, epochs=1)
    assert len(one.losses) == 1
    with pytest.raises(NoExamples, match="none of 8 examples has a rejected answer"):
        train(tiny_llama, tmp_path / "none", rejected={"another": "no"})


def test_a_whole_trajectory_is_no_pair(tiny_llama: Path, tmp_path: Path) -> None:
    made = Preference({"episode-0": "no"}, settings=toys.settings())
    with pytest.raises(TrainingError, match="'episode-0' is no single step"):
        made.train([toys.example(0)], tiny_llama, tmp_path)


def test_packed_rows_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="one answer a row"):
        train(tiny_llama, tmp_path, batching="packed")
