from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.agreement import MOfN, Unanimous
from tutelage.cascade.asymmetric import Asymmetric
from tutelage.cascade.canonical.effects import HOUSEHOLD_EFFECTS, Effects
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Choice, Message

FORM = TextCanonicalizer()
EFFECTS = Effects(HOUSEHOLD_EFFECTS)
RULE = Asymmetric(FORM, EFFECTS.is_mutating)
SAMPLES = ["look", "inventory", "open door 1", "close door 1", ""]


def choices(*texts: str) -> list[Choice]:
    return [
        Choice(index=index, message=Message(role="assistant", content=text), finish_reason="stop")
        for index, text in enumerate(texts)
    ]


def test_reads_go_by_the_majority() -> None:
    agreement = RULE.measure(choices("inventory", "look", "look"))
    assert agreement.agreed
    assert agreement.chosen == 1
    assert RULE.action(choices("Look.")[0]) == "look"


@pytest.mark.parametrize(
    "texts",
    [
        ("look", "look", "open door 1"),
        ("open door 1", "open door 1", "close door 1"),
        ("open door 1", "open door 1", ""),
        ("look", "inventory", "examine mug 1"),
        ("", "", "look"),
        (),
    ],
)
def test_a_split_with_a_write_or_without_a_majority_is_the_teachers(texts: tuple[str, ...]) -> None:
    assert not RULE.measure(choices(*texts)).agreed


def test_a_write_that_all_samples_name_agrees() -> None:
    samples = choices("open door 1", "Open the door 1", "open door 1.")
    assert RULE.measure(samples).agreed
    assert not RULE.measure(samples, planned=4).agreed
    assert not RULE.settled(samples, 4)


def test_the_votes_that_a_read_needs_can_be_named() -> None:
    samples = choices("look", "look", "inventory")
    assert Asymmetric(FORM, EFFECTS.is_mutating, m=2).measure(samples).agreed
    assert not Asymmetric(FORM, EFFECTS.is_mutating, m=3).measure(samples).agreed
    with pytest.raises(ConfigError, match="m = 0"):
        Asymmetric(FORM, EFFECTS.is_mutating, m=0)


def test_one_disagreement_settles_a_step_with_a_write() -> None:
    assert RULE.settled(choices("open door 1", "look"), 5)
    assert not RULE.settled(choices("open door 1"), 5)
    assert not RULE.settled(choices("look", "look", "look"), 5)
    assert RULE.settled(choices("look", "inventory", ""), 3)
    assert not RULE.settled([], 3)


@given(
    texts=st.lists(st.sampled_from(SAMPLES), max_size=4),
    left=st.integers(0, 2),
    m=st.sampled_from([None, 1, 2, 3]),
)
def test_what_is_settled_stays_and_what_is_not_may_change(
    texts: list[str], left: int, m: int | None
) -> None:
    rule = Asymmetric(FORM, EFFECTS.is_mutating, m)
    planned = len(texts) + left
    if planned == 0:
        return
    ends = set()
    for more in itertools.product([*SAMPLES, "examine mug 9"], repeat=left):
        end = rule.measure(choices(*texts, *more), planned)
        assert end.settled
        ends.add((end.agreed, end.modal if end.agreed else None))
    if rule.settled(choices(*texts), planned):
        assert len(ends) == 1
    elif (m or planned // 2 + 1) <= planned:
        assert len(ends) > 1


@given(texts=st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=5))
def test_it_lies_between_unanimity_and_the_majority(texts: list[str]) -> None:
    samples = choices(*texts)
    mine = RULE.measure(samples)
    if Unanimous(FORM).measure(samples).agreed:
        assert mine.agreed
    if mine.agreed:
        assert MOfN(FORM, len(texts) // 2 + 1).measure(samples).agreed
