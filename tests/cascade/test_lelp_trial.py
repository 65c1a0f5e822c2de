"""Whether the head may be used is for its control to say."""

from __future__ import annotations

import numpy as np
import pytest
from tests.cascade.judged_world import judged_trial

from tutelage.cascade.lelp import HeadOptions
from tutelage.cascade.lelp_trial import HeadComparison, compare_heads, sign_test


def test_eight_wins_of_eight_may_ship_and_six_may_not() -> None:
    low, high = (0.5,) * 8, (0.6,) * 8
    assert HeadComparison(kd=low, lelp=high, shuffled=low, level=0.05).may_ship
    mixed = (0.6,) * 6 + (0.4,) * 2
    refused = HeadComparison(kd=low, lelp=mixed, shuffled=low, level=0.05)
    assert not refused.may_ship
    assert "stays off" in refused.statement


def test_beating_vanilla_distillation_alone_is_not_enough() -> None:
    comparison = HeadComparison(kd=(0.5,) * 8, lelp=(0.6,) * 8, shuffled=(0.6,) * 8, level=0.05)
    assert not comparison.may_ship


def test_ties_are_no_wins() -> None:
    assert sign_test((0.5, 0.5), (0.5, 0.5)) == 1.0
    assert sign_test((0.6,) * 8, (0.5,) * 8) == pytest.approx(1 / 256)


def test_the_arms_differ_and_repeat() -> None:
    options = HeadOptions(updates=60)

    def compare() -> HeadComparison:
        trials = (judged_trial(seed, modes=6, steps=200, held_out=300) for seed in range(2))
        return compare_heads(trials, options)

    comparison = compare()
    assert comparison == compare()
    assert len({comparison.kd, comparison.lelp, comparison.shuffled}) == 3
    assert min(comparison.lelp) > 0.7


@pytest.mark.slow
def test_the_head_ships_where_reasons_have_modes_and_not_where_they_have_none() -> None:
    options = HeadOptions(subclasses=8)
    modes = compare_heads((judged_trial(seed, modes=6) for seed in range(8)), options)
    assert modes.may_ship
    assert np.mean(modes.lelp) - np.mean(modes.shuffled) > 0.003
    none = compare_heads((judged_trial(seed, modes=0) for seed in range(8)), options)
    # Against vanilla KD it seems to win here too: its control shows that this is regularisation.
    assert np.mean(none.lelp) > np.mean(none.kd)
    assert not none.may_ship
