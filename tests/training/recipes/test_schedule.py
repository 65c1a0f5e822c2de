from __future__ import annotations

import pytest

from tutelage.training.recipes.schedule import Decay, Schedule


def test_the_rate_rises_then_falls() -> None:
    rates = [Schedule(1.0, 100, warm_up=0.1).rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert all(rate > 0 for rate in rates)


@pytest.mark.parametrize(("decay", "last"), [("linear", 0.1), ("none", 1.0)])
def test_other_decays(decay: Decay, last: float) -> None:
    assert Schedule(1.0, 11, warm_up=0.0, decay=decay).rate(10) == pytest.approx(last)


def test_a_run_of_one_step_has_its_peak() -> None:
    assert Schedule(0.5, 1).rate(0) == 0.5
