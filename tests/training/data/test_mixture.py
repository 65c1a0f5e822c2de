from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import e, exp, fsum, log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.data.episodes import MIXED, TAUGHT, played

from tutelage.runtime.errors import TrainingError
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.mixture import (
    DomainMixture,
    Shares,
    by_deferral,
    deferral_rates,
    drawn,
    first_shares,
    next_shares,
    perplexity_ratio,
    softmax,
    uniform,
    weighted,
)

RATIOS = st.lists(st.floats(0.5, 3), min_size=1, max_size=6).map(
    lambda values: {f"f{i}": value for i, value in enumerate(values)}
)


def example(id: str, family: str, weight: float = 1.0) -> TrainingExample:
    return TrainingExample(
        id=id,
        tenant="acme",
        episode_id=id,
        messages=(),
        supervised=(),
        family=family,
        weight=weight,
    )


def test_the_ratio_of_perplexities_is_clipped() -> None:
    assert perplexity_ratio(1.5, 1.0) == pytest.approx(exp(0.5))
    assert perplexity_ratio(900.0, 1.0) == pytest.approx(3)
    assert perplexity_ratio(1.0, 900.0) == pytest.approx(0.5)


def test_the_first_shares_are_the_softmax_of_the_ratios() -> None:
    shares = first_shares({"a": 1.0, "b": 2.0})
    assert shares == pytest.approx({"a": e / (e + e**2), "b": e**2 / (e + e**2)})


def test_ratios_without_a_clip_would_give_all_to_one() -> None:
    shares = first_shares({"a": 1.3, "b": 2.0, "c": 5.0})
    assert [round(share, 2) for share in shares.values()] == [0.02, 0.05, 0.93]


def test_a_softmax_of_huge_scores_does_not_overflow() -> None:
    assert softmax({"a": 5000.0, "b": 5000.0}) == {"a": 0.5, "b": 0.5}
    assert softmax({}) == {}


@given(RATIOS, st.floats(0, 1))
def test_shares_sum_to_one_and_none_is_below_the_floor(
    ratios: dict[str, float], smoothing: float
) -> None:
    shares = next_shares(first_shares(ratios), ratios, smoothing)
    assert fsum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= (1 - smoothing) / len(ratios) - 1e-12


@given(RATIOS)
def test_without_smoothing_weight_the_shares_are_uniform(ratios: dict[str, float]) -> None:
    assert next_shares(first_shares(ratios), ratios, 0.0) == pytest.approx(uniform(ratios))


def test_equal_gaps_decay_to_uniform_by_the_factor() -> None:
    shares = next_shares({"a": 0.5, "b": 0.3, "c": 0.2}, dict.fromkeys("abc", 1.7), 0.5)
    assert [round(shares[name], 3) for name in "abc"] == [0.417, 0.317, 0.267]


@given(RATIOS, st.randoms())
def test_the_names_of_the_families_do_not_matter(ratios: dict[str, float], random: object) -> None:
    names = sorted(ratios)
    turned = dict(zip(names, [*names[1:], names[0]], strict=True))
    shares = next_shares(first_shares(ratios), ratios)
    renamed = {turned[name]: value for name, value in ratios.items()}
    again = next_shares(first_shares(renamed), renamed)
    assert again == pytest.approx({turned[name]: share for name, share in shares.items()})


def test_the_second_equation_by_hand() -> None:
    shares = next_shares({"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 1.0 + log(3)}, 0.5)
    assert shares == pytest.approx({"a": 0.5 * 0.25 + 0.25, "b": 0.5 * 0.75 + 0.25})


def test_a_family_with_no_share_comes_back_through_the_floor() -> None:
    assert next_shares({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 1.0}) == {"a": 0.75, "b": 0.25}


def test_shares_and_ratios_must_name_the_same_families() -> None:
    with pytest.raises(TrainingError, match="'b' lacks"):
        next_shares({"a": 1.0}, {"a": 1.0, "b": 1.0})
    with pytest.raises(TrainingError, match="smoothing is 2"):
        next_shares({"a": 1.0}, {"a": 1.0}, 2)


def test_a_mixture_changes_at_the_end_of_a_period_alone() -> None:
    asked = []

    def nats() -> dict[str, tuple[float, float]]:
        asked.append(1)
        return {"a": (2.0, 1.0), "b": (1.0, 1.0)}

    start = mixture = DomainMixture({"a": 0.5, "b": 0.5}, period_steps=3)
    for step in (1, 2):
        mixture = mixture.after(step, nats)
    assert mixture is start
    assert not asked
    mixture = mixture.after(3, nats)
    assert mixture.shares["a"] > 0.5
    assert len(asked) == 1


def test_a_period_longer_than_the_run_leaves_the_mixture_as_it_is() -> None:
    start = mixture = DomainMixture({"a": 0.9, "b": 0.1}, period_steps=1000)
    for step in range(1, 100):
        mixture = mixture.after(step, dict)
    assert mixture is start


def test_deferral_is_counted_where_the_student_was_asked() -> None:
    traces = [
        *played(MIXED, samples=["x"]).traces,
        *played(TAUGHT).traces,
    ]
    assert deferral_rates(traces, lambda trace: "put") == {"put": pytest.approx(3 / 5)}


def test_what_is_deferred_more_weighs_more() -> None:
    assert by_deferral({"a": 0.5, "b": 0.0}, 2.0) == pytest.approx(softmax({"a": 1.0, "b": 0.0}))
    assert by_deferral({"a": 0.9, "b": 0.1}, 0.0) == {"a": 0.5, "b": 0.5}


def test_weights_give_each_family_its_share_and_keep_the_mean() -> None:
    examples = [example("1", "a"), example("2", "a", 3.0), example("3", "b", 0.5)]
    mixed = weighted(examples, {"a": 0.2, "b": 0.6, "absent": 0.2})
    assert [one.weight for one in mixed] == pytest.approx([1.125 / 4, 3.375 / 4, 3.375])
    assert weighted([], {"a": 1.0}) == ()


def test_a_family_of_weight_zero_stays_at_zero() -> None:
    mixed = weighted([example("1", "a", 0.0), example("2", "b")], {"a": 0.5, "b": 0.5})
    assert mixed[0].weight == 0


def test_draws_follow_the_shares_and_a_small_family_begins_anew() -> None:
    examples = [
        *[example(f"a{i}", "a") for i in range(3)],
        *[example(f"b{i}", "b") for i in range(500)],
    ]
    chosen = drawn(examples, {"a": 0.8, "b": 0.2}, 1000, seed=3)
    counts = Counter(one.family for one in chosen)
    assert 740 < counts["a"] < 860
    times = Counter(one.id for one in chosen if one.family == "a")
    assert max(times.values()) - min(times.values()) <= 1
    assert drawn(examples[::-1], {"a": 0.8, "b": 0.2}, 1000, seed=3) == chosen
    assert drawn(examples, {"a": 0.8, "b": 0.2}, 1000, seed=4) != chosen
    assert drawn([], {}, 5, seed=0) == ()


@pytest.mark.parametrize(
    "mix",
    [
        lambda shares: weighted([example("1", "a")], shares),
        lambda shares: drawn([example("1", "a")], shares, 1, 0),
    ],
)
def test_a_family_without_a_share_is_told(mix: Callable[[Shares], object]) -> None:
    with pytest.raises(TrainingError, match="'a' has no share"):
        mix({"b": 1.0})
    with pytest.raises(TrainingError, match="share above 0"):
        mix({"a": 0.0})
