from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import TrainingError
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.levenshtein import ActionSequences
from tutelage.training.data.selection import (
    drop_mastered,
    farthest,
    farthest_of_each,
    played_actions,
    rank_sources,
)


def example(id: str, actions: Sequence[str] = (), goal: str = "") -> TrainingExample:
    messages = tuple({"role": "assistant", "content": action} for action in actions)
    return TrainingExample(
        id=id,
        tenant="acme",
        episode_id=id,
        messages=messages,
        supervised=tuple(range(len(messages))),
        goal=goal,
        actions=tuple(actions),
    )


def ids(examples: Sequence[TrainingExample]) -> list[str]:
    return [one.id for one in examples]


def test_the_source_whose_student_scores_best_comes_first() -> None:
    sources = {
        "loud": [example(f"l{i}") for i in range(9)],
        "clear": [example(f"c{i}") for i in range(5)],
        "mute": [example(f"m{i}") for i in range(7)],
    }
    slices: list[list[str]] = []

    def trial(examples: Sequence[TrainingExample]) -> float:
        slices.append(ids(examples))
        return 0.9 if examples[0].id.startswith("c") else 0.2

    ranked = rank_sources(sources, trial, size=6, seed=1)
    assert [(one.source, one.score, one.examples) for one in ranked] == [
        ("clear", 0.9, 5),
        ("loud", 0.2, 5),
        ("mute", 0.2, 5),
    ]
    reversed_ = {name: sources[name][::-1] for name in reversed(sources)}
    assert rank_sources(reversed_, trial, size=6, seed=1) == ranked
    assert slices[:3] == slices[3:]


def test_sources_that_cannot_be_compared_are_told() -> None:
    with pytest.raises(TrainingError, match="'b' has no examples"):
        rank_sources({"a": [example("x")], "b": []}, len, size=3, seed=0)
    with pytest.raises(TrainingError, match="size is 0"):
        rank_sources({"a": [example("x")]}, len, size=0, seed=0)


RATES = {"a": 1.0, "b": 0.75, "c": 0.5, "d": 0.0}
FOUR = [example(id) for id in RATES]


@pytest.mark.parametrize(
    ("least", "kept"),
    [(0.0, "abcde"), (0.1, "bcde"), (0.25, "bcde"), (0.3, "cde"), (1.0, "de")],
)
def test_what_the_student_does_already_is_dropped(least: float, kept: str) -> None:
    examples = [*FOUR, example("e")]
    assert ids(drop_mastered(examples, lambda one: RATES.get(one.id), least)) == list(kept)


ROWS = st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=8)


@given(ROWS, st.integers(0, 10))
def test_the_farthest_are_distinct_as_long_as_distinct_ones_remain(
    rows: list[list[str]], count: int
) -> None:
    examples = [example(f"x{i}", row) for i, row in enumerate(rows)]
    chosen = farthest(examples, count)
    assert len(chosen) == min(count, len(rows))
    assert len(set(ids(chosen))) == len(chosen)
    distinct = {tuple(row) for row in rows}
    assert len({one.actions for one in chosen}) == min(len(distinct), len(chosen))
    assert farthest(examples[::-1], count) == chosen


def test_enough_places_keep_all() -> None:
    examples = [example("a", "xy"), example("b", "xy"), example("c", "z")]
    assert sorted(ids(farthest(examples, 9))) == ["a", "b", "c"]


def test_one_place_goes_to_the_longest_and_then_to_the_smallest_id() -> None:
    examples = [example("c", "xyz"), example("b", "zyx"), example("a", "x")]
    assert ids(farthest(examples, 1)) == ["b"]
    assert ids(farthest(examples[::-1], 1)) == ["b"]


def test_each_choice_is_as_far_as_can_be_from_those_before() -> None:
    rows = ["aaaa", "aaab", "bbbb", "abab", "cc", ""]
    examples = [example(str(i), row) for i, row in enumerate(rows)]
    chosen = [int(one.id) for one in farthest(examples, 4)]
    table = [ActionSequences(rows).distances(i) for i in range(len(rows))]
    for position in range(1, len(chosen)):
        nearest = {
            i: min(table[j][i] for j in chosen[:position])
            for i in range(len(rows))
            if i not in chosen[:position]
        }
        assert nearest[chosen[position]] == max(nearest.values())


def test_each_task_keeps_its_own() -> None:
    examples = [example(f"{goal}{i}", "x" * i, goal) for goal in "qp" for i in range(3)]
    chosen = farthest_of_each(examples, 1, lambda one: one.goal)
    assert ids(chosen) == ["p2", "q2"]


def test_a_step_is_told_apart_by_what_came_before_it() -> None:
    step = example("a", ["look", "open box"]).model_copy(
        update={"supervised": (1,), "actions": ("open",)}
    )
    assert played_actions(step) == ("look", "open")
    assert played_actions(example("b", ["look", "go"])) == ("look", "go")
