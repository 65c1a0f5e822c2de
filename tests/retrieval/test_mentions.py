from __future__ import annotations

import numpy as np

from tutelage.retrieval.mentions import goal_words, step_mentions, trajectory_mentions
from tutelage.runtime.types import Step, Trajectory, Turn

TURNS = (
    Turn("You see a Mug 1, and a pen 2.", "take mug 1 from desk 1"),
    Turn("You pick up the mug 1.", "go to fridge 1"),
    Turn("The fridge 1 is closed.", "cool mug 1 with fridge 1"),
)


def test_words_that_name_nothing_are_no_goal_words() -> None:
    assert goal_words("Put two cool mugs in the fridge_1.") == {"cool", "mugs", "fridge"}


def test_shares_follow_what_is_seen_and_what_was_done() -> None:
    trajectory = Trajectory(
        id="t", tenant="a", goal="cool some mug", turns=TURNS, success=True, source="oracle:test"
    )
    rows = trajectory_mentions(trajectory)
    np.testing.assert_allclose(rows, [[0.5, 0.0], [0.5, 0.5], [0.0, 0.5]])
    for index in range(3):
        step = Step(
            tenant="a",
            episode_id="e",
            index=index,
            goal="cool some mug",
            observation=TURNS[index].observation,
            history=TURNS[:index],
        )
        np.testing.assert_array_equal(step_mentions(step), rows[index])


def test_a_goal_without_words_has_no_shares() -> None:
    step = Step(tenant="a", episode_id="e", index=0, goal="12 + 7", observation="12")
    np.testing.assert_array_equal(step_mentions(step), [0, 0])


def test_a_huge_observation_is_read_in_part() -> None:
    step = Step(tenant="a", episode_id="e", index=0, goal="mug", observation="x " * 500_000 + "mug")
    np.testing.assert_array_equal(step_mentions(step), [0, 0])
