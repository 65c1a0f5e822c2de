from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import PLAN, STUDENT, TEACHER, Fixed, step_after, voted

from tutelage.cascade.holdout import Holdout
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Decision, Reason, Served

SHARE = 0.1


def held_out(holdout: Holdout, **changes: Any) -> bool:
    planned = holdout.plan(dataclasses.replace(step_after(), **changes))
    return isinstance(planned, Decision) and planned.reason is Reason.HOLDOUT


def test_the_share_of_episodes_is_within_the_binomial_interval() -> None:
    holdout = Holdout(Fixed(STUDENT), SHARE, seed=3)
    count = sum(held_out(holdout, episode_id=f"episode-{n}") for n in range(20_000))
    # Four standard deviations.
    assert abs(count - 20_000 * SHARE) < 4 * (20_000 * SHARE * (1 - SHARE)) ** 0.5


@given(episode=st.text(), seed=st.integers())
def test_an_episode_is_held_out_whole_or_not_at_all(episode: str, seed: int) -> None:
    policy = Fixed(STUDENT)
    holdout = Holdout(policy, 0.5, seed)
    served: list[Served] = ["teacher"] * 5
    steps = [step_after(*served[:n], episode_id=episode) for n in range(5)]
    arms = {holdout.decide(step, voted("look"), []).reason for step in steps}
    plans = {isinstance(holdout.plan(step), Decision) for step in steps}
    assert len(arms) == len(plans) == 1
    assert (arms == {Reason.HOLDOUT}) == (plans == {True})
    assert bool(policy.asked) == (plans == {False})


def test_a_held_out_step_records_the_chance_that_it_had() -> None:
    holdout = Holdout(Fixed(STUDENT), SHARE)
    name = next(f"e{n}" for n in range(1000) if held_out(holdout, episode_id=f"e{n}"))
    expected = Decision(served="teacher", reason=Reason.HOLDOUT, propensity=SHARE)
    step = step_after(episode_id=name)
    assert holdout.plan(step) == expected
    assert holdout.decide(step, voted("look"), []) == expected


def test_the_other_episodes_are_the_policys_and_record_the_chance_of_that() -> None:
    holdout = Holdout(Fixed(STUDENT), SHARE)
    name = next(f"e{n}" for n in range(1000) if not held_out(holdout, episode_id=f"e{n}"))
    step = step_after(episode_id=name)
    assert holdout.plan(step) == PLAN
    marked = STUDENT.model_copy(update={"propensity": 1 - SHARE})
    assert holdout.decide(step, voted("look"), []) == marked
    before = Holdout(Fixed(TEACHER, TEACHER), SHARE).plan(step)
    assert before == TEACHER.model_copy(update={"propensity": 1 - SHARE})


def test_tenants_and_seeds_are_drawn_apart() -> None:
    one, other = Holdout(Fixed(), 0.5, seed=1), Holdout(Fixed(), 0.5, seed=2)
    names = [f"e{n}" for n in range(200)]
    ours = [held_out(one, episode_id=name) for name in names]
    assert ours != [held_out(other, episode_id=name) for name in names]
    assert ours != [held_out(one, episode_id=name, tenant="u") for name in names]
    assert ours == [held_out(Holdout(Fixed(), 0.5, seed=1), episode_id=name) for name in names]


def test_a_share_of_nothing_holds_out_nothing() -> None:
    holdout = Holdout(Fixed(), 0.0)
    assert not any(held_out(holdout, episode_id=f"e{n}") for n in range(500))


@pytest.mark.parametrize("share", [-0.01, 1.0, 7.0])
def test_everything_or_less_than_nothing_is_no_holdout(share: float) -> None:
    with pytest.raises(ConfigError, match=rf"holdout = {share}: give a share from 0 to below 1"):
        Holdout(Fixed(), share)
