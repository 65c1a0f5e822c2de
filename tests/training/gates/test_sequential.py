from __future__ import annotations

from math import log2

import numpy as np
import pytest

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.sequential import CanaryDecision, SequentialState, SequentialTest


def _canary(
    current: float,
    canary: float,
    seed: int,
    *,
    share: float = 0.5,
    turns: int | None = None,
    turned: float = 0.0,
    longest: int = 1000,
) -> SequentialTest:
    """Traffic until the test decides; after ``turns`` canary episodes its success is ``turned``."""
    generator = np.random.default_rng(seed)
    test = SequentialTest(longest=longest)
    while test.decision == "continue":
        is_canary = bool(generator.random() < share)
        rate = current
        if is_canary:
            late = turns is not None and test.state.canary_episodes >= turns
            rate = turned if late else canary
        test.observe(is_canary, bool(generator.random() < rate))
    return test


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_student_worse_by_the_margin_is_promoted_at_most_as_often_as_stated(
    share: float,
) -> None:
    promoted = sum(
        _canary(0.85, 0.75, seed, share=share).decision == "promote" for seed in range(250)
    )
    # delta = 0.05; four standard errors of 250 runs above are 0.105.
    assert promoted / 250 <= 0.105


def test_a_student_that_lost_20_points_is_never_promoted_and_found_as_fast_as_stated() -> None:
    tests = [_canary(0.9, 0.7, seed, share=0.1) for seed in range(200)]
    assert {test.decision for test in tests} == {"roll_back"}
    episodes = np.array([test.state.canary_episodes for test in tests])
    # Measured over 2000 runs: 50 on average, at most 97 in 95 of 100.
    assert episodes.mean() <= 60
    assert np.quantile(episodes, 0.95) <= 130


@pytest.mark.slow
def test_an_equal_student_is_rolled_back_at_most_as_often_as_stated() -> None:
    decisions = [_canary(0.9, 0.9, seed, share=0.1).decision for seed in range(200)]
    assert decisions.count("roll_back") / 200 <= 0.112


def test_a_better_student_is_promoted() -> None:
    decisions = {_canary(0.8, 0.9, seed).decision for seed in range(50)}
    assert decisions == {"promote"}


def test_a_student_that_turns_bad_is_rolled_back() -> None:
    tests = [_canary(0.9, 0.9, seed, share=0.2, turns=20, turned=0.0) for seed in range(50)]
    decisions = [test.decision for test in tests]
    assert decisions.count("roll_back") >= 49
    late = [test.state.canary_episodes for test in tests if test.decision == "roll_back"]
    assert max(late) <= 60


def test_pairs_find_a_drop_too() -> None:
    generator = np.random.default_rng(4)
    test = SequentialTest()
    while test.decision == "continue":
        test.observe_pair(bool(generator.random() < 0.6), bool(generator.random() < 0.9))
    assert test.decision == "roll_back"
    assert test.state.canary_episodes == test.state.current_episodes == test.state.comparisons
    assert test.observe_pair(True, False) == "roll_back"


def test_a_decision_never_changes() -> None:
    test = _canary(0.9, 0.5, 1)
    for _ in range(200):
        assert test.observe(True, True) == "roll_back"


def test_an_undecided_canary_ends_with_a_rollback() -> None:
    test = SequentialTest(longest=3)
    decisions: list[CanaryDecision] = [test.observe(True, True) for _ in range(3)]
    assert decisions == ["continue", "continue", "roll_back"]


def test_episodes_of_one_student_wait_for_the_other() -> None:
    test = SequentialTest(longest=None)
    for success in (True, True, False, True):
        test.observe(False, success)
    assert test.state.comparisons == 0
    test.observe(True, True)
    assert test.state.comparisons == 1
    assert test.state.open_current == test.state.open_canary == (0, 0)
    assert (test.state.current_episodes, test.state.current_successes) == (4, 3)


def test_a_test_goes_on_from_what_was_kept() -> None:
    generator = np.random.default_rng(9)
    traffic = [(bool(generator.random() < 0.5), bool(generator.random() < 0.8)) for _ in range(120)]
    whole = SequentialTest()
    kept = SequentialState()
    for canary, success in traffic:
        whole.observe(canary, success)
        test = SequentialTest(state=SequentialState.model_validate_json(kept.model_dump_json()))
        test.observe(canary, success)
        kept = test.state
    assert kept == whole.state


def test_the_wealth_of_the_bets_on_a_drop_is_worth_one_at_the_start_and_never_more_if_equal() -> (
    None
):
    """Its expectation under equal students, by enumeration of all outcomes of five pairs."""
    total = 0.0
    for code in range(3**5):
        test = SequentialTest(delta=1e-9)
        chance = 1.0
        for place in range(5):
            outcome = code // 3**place % 3
            # Won by one alone with 0.2 each, by both with 0.6.
            test.observe_pair(outcome != 2, outcome != 1)
            chance *= 0.6 if outcome == 0 else 0.2
        waiting = 0.5 / log2(5 + 1)
        total += chance * (float(np.mean(test.state.rolling_back)) + waiting)
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("values", "text"),
    [({"margin": 0.0}, "margin"), ({"delta": 0.9}, "delta"), ({"longest": 0}, "longest")],
)
def test_arguments_out_of_range_are_refused(values: dict[str, float], text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        SequentialTest(**values)  # type: ignore[arg-type]
