from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.training.data.episodes import words

from tutelage.training.data.example import TrainingExample
from tutelage.training.data.gate import (
    EvaluationTask,
    ExampleGate,
    ExampleRules,
    most_frequent_ngram,
    opening_text,
)
from tutelage.training.data.reject import RejectReason


def example(id: str, answer: str = "open box", **update: object) -> TrainingExample:
    given = {
        "id": id,
        "tenant": "acme",
        "episode_id": id,
        "messages": (
            {"role": "user", "content": "Task: tidy up"},
            {"role": "assistant", "content": answer},
        ),
        "supervised": (1,),
        "goal": "tidy up",
    }
    return TrainingExample.model_validate({**given, **update})


def reasons(gate: ExampleGate, *examples: TrainingExample) -> dict[str, RejectReason]:
    return {one.id: one.reason for one in gate.judge(examples).rejects}


GATE = ExampleGate(ExampleRules(max_tokens=50, ngram_words=2, most_ngrams=3), words)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (" \n", RejectReason.EMPTY_ACTION),
        (" ".join(map(str, range(60))), RejectReason.TOO_LONG),
        ("a b " * 5, RejectReason.REPEATED_NGRAM),
        ("a b a b a b", None),
    ],
)
def test_an_answer_is_judged_by_itself(answer: str, reason: RejectReason | None) -> None:
    assert reasons(GATE, example("x", answer)).get("x") == reason


def test_an_example_without_loss_is_empty() -> None:
    assert reasons(GATE, example("x", supervised=())) == {"x": RejectReason.EMPTY_ACTION}


def test_the_turns_of_others_may_repeat_themselves() -> None:
    messages = (
        {"role": "user", "content": "a b " * 9},
        {"role": "assistant", "content": "open box"},
    )
    assert reasons(GATE, example("x", messages=messages)) == {}


def test_of_equal_chats_the_smallest_id_stays() -> None:
    examples = [example("c"), example("a"), example("b", task="why"), example("d", "look")]
    assert reasons(GATE, *examples) == {"c": RejectReason.DUPLICATE}


def test_calls_that_differ_only_in_their_ids_are_one() -> None:
    def calling(id: str, call: str, name: str = "look") -> TrainingExample:
        function = {"name": name, "arguments": "{}"}
        calls = [{"id": call, "type": "function", "function": function}]
        answer = {"role": "assistant", "content": None, "tool_calls": calls}
        return example(id, messages=({"role": "user", "content": "go"}, answer))

    found = reasons(GATE, calling("a", "1"), calling("b", "2"), calling("c", "1", "open"))
    assert found == {"b": RejectReason.DUPLICATE}


def test_an_evaluations_task_is_known_by_its_id_and_by_its_text() -> None:
    evaluation = [EvaluationTask("held"), EvaluationTask("other", "tidy up\nTask: tidy up")]
    gate = ExampleGate(ExampleRules(), words, evaluation=evaluation)
    found = reasons(gate, example("a", task_id="held"), example("b"), example("c", goal="wash"))
    assert found == {
        "a": RejectReason.EVALUATION_TASK,
        "b": RejectReason.SIMILAR_TO_EVALUATION,
    }


@pytest.mark.parametrize(("value", "count"), [(0.9, 0), (0.91, 1)])
def test_similarity_is_another_function_and_counts_above_its_bound(
    value: float, count: int
) -> None:
    def similarity(ours: Sequence[str], theirs: Sequence[str]) -> NDArray[np.floating]:
        assert theirs == ["something"]
        return np.full((len(ours), 1), value)

    gate = ExampleGate(
        ExampleRules(),
        words,
        evaluation=[EvaluationTask("held", "something")],
        similarity=similarity,
        text=lambda one: one.id,
    )
    assert len(gate.judge([example("a")]).rejects) == count


def test_the_compared_text_is_the_goal_and_the_first_message() -> None:
    assert opening_text(example("a")) == "tidy up\nTask: tidy up"
    assert opening_text(example("a", messages=(), supervised=())) == "tidy up"


@given(st.lists(st.sampled_from(["look", "", "a b " * 9, "go"]), max_size=8), st.randoms())
def test_what_passed_passes_again_in_any_order(answers: list[str], random: Random) -> None:
    examples = [example(f"x{i}", answer) for i, answer in enumerate(answers)]
    first = GATE.judge(examples)
    again = GATE.judge(first.examples)
    assert again.examples == first.examples
    assert again.rejects == ()
    assert GATE.judge(random.sample(examples, len(examples))) == first
    assert len(first.examples) + len(first.rejects) == len(examples)


def test_ngrams_are_counted_where_they_overlap() -> None:
    assert most_frequent_ngram(["a", "a", "a", "a"], 2) == 3
    assert most_frequent_ngram(["a"], 2) == 0
