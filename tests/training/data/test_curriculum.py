from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.data.episodes import words

from tutelage.training.data.curriculum import (
    Difficulty,
    by_agreement,
    by_length,
    by_student_nats,
    epoch_order,
)
from tutelage.training.data.example import TrainingExample


def example(number: int) -> TrainingExample:
    return TrainingExample(
        id=str(number),
        tenant="acme",
        episode_id="e1",
        messages=({"role": "assistant", "content": "a " * number},),
        supervised=(0,),
        trace_ids=(f"t{number}",),
    )


TEN = [example(number) for number in range(10)]
KEYS: list[Difficulty | None] = [
    None,
    by_length(words),
    by_student_nats({"3": 0.1, "5": 0.05}),
    by_agreement({"t3": 0.9, "t5": 1.0}),
]


def ids(examples: tuple[TrainingExample, ...]) -> list[str]:
    return [one.id for one in examples]


@pytest.mark.parametrize("difficulty", KEYS)
@given(count=st.integers(0, 10), epoch=st.integers(0, 3), seed=st.integers(0, 9))
def test_an_epoch_holds_each_example_once(
    difficulty: Difficulty | None, count: int, epoch: int, seed: int
) -> None:
    ordered = epoch_order(TEN[:count], epoch=epoch, seed=seed, difficulty=difficulty)
    assert sorted(ids(ordered)) == sorted(one.id for one in TEN[:count])
    again = epoch_order(TEN[:count][::-1], epoch=epoch, seed=seed, difficulty=difficulty)
    assert again == ordered


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(ids(epoch_order(TEN, epoch=epoch, seed=seed))) for epoch in (0, 1) for seed in (0, 1)
    }
    assert len(orders) == 4


def test_short_chats_come_first() -> None:
    assert ids(epoch_order(TEN, epoch=0, seed=1, difficulty=by_length(words))) == list("0123456789")


@pytest.mark.parametrize("difficulty", KEYS[2:])
def test_what_is_known_to_be_easy_comes_first_and_the_unknown_last(
    difficulty: Difficulty,
) -> None:
    assert ids(epoch_order(TEN, epoch=0, seed=1, difficulty=difficulty))[:2] == ["5", "3"]


def test_a_chat_is_as_certain_as_its_least_certain_step() -> None:
    pair = TEN[1].model_copy(update={"trace_ids": ("a", "b")})
    assert by_agreement({"a": 1.0, "b": 0.25})(pair) == 0.75


def test_what_is_equally_easy_stays_shuffled() -> None:
    orders = {
        tuple(ids(epoch_order(TEN, epoch=epoch, seed=0, difficulty=lambda one: 0.0)))
        for epoch in range(4)
    }
    assert len(orders) == 4
