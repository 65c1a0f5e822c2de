from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.benchmarks.streamed import streamed

from tutelage.benchmarks.baselines.prompt_router import (
    PromptClassifier,
    PromptRoutedModel,
    fit_prompt_classifier,
    prompt_classifier_from_json,
    routed_text,
)
from tutelage.runtime.errors import MissingExtra
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest

EASY = "Task: easy\nA desk."
HARD = "Task: hard\nA desk."


def asked(text: str) -> ChatRequest:
    messages = [{"role": "user", "content": text}]
    return ChatRequest.model_validate({"model": "m", "messages": messages, "temperature": 0.7})


async def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([[1.0 if "easy" in text else -1.0] for text in texts], dtype=np.float32)


def routed(student: ScriptedModel) -> PromptRoutedModel:
    return PromptRoutedModel(student, embed, PromptClassifier((2.0,), 0.0), 0.5)


async def test_an_easy_prompt_is_answered_greedily_once() -> None:
    student = ScriptedModel("look")

    completion = await routed(student).complete(asked(EASY), 3)

    (call,) = student.calls
    assert (call.n, call.request.temperature) == (1, 0.0)
    assert completion.text == "look"


async def test_a_hard_prompt_costs_nothing_and_names_no_action() -> None:
    student = ScriptedModel("look")

    completion = await routed(student).complete(asked(HARD))

    assert student.calls == []
    assert completion.text == ""
    assert completion.usage.input_tokens == completion.usage.output_tokens == 0


async def test_its_stream_is_the_answer() -> None:
    assert await streamed(routed(ScriptedModel("look")), asked(EASY)) == "look"


def test_the_router_reads_the_task_at_hand_the_last_action_and_the_observation() -> None:
    shown = [
        ("system", "You play."),
        ("user", "Task: of a demonstration\nA hall."),
        ("assistant", "go north"),
        ("user", "Task: this one\nA desk."),
        ("assistant", "open desk 1"),
        ("user", "The desk is open."),
    ]

    assert routed_text(shown) == "Task: this one\nopen desk 1 -> The desk is open."
    assert routed_text([("user", "hello")]) == "\n -> hello"
    assert routed_text([]) == "\n -> "


def test_the_classifier_learns_what_tells_right_from_wrong() -> None:
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(400, 3))
    right = (vectors[:, 1] + 0.3 * generator.normal(size=400) > 0).tolist()

    made = fit_prompt_classifier(vectors, right)

    held = generator.normal(size=(400, 3))
    guessed = [made.probability(vector) > 0.5 for vector in held]
    assert np.mean(np.array(guessed) == (held[:, 1] > 0)) > 0.9
    written = {"weights": list(made.weights), "intercept": made.intercept, "p": 0.3}
    assert prompt_classifier_from_json(written) == made


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)

    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[calibrate\]'"):
        fit_prompt_classifier(np.zeros((2, 1)), [True, False])
