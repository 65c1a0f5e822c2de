"""Lessons, the recipe of the loop made of them, and its student served as a release."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.diffusion.toys import toy_student

from tutelage.runtime.errors import NoExamples, TrainingError
from tutelage.training.data.example import TrainingExample
from tutelage.training.diffusion.commit_rule import EntropyThreshold, TopK
from tutelage.training.diffusion.lessons import Lesson, graded, lesson_tokens, pairs_of
from tutelage.training.diffusion.probing import masked_log_probs, record_diffusion_probe
from tutelage.training.diffusion.recipe import DiffusionRecipe, lessons_of
from tutelage.training.diffusion.student import load_diffusion_student
from tutelage.training.recipes.recipe import TrainingProgress

DESKS = (1, 2, 3)
SETTINGS: dict[str, Any] = {
    "steps": 120, "batch": 8, "learning_rate": 5e-3, "width": 32, "layers": 2, "slots": 8,
    "max_positions": 64, "threads": 1,
}  # fmt: skip


def example(desk: int, answer: str | None = None) -> TrainingExample:
    said = answer or f"go to desk {desk}"
    return TrainingExample(
        id=f"e{desk}:1",
        tenant="t",
        episode_id=f"e{desk}",
        messages=(
            {"role": "system", "content": "Obey at once."},
            {"role": "user", "content": f"Visit desk {desk}, now."},
            {"role": "assistant", "content": said},
            {"role": "user", "content": f"You see desk {desk}."},
            {"role": "assistant", "content": "look"},
        ),
        supervised=(2, 4),
    )


EXAMPLES = [example(desk) for desk in DESKS]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    told: list[TrainingProgress] = []
    out = tmp_path_factory.mktemp("recipe")
    made = DiffusionRecipe(**SETTINGS, distil_steps=20).train(
        EXAMPLES, out / "no start", out, told.append
    )
    return made, told


def test_every_supervised_turn_is_a_lesson_with_what_stands_before_it() -> None:
    lessons = lessons_of(EXAMPLES[:1])

    assert [one.answer for one in lessons] == ["go to desk 1", "look"]
    assert [len(one.messages) for one in lessons] == [2, 4]
    with pytest.raises(NoExamples, match="no example has a supervised turn"):
        lessons_of([])


def test_words_and_marks_are_tokens_and_instructions_are_left_out() -> None:
    lessons = lessons_of(EXAMPLES)

    chat = lesson_tokens(lessons)

    tokens = chat.prompt(lessons[0].messages)
    words = [chat.tokenizer.id_to_token(one) for one in tokens]
    assert words == ["<user>", "Visit", "desk", "1", ",", "now", ".", "<assistant>"]
    assert chat.decode(chat.encode("go to desk 3")) == "go to desk 3"


def test_lessons_that_do_not_fit_are_left_out() -> None:
    student = toy_student(max_positions=40)
    short = Lesson(({"role": "user", "content": "go"},), "look")
    long = Lesson(({"role": "user", "content": "go " * 99},), "look")
    wordy = Lesson(({"role": "user", "content": "go"},), "take " * 8)

    assert len(pairs_of(student, [short, long, wordy])) == 1
    with pytest.raises(NoExamples, match="raise slots or max_positions"):
        graded(student, [long], TopK(1))


def test_the_recipe_leaves_a_student_that_knows_its_lessons(trained: Any) -> None:
    made, told = trained

    student = load_diffusion_student(made.checkpoint)

    lessons = lessons_of(EXAMPLES)
    one, fast = (graded(student, lessons, rule) for rule in (TopK(1), EntropyThreshold(0.5)))
    assert one.right == fast.right == one.lessons == 6
    assert fast.forwards < one.forwards
    assert fast.tokens_a_forward > one.tokens_a_forward
    assert made.adapter is None
    assert len(made.losses) == 120
    assert made.losses[-1] < 0.2 * made.losses[0]
    assert made.settings["own_right"] == 1.0
    assert made.settings["fitting"] == 6
    assert made.tokens > 0
    assert told[-1].step == 20


def test_a_start_that_is_a_diffusion_student_is_trained_on(trained: Any, tmp_path: Path) -> None:
    before = trained[0].checkpoint

    made = DiffusionRecipe(**{**SETTINGS, "steps": 3}).train(EXAMPLES, before, tmp_path)

    assert made.losses[0] < trained[0].losses[0] / 4
    assert (made.checkpoint / "tokenizer.json").read_text() == (
        before / "tokenizer.json"
    ).read_text()


def test_a_llama_start_is_converted(tiny_llama: Path, tmp_path: Path) -> None:
    wide = {"steps": 1, "slots": 16, "max_positions": 160}
    recipe = DiffusionRecipe(**{**SETTINGS, **wide}, from_scratch=False)

    made = recipe.train(EXAMPLES[:1], tiny_llama, tmp_path)

    assert load_diffusion_student(made.checkpoint).shape.attention == "block-causal"


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="steps = 0"):
        DiffusionRecipe(steps=0)
    with pytest.raises(TrainingError, match="distil_steps = -1"):
        DiffusionRecipe(distil_steps=-1)
    wordy = [example(1, "look " * 9).model_copy(update={"supervised": (2,)})]
    with pytest.raises(NoExamples, match="none of 1 supervised turns fits"):
        DiffusionRecipe(**SETTINGS).train(wordy, tmp_path, tmp_path)


def test_the_masked_log_probability_is_what_the_model_says_of_a_masked_end() -> None:
    student = toy_student(slots=8)
    tokens = list(range(3, 15))

    told = masked_log_probs(student, tokens)

    assert told[:4] == [None] * 4
    canvas = torch.tensor([[*tokens[:4], *[student.shape.mask_token] * 8]])
    seen = torch.ones(1, 12, 12, dtype=torch.bool)
    with torch.inference_mode():
        hidden = student.model(canvas, torch.arange(12)[None], seen).hidden
        expected = student.model.logits(hidden[0, 4:]).double().log_softmax(-1)
    for place, token in enumerate(tokens[4:]):
        assert told[4 + place] == pytest.approx(float(expected[place, token]), abs=1e-5)


def test_a_probe_tells_a_student_from_what_it_was_trained_from(
    trained: Any, tmp_path: Path
) -> None:
    folder = trained[0].checkpoint
    student = load_diffusion_student(folder)
    prompt = student.chat.prompt(lessons_of(EXAMPLES)[0].messages)
    answer = student.chat.encode("go to desk 1")
    other = DiffusionRecipe(**{**SETTINGS, "steps": 1}).train(EXAMPLES, tmp_path, tmp_path)

    against_nothing = record_diffusion_probe(folder, tmp_path / "gone", [prompt])
    against_other = record_diffusion_probe(folder, other.checkpoint, [prompt], [(prompt, answer)])

    known = len(against_nothing.continuation) * math.log(student.shape.vocabulary)
    assert against_nothing.parent_logprob == pytest.approx(-known)
    assert against_other.logprob > against_other.parent_logprob + 1
    with pytest.raises(TrainingError, match="answer like those they came from"):
        record_diffusion_probe(folder, folder, [prompt])
