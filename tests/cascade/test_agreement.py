from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.agreement import (
    Majority,
    MOfN,
    Unanimous,
    Weighted,
    majority_probability,
)
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


# Stopping early.

RULES = [Unanimous(FORM), MOfN(FORM, 2), MOfN(FORM, 3), Majority(FORM, 0.8), Majority(FORM, 0.9)]


@given(
    texts=st.lists(st.sampled_from(["look", "inventory", ""]), min_size=1, max_size=7),
    rule=st.sampled_from(RULES),
)
def test_a_settled_vote_says_what_the_full_vote_says(
    texts: list[str], rule: Unanimous | MOfN | Majority
) -> None:
    samples = choices(*texts)
    full = rule.measure(samples, len(samples))
    assert full.settled
    for drawn in range(1, len(samples)):
        early = rule.measure(samples[:drawn], len(samples))
        if early.settled and isinstance(rule, Unanimous | MOfN):
            assert early.agreed == full.agreed
            if early.agreed:
                assert early.modal == full.modal


def test_the_first_disagreement_settles_unanimity() -> None:
    rule = Unanimous(FORM)
    assert not rule.measure(choices("look"), 3).settled
    assert rule.measure(choices("look", "inventory"), 3).settled
    assert not rule.measure(choices("look", "look"), 3).settled
    assert not rule.measure(choices("look", "look"), 3).agreed


def test_m_votes_settle_m_of_n_unless_another_action_can_overtake() -> None:
    assert MOfN(FORM, 2).measure(choices("look", "look"), 3).settled
    assert not MOfN(FORM, 2).measure(choices("look", "look"), 5).settled
    assert MOfN(FORM, 3).measure(choices("look", "inventory", ""), 4).settled


@pytest.mark.parametrize(
    ("first", "second", "probability"),
    [(0, 0, 0.5), (3, 0, 0.9375), (4, 0, 0.96875), (2, 1, 0.6875), (1, 2, 0.3125)],
)
def test_the_posterior_of_a_majority_is_the_beta_tail(
    first: int, second: int, probability: float
) -> None:
    assert majority_probability(first, second) == probability


def test_a_majority_stops_when_it_is_likely_enough_or_out_of_reach() -> None:
    rule = Majority(FORM, 0.9)
    assert rule.measure(choices("look", "look", "look"), 9).settled
    assert rule.measure(choices("look", "look", "look"), 9).agreed
    hopeless = rule.measure(choices("look", "inventory"), 3)
    assert hopeless.settled
    assert not hopeless.agreed
    assert not rule.measure(choices("", "", "look"), 3).agreed


def test_a_likely_sample_weighs_more_than_two_unlikely_ones() -> None:
    rule = Weighted(FORM, 0.6)
    samples = [
        choice.model_copy(update={"logprobs": {"content": [{"logprob": logprob}]}})
        for choice, logprob in zip(
            choices("look", "inventory", "inventory"), (-0.1, -3.0, -3.0), strict=True
        )
    ]
    agreement = rule.measure(samples)
    assert agreement.modal == Action("text", "look")
    assert agreement.agreed
    assert agreement.chosen == 0
    assert agreement.share == pytest.approx(0.9009, abs=1e-3)


def test_without_log_probabilities_every_sample_weighs_the_same() -> None:
    agreement = Weighted(FORM, 0.6).measure(choices("look", "look", "inventory", ""))
    assert agreement.share == pytest.approx(0.5)
    assert not agreement.agreed


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_out_of_range_is_a_config_error(share: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        Weighted(FORM, share)


@pytest.mark.parametrize("confidence", [0.5, 1.0])
def test_a_confidence_out_of_range_is_a_config_error(confidence: float) -> None:
    with pytest.raises(ConfigError, match="confidence"):
        Majority(FORM, confidence)
