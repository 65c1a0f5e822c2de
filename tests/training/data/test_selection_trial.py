"""Whether the farthest fifth of what passed the gate teaches more than a random one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from tests.training.data.episodes import words
from tests.training.data.toy_world import Errand, errand, success, taught

from tutelage.training.data.dataset import DatasetSettings, build_dataset
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.examples import ExampleSettings
from tutelage.training.data.trace_gate import TraceRules

SETTINGS = DatasetSettings(TraceRules(frozenset({"acme"})), ExampleSettings(shape="trajectories"))
LEAST_GAIN = 0.03


def steps(examples: Sequence[TrainingExample]) -> int:
    return sum(len(example.supervised) for example in examples)


def compare(seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Success on errands of all kinds, and on those of traffic, of both students.

    The random fifth is filled up until it has as many supervised steps as the selected one.
    """
    random = Random(seed)
    episodes = [taught(number, errand(random, usual=True)) for number in range(600)]
    tests: list[list[Errand]] = [
        [errand(random, usual=usual) for _ in range(400)] for usual in (False, True)
    ]
    whole = build_dataset(episodes, SETTINGS, words).examples
    fifth = replace(SETTINGS, most_examples=len(whole) // 5)
    selected = build_dataset(episodes, fifth, words).examples
    shuffled = random.sample(whole, len(whole))
    control = next(
        shuffled[:count]
        for count in range(len(whole))
        if steps(shuffled[:count]) >= steps(selected)
    )
    every, usual = (
        {"selected": success(selected, test, seed), "random": success(control, test, seed)}
        for test in tests
    )
    return every, usual


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_farthest_fifth_teaches_more_than_a_random_one_of_as_many_steps(seed: int) -> None:
    every, _ = compare(seed)
    assert every["selected"] >= every["random"] + LEAST_GAIN
