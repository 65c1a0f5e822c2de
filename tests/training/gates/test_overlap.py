from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tests.training.gates.planted import outcomes

from tutelage.training.gates.evaluation import Evaluation
from tutelage.training.gates.overlap import Overlap


def words(ours: Sequence[str], theirs: Sequence[str]) -> NDArray[np.float64]:
    """Jaccard similarity of words."""
    sets = [[set(text.split()) for text in texts] for texts in (ours, theirs)]
    return np.array([[len(a & b) / len(a | b) for b in sets[1]] for a in sets[0]])


def _texts(*texts: str, training: tuple[str, ...] = ()) -> Evaluation:
    evaluation = outcomes([(True, True)] * len(texts))
    pairs = tuple(
        replace(pair, text=text) for pair, text in zip(evaluation.episodes, texts, strict=True)
    )
    return Evaluation(pairs, frozenset({"train-1"}), training)


def test_a_shared_id_is_refused_and_named() -> None:
    evaluation = replace(outcomes([(True, True)] * 5), training_tasks=frozenset({"task-3", "x"}))
    verdict = Overlap().check(evaluation)
    assert (verdict.passed, verdict.blocking, verdict.value) == (False, True, 0.2)
    assert verdict.text == "1 of 5 tasks were trained on (1 by id, 0 by similarity): task-3"


def test_a_similar_task_under_another_id_is_refused() -> None:
    evaluation = _texts(
        "put a mug on the shelf", "cool a pan", training=("on the shelf put a mug",)
    )
    assert Overlap().check(evaluation).passed
    verdict = Overlap(words).check(evaluation)
    assert not verdict.passed
    assert "(0 by id, 1 by similarity): task-0" in verdict.text


def test_long_lists_are_compared_in_parts_and_cut_in_the_text() -> None:
    texts = [f"task number {one}" for one in range(600)]
    verdict = Overlap(words).check(_texts(*texts, training=tuple(texts[300:])))
    assert verdict.value == 0.5
    assert verdict.text.endswith("task-300, task-301, task-302, ...")


def test_separate_tasks_pass_and_it_says_how_they_were_compared() -> None:
    evaluation = _texts("put a mug on the shelf", training=("cool a pan",))
    assert Overlap(words).check(evaluation).text.endswith("by id and similarity")
    assert Overlap().check(evaluation).text.endswith("by id alone")
    assert Overlap(words).check(_texts("a b", training=())).passed


def test_an_unknown_training_set_does_not_pass() -> None:
    assert not Overlap().check(outcomes([(True, True)])).passed
    assert not Overlap().check(Evaluation(())).passed
