from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import PLAN, UNUSABLE, step_after, voted

from tutelage.cascade.explore import Explore
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Decision, Reason


def served(made: Explore, count: int = 2000) -> list[str]:
    steps = [step_after(episode_id=f"e{number}") for number in range(count)]
    return [made.decide(step, voted("look"), []).served for step in steps]


def test_the_student_is_sampled_at_every_step() -> None:
    made = Explore(PLAN)
    assert made.plan(step_after()) == made.plan(step_after("teacher"), []) == PLAN


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_teachers_share_is_as_given(share: float) -> None:
    count = served(Explore(PLAN, share)).count("teacher")
    # Four standard deviations.
    assert abs(count - 2000 * share) < 4 * (2000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize(("share", "who"), [(0.0, "student"), (1.0, "teacher")])
def test_a_share_of_all_or_nothing_leaves_nothing_to_chance(share: float, who: str) -> None:
    assert set(served(Explore(PLAN, share), 200)) == {who}


def test_both_serve_within_one_episode() -> None:
    made = Explore(PLAN)
    steps = [step_after(*[None] * index) for index in range(40)]
    assert {made.decide(step, voted("look"), []).served for step in steps} == {"student", "teacher"}


@given(st.text(), st.integers(), st.integers(0, 5))
def test_a_resumed_episode_repeats_its_tosses(episode: str, seed: int, index: int) -> None:
    step = step_after(*[None] * index, episode_id=episode)
    first, again = (Explore(PLAN, 0.5, seed).decide(step, voted("look"), []) for _ in range(2))
    assert first == again
    assert first.reason is Reason.RANDOM
    assert first.score is not None
    assert (first.served == "teacher") == (first.score < 0.5)


def test_another_seed_tosses_otherwise() -> None:
    assert served(Explore(PLAN, seed=1), 200) != served(Explore(PLAN, seed=2), 200)


def test_the_teacher_takes_a_step_for_which_the_student_names_no_action() -> None:
    decision = Explore(PLAN, 0.0).decide(step_after(), UNUSABLE, [])
    assert decision == Decision(served="teacher", reason=Reason.UNUSABLE)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_probability(share: float) -> None:
    with pytest.raises(ConfigError, match=rf"p_teacher = {share}: give a probability"):
        Explore(PLAN, share)
