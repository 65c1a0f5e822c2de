from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.audit import RandomAudits
from tutelage.runtime.errors import ConfigError


def test_the_share_of_steps_is_within_the_binomial_interval() -> None:
    audits = RandomAudits(0.02, seed=9)
    chosen = [audits.chosen("t", f"decision-{n}") for n in range(20_000)]
    count = sum(one is not None for one in chosen)
    # Four standard deviations.
    assert abs(count - 20_000 * 0.02) < 4 * (20_000 * 0.02 * 0.98) ** 0.5
    assert set(chosen) == {0.02, None}


@given(tenant=st.text(), decision=st.text(), seed=st.integers(), share=st.floats(0, 1))
def test_a_step_is_chosen_with_the_recorded_probability_or_not_at_all(
    tenant: str, decision: str, seed: int, share: float
) -> None:
    found = RandomAudits(share, seed).chosen(tenant, decision)
    assert found == RandomAudits(share, seed).chosen(tenant, decision)
    assert found in (None, share)


def test_all_or_none_may_be_asked_for() -> None:
    names = [f"d{n}" for n in range(500)]
    assert {RandomAudits(1.0).chosen("t", name) for name in names} == {1.0}
    assert {RandomAudits(0.0).chosen("t", name) for name in names} == {None}


def test_tenants_and_seeds_are_drawn_apart() -> None:
    names = [f"d{n}" for n in range(200)]
    ours = [RandomAudits(0.5, 1).chosen("t", name) for name in names]
    assert ours != [RandomAudits(0.5, 2).chosen("t", name) for name in names]
    assert ours != [RandomAudits(0.5, 1).chosen("u", name) for name in names]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_wrong_share_is_one_clear_line(share: float) -> None:
    with pytest.raises(ConfigError, match=rf"audits = {share}: give a share between 0 and 1"):
        RandomAudits(share)
