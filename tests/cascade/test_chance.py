from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import voted

from tutelage.cascade.audit import RandomAudits
from tutelage.cascade.chance import toss, tossed
from tutelage.cascade.explore import Explore
from tutelage.cascade.holdout import Holdout
from tutelage.cascade.random_mix import RandomMix
from tutelage.runtime.types import Reason, SamplePlan, Step

NAMES = st.lists(st.text() | st.integers(), max_size=4)


@given(seed=st.integers(), names=NAMES)
def test_a_toss_is_below_one_and_can_be_repeated(seed: int, names: list[str | int]) -> None:
    drawn = toss(seed, *names)
    assert 0 <= drawn < 1
    assert toss(seed, *names) == drawn


@given(seed=st.integers(), first=NAMES, second=NAMES)
def test_other_names_are_another_toss(
    seed: int, first: list[str | int], second: list[str | int]
) -> None:
    assert (toss(seed, *first) == toss(seed, *second)) == (first == second)


@given(seed=st.integers(), p_teacher=st.floats(0, 1), name=st.text())
def test_a_toss_says_with_which_chance_it_came_out(seed: int, p_teacher: float, name: str) -> None:
    decision = tossed(toss(seed, name), p_teacher)
    assert decision.reason is Reason.RANDOM
    assert decision.chance == (p_teacher if decision.served == "teacher" else 1 - p_teacher)
    assert 0 < decision.chance <= 1


def test_both_policies_that_toss_keep_the_chance_in_their_decisions() -> None:
    steps = [Step("t", f"e{n}", 0, "g", "o") for n in range(50)]
    for policy in (RandomMix(0.3), Explore(SamplePlan(3), 0.3)):
        chances = {(d := policy.decide(step, voted("x"), [])).served: d.chance for step in steps}
        assert chances == {"teacher": 0.3, "student": 0.7}


def test_names_are_never_joined() -> None:
    assert toss(0, "ab", "c") != toss(0, "a", "bc")
    assert toss(0, "1") != toss(0, 1)
    assert toss(1, "a") != toss(0, "1", "a")


def test_tosses_are_uniform() -> None:
    drawn = sorted(toss(7, "episode", n) for n in range(20_000))
    gap = max(abs(value - (n + 0.5) / len(drawn)) for n, value in enumerate(drawn))
    # Kolmogorov and Smirnov at 1e-6.
    assert gap < math.sqrt(-math.log(1e-6 / 2) / (2 * len(drawn)))


def _correlation(pairs: list[tuple[bool, bool]]) -> float:
    n = len(pairs)
    first, second = (sum(pair[side] for pair in pairs) / n for side in (0, 1))
    both = sum(a and b for a, b in pairs) / n
    return (both - first * second) / math.sqrt(first * (1 - first) * second * (1 - second))


@pytest.mark.parametrize("purposes", [("holdout", "audit"), ("holdout", "mix"), ("audit", "mix")])
def test_one_seed_serves_several_purposes_independently(purposes: tuple[str, str]) -> None:
    mix = RandomMix(0.3, seed=5)
    audits = RandomAudits(0.3, seed=5)
    holdout = Holdout(mix, 0.3, seed=5)

    def chosen(purpose: str, name: str) -> bool:
        step = Step("t", name, 0, "g", "o")
        if purpose == "audit":
            return audits.chosen("t", name) is not None
        if purpose == "mix":
            return mix.decide(step, voted("look"), []).served == "teacher"
        return holdout.decide(step, voted("look"), []).reason is Reason.HOLDOUT

    names = [f"e{n}" for n in range(20_000)]
    pairs = [(chosen(purposes[0], name), chosen(purposes[1], name)) for name in names]
    # Five standard deviations of a correlation of independent draws.
    assert abs(_correlation(pairs)) < 5 / math.sqrt(len(pairs))
