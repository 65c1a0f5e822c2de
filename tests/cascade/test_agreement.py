from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.agreement import MOfN, Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action, Choice, Message

FORM = TextCanonicalizer()


def choices(*texts: str) -> list[Choice]:
    return [
        Choice(index=index, message=Message(role="assistant", content=text), finish_reason="stop")
        for index, text in enumerate(texts)
    ]


def test_samples_that_name_one_action_are_unanimous() -> None:
    agreement = Unanimous(FORM).measure(choices("Look", "look.", "> look"))
    assert agreement.agreed
    assert agreement.modal == Action("text", "look")
    assert (agreement.share, agreement.chosen, agreement.samples) == (1.0, 0, 3)


def test_an_unusable_sample_breaks_unanimity() -> None:
    agreement = Unanimous(FORM).measure(choices("", "look", "look"))
    assert not agreement.agreed
    assert agreement.chosen == 1
    assert agreement.share == pytest.approx(2 / 3)


def test_no_usable_sample_has_no_modal_action() -> None:
    for rule in (Unanimous(FORM), MOfN(FORM, 1)):
        for samples in (choices("", "..."), []):
            agreement = rule.measure(samples)
            assert not agreement.agreed
            assert (agreement.modal, agreement.chosen, agreement.share) == (None, None, 0.0)


def test_m_of_n_takes_the_majority() -> None:
    samples = choices("look", "inventory", "inventory")
    assert not Unanimous(FORM).measure(samples).agreed
    assert MOfN(FORM, 2).measure(samples).agreed
    assert MOfN(FORM, 2).measure(samples).chosen == 1
    assert not MOfN(FORM, 3).measure(samples).agreed


def test_fewer_than_m_samples_are_no_agreement() -> None:
    assert not MOfN(FORM, 2).measure(choices("look")).agreed


def test_ties_go_to_the_first_sample() -> None:
    agreement = MOfN(FORM, 1).measure(choices("", "b 1", "c 1", "c 1", "b 1"))
    assert agreement.modal == Action("text", "b 1")
    assert agreement.chosen == 1


def test_m_below_one_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="m = 0"):
        MOfN(FORM, 0)


def test_a_sample_is_told_by_its_key() -> None:
    for rule in (Unanimous(FORM), MOfN(FORM, 2)):
        assert rule.action(choices("The Look.")[0]) == "look"
        assert rule.action(choices("")[0]) is None


@given(texts=st.lists(st.sampled_from(["look", "Look", "open door", "", "inventory"]), max_size=7))
def test_votes_count_every_usable_sample_once(texts: list[str]) -> None:
    samples = choices(*texts)
    agreement = Unanimous(FORM).measure(samples)
    counts = [count for _, count in agreement.votes]
    assert sum(counts) == sum(text != "" for text in texts)
    assert counts == sorted(counts, reverse=True)
    assert agreement.agreed == (
        bool(texts) and len({text.lower() for text in texts} | {""}) == 2 and "" not in texts
    )
    assert agreement == MOfN(FORM, max(1, len(texts))).measure(samples)
    if agreement.chosen is not None:
        assert FORM.action(samples[agreement.chosen]) == agreement.modal
