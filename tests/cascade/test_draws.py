from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.agreement import Majority, MOfN, Unanimous
from tutelage.cascade.draws import KeyForm, RecordedSample, counted_draws, sequential_draws
from tutelage.runtime.protocols import AgreementRule

FORM = KeyForm()
KEYS = st.sampled_from(["go", "take", None])


def recorded(*keys: str | None, tokens: int = 5) -> list[RecordedSample]:
    return [RecordedSample(key, tokens) for key in keys]


@given(st.lists(st.lists(KEYS, min_size=5, max_size=5), min_size=1, max_size=20))
@pytest.mark.parametrize("rule", [Unanimous(FORM), MOfN(FORM, 3)])
def test_rules_of_certain_votes_decide_as_all_samples_do(
    rule: AgreementRule, steps: list[list[str | None]]
) -> None:
    found = sequential_draws("rule", rule, [recorded(*keys) for keys in steps])

    assert found.same_share == 1.0
    assert 1 / 5 <= found.token_share <= 1.0
    assert found.samples == pytest.approx(5 * found.token_share)


def test_the_first_disagreement_ends_the_draw() -> None:
    steps = [recorded("go", "take", "go", "go"), recorded("go", "go", "go", "go")]

    found = sequential_draws("all", Unanimous(FORM), steps)

    assert (found.steps, found.samples, found.token_share) == (2, 3.0, 6 / 8)


def test_a_majority_that_comes_late_is_missed_by_the_posterior_and_counted() -> None:
    steps = [recorded("go", "go", "go", "take", "take", "take", "take", "take")]

    found = sequential_draws("most", Majority(FORM), steps)

    assert (found.samples, found.same_share) == (3.0, 0.0)


def test_tokens_are_those_of_the_samples_that_were_taken() -> None:
    steps = [[RecordedSample("go", 10), RecordedSample("go", 30)], recorded("go", "go")]

    found = counted_draws("adaptive", steps, [1, 2], 1)

    assert found.token_share == 20 / 50
    assert (found.samples, found.same_share) == (1.5, 0.5)


def test_five_of_nine_takes_less_than_six_tenths_of_a_student_that_mostly_agrees() -> None:
    generator = random.Random(7)
    steps = [
        recorded(*("go" if generator.random() < 0.97 else "take" for _ in range(9)))
        for _ in range(500)
    ]

    found = sequential_draws("5 of 9", MOfN(FORM, 5), steps)

    assert found.same_share == 1.0
    assert found.token_share < 0.6
