from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.agreement import MOfN, Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.first_likely import FirstLikely
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Choice, Message

FORM = TextCanonicalizer()


def said(text: str, logprob: float | None, index: int = 0) -> Choice:
    told = None if logprob is None else {"content": [{"logprob": logprob}, {"logprob": logprob}]}
    return Choice(index=index, message=Message(role="assistant", content=text), logprobs=told)


def test_a_likely_first_sample_is_an_agreement_of_one() -> None:
    found = FirstLikely(Unanimous(FORM), -0.1).measure([said("go", -0.05)], 3)
    assert (found.agreed, found.settled, found.samples, found.chosen) == (True, True, 1, 0)
    assert found.modal == Unanimous(FORM).measure([said("go", None)]).modal
    assert found.share == 1.0


def test_samples_after_a_likely_first_one_change_nothing() -> None:
    rule = FirstLikely(Unanimous(FORM), -0.1)
    first = said("go", -0.05)
    alone = rule.measure([first], 3)
    for others in ([said("take", -0.01, 1)], [said("", -3.0, 1), said("look", -0.01, 2)]):
        assert rule.measure([first, *others], 3) == alone


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(said("go", -0.2), id="less likely"),
        pytest.param(said("go", None), id="no log-probabilities"),
        pytest.param(said("", -0.0), id="unusable"),
    ],
)
def test_every_other_first_sample_leaves_the_step_to_the_rule(first: Choice) -> None:
    plain = Unanimous(FORM)
    rule = FirstLikely(plain, -0.1)
    for choices in ([first], [first, said("go", -0.01, 1)], [first, said("look", -0.01, 1)]):
        assert rule.measure(choices, 2) == plain.measure(choices, 2)
        assert rule.measure(choices) == plain.measure(choices)


def test_no_samples_are_what_the_rule_makes_of_them() -> None:
    assert FirstLikely(Unanimous(FORM), -0.1).measure([], 3) == Unanimous(FORM).measure([], 3)


def test_actions_are_read_as_the_rule_reads_them() -> None:
    rule = FirstLikely(Unanimous(FORM), -0.1)
    assert rule.action(said("Go.", -0.5)) == Unanimous(FORM).action(said("Go.", -0.5))


def test_a_likely_action_that_may_write_is_left_to_the_rule() -> None:
    plain = Unanimous(FORM)
    rule = FirstLikely(plain, -0.1, lambda action: action.key == "delete")
    for text, settled in (("look", True), ("delete", False)):
        assert rule.measure([said(text, -0.01)], 3).settled is settled
    torn = [said("delete", -0.01), said("look", -0.01, 1)]
    assert rule.measure(torn, 3) == plain.measure(torn, 3)


def test_a_level_above_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"least_logprob = 0.5: give at most 0"):
        FirstLikely(Unanimous(FORM), 0.5)


@given(
    st.lists(
        st.tuples(st.sampled_from(["go", "take", ""]), st.floats(-3, 0)), min_size=1, max_size=5
    ),
    st.floats(-3, 0),
)
def test_what_is_settled_is_decided_as_all_samples_decide(
    drawn: list[tuple[str, float]], level: float
) -> None:
    rule = FirstLikely(MOfN(FORM, 3), level)
    choices = [said(text, logprob, index) for index, (text, logprob) in enumerate(drawn)]
    whole = rule.measure(choices, len(choices))
    for count in range(1, len(choices) + 1):
        part = rule.measure(choices[:count], len(choices))
        if part.settled:
            assert (part.agreed, part.modal if part.agreed else None) == (
                whole.agreed,
                whole.modal if whole.agreed else None,
            )
