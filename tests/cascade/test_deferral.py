from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.deferral import POLICIES, policy_named
from tutelage.cascade.paper import Paper
from tutelage.cascade.random_mix import RandomMix
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import Action, Agreement, Decision, Reason, SamplePlan, Step

STEP = Step(tenant="t", episode_id="e", index=0, goal="g", observation="o")
LOOK, OPEN = Action("text", "look"), Action("text", "open door")
AGREED = Agreement(votes=((LOOK, 3),), samples=3, chosen=0, agreed=True)
SPLIT = Agreement(votes=((LOOK, 2), (OPEN, 1)), samples=3, chosen=0, agreed=False)
UNUSABLE = Agreement(votes=(), samples=3, chosen=None, agreed=False)


def test_always_teacher_never_samples() -> None:
    decision = Decision(served="teacher", reason=Reason.ALWAYS)
    assert AlwaysTeacher().plan(STEP) == decision
    assert AlwaysTeacher().decide(STEP, AGREED, []) == decision


def test_always_student_samples_once_greedily_and_serves_whatever_comes() -> None:
    assert AlwaysStudent().plan(STEP) == SamplePlan(samples=1, temperature=0.0)
    for agreement in (AGREED, SPLIT, UNUSABLE):
        decision = AlwaysStudent().decide(STEP, agreement, [])
        assert decision == Decision(served="student", reason=Reason.ALWAYS)


def test_the_paper_acts_on_unanimous_samples_only() -> None:
    policy = Paper()
    assert policy.plan(STEP) == SamplePlan(samples=3, temperature=0.7)
    assert policy.decide(STEP, AGREED, []) == Decision(
        served="student", reason=Reason.AGREED, score=1.0
    )
    split = policy.decide(STEP, SPLIT, [])
    assert (split.served, split.reason) == ("teacher", Reason.DISAGREED)
    assert split.score == pytest.approx(2 / 3)
    assert policy.decide(STEP, UNUSABLE, []) == Decision(
        served="teacher", reason=Reason.UNUSABLE, score=0.0
    )


def test_a_random_mix_samples_only_where_the_student_serves() -> None:
    policy = RandomMix(p_teacher=0.5, seed=3)
    for index in range(50):
        step = dataclasses.replace(STEP, index=index)
        plan, decision = policy.plan(step), policy.decide(step, AGREED, [])
        assert decision.reason is Reason.RANDOM
        assert decision.score is not None
        assert (decision.score < 0.5) == (decision.served == "teacher")
        if decision.served == "teacher":
            assert plan == decision
        else:
            assert plan == SamplePlan(samples=1, temperature=0.0)


def served(policy: DeferralPolicy, episode: str, steps: int = 40) -> list[str]:
    of_episode = [
        dataclasses.replace(STEP, episode_id=episode, index=index) for index in range(steps)
    ]
    return [policy.decide(step, AGREED, []).served for step in of_episode]


@given(seed=st.integers(), episode=st.text())
def test_a_resumed_random_mix_tosses_the_same(seed: int, episode: str) -> None:
    assert served(RandomMix(0.5, seed), episode, 5) == served(RandomMix(0.5, seed), episode, 5)


def test_seeds_and_episodes_toss_differently() -> None:
    assert served(RandomMix(0.5, 1), "e") != served(RandomMix(0.5, 2), "e")
    assert served(RandomMix(0.5, 1), "e") != served(RandomMix(0.5, 1), "f")
    assert served(RandomMix(0.5, 1), "1") != served(RandomMix(0.5, 11), "")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_the_share_of_a_random_mix_is_as_asked(share: float) -> None:
    tosses = [toss for n in range(100) for toss in served(RandomMix(share), f"e{n}", 30)]
    # Four standard deviations of a binomial share with 3,000 tosses.
    tolerance = 4 * (share * (1 - share) / len(tosses)) ** 0.5
    assert tosses.count("teacher") / len(tosses) == pytest.approx(share, abs=tolerance + 1e-12)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("always-teacher", {}, AlwaysTeacher),
        ("always-student", {"samples": 3}, AlwaysStudent),
        ("random", {"p_teacher": 0.4, "seed": 1}, RandomMix),
        ("paper", {"samples": 5, "temperature": 0.5}, Paper),
    ],
)
def test_every_policy_has_a_name(name: str, options: dict[str, Any], kind: type) -> None:
    assert isinstance(policy_named(name, **options), kind)


def test_the_table_of_policies_is_complete() -> None:
    assert set(POLICIES) == {"always-teacher", "always-student", "random", "paper"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("papr", {}, "did you mean 'paper'"),
        ("xyz", {}, "choose one of always-teacher, always-student, random, paper"),
        ("random", {}, "p_teacher"),
        ("always-teacher", {"samples": 3}, "takes no options"),
        ("paper", {"sample": 3}, "it takes samples, temperature"),
        ("paper", {"samples": 1}, "samples = 1"),
        ("always-student", {"samples": 0}, "samples = 0"),
        ("random", {"p_teacher": 1.5}, "p_teacher = 1.5"),
    ],
)
def test_a_wrong_policy_is_one_clear_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy_named(name, **options)
