"""REDI: its gradient, and the guards without which it falls apart."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from tests.training.objectives.batches import full, number

from tutelage.training.objectives.given import Given, Scored
from tutelage.training.objectives.redi import HeldOutWatch, after_first_difference, redi_loss
from tutelage.training.objectives.registry import objective
from tutelage.training.objectives.tokens import sequence_means, target_log_probs


def one_token(seed: int = 0) -> tuple[torch.Tensor, Scored, Scored]:
    z = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z.requires_grad_()
    mask = torch.ones(1, 1, dtype=torch.bool)
    rows = [Scored(z.view(1, 1, 5), torch.tensor([[token]]), mask) for token in (1, 3)]
    return z, rows[0], rows[1]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_the_gradient_at_one_position_is_the_papers(alpha: float) -> None:
    z, chosen, rejected = one_token()

    (gradient,) = torch.autograd.grad(redi_loss(chosen, rejected, alpha)[0], z)

    q = z.detach().softmax(-1)
    expected = (1 - alpha) * q
    expected[1] -= 1
    expected[3] += alpha
    assert torch.allclose(gradient, expected)


def test_alpha_one_is_the_limit_of_simpo_over_beta() -> None:
    given, beta = full(), 1e-3
    chosen, rejected = given.chosen, given.rejected
    assert rejected is not None
    ours = redi_loss(chosen, rejected, 1.0, -math.inf)[0]
    (gradient,) = torch.autograd.grad(ours, chosen.logits)
    right = sequence_means(target_log_probs(chosen.logits, chosen.targets), chosen.mask)
    wrong = sequence_means(target_log_probs(rejected.logits, rejected.targets), rejected.mask)
    simpo = -torch.nn.functional.logsigmoid(beta * (right - wrong)).mean() / beta

    (expected,) = torch.autograd.grad(simpo, chosen.logits)

    assert torch.allclose(gradient / 2, expected, atol=1e-3)


def test_a_wrong_answer_below_the_floor_is_left_alone() -> None:
    _, chosen, rejected = one_token()
    low = rejected.logits.detach().clone()
    low[..., 3] = -20
    low.requires_grad_()

    loss, counted = redi_loss(chosen, Scored(low, rejected.targets, rejected.mask), 0.8)
    unguarded, all_counted = redi_loss(
        chosen, Scored(low, rejected.targets, rejected.mask), 0.8, -math.inf
    )

    assert not counted.any()
    assert all_counted.all()
    assert number(loss) > 0 > number(unguarded)


def test_only_tokens_from_the_first_difference_on_count() -> None:
    logits = torch.zeros(3, 5, 9)
    mask = torch.tensor([[False, True, True, True, True]] * 3)
    right = Scored(logits, torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]), mask)
    wrong_mask = torch.tensor(
        [[True, True, True, True, False], [True] * 3 + [False] * 2, [True] * 4 + [False]]
    )
    wrong = Scored(
        logits, torch.tensor([[1, 2, 8, 4, 0], [8, 2, 3, 0, 0], [1, 2, 3, 4, 0]]), wrong_mask
    )

    kept = after_first_difference(right, wrong)

    assert kept.tolist() == [
        [False, False, True, True, False],
        [True, True, True, False, False],
        [False] * 5,
    ]


def test_equal_answers_pull_nothing_down() -> None:
    given = full()
    twin = Given(given.chosen, rejected=given.chosen)

    loss, figures = objective("redi").loss(twin)
    plain, _ = objective("sft-normalised").loss(given)

    assert figures["counted_share"] == 0
    assert number(loss) == pytest.approx(number(plain))


def test_a_fall_on_held_out_answers_stops_the_run() -> None:
    watch = HeldOutWatch()

    assert [watch.must_stop(value) for value in (-1.0, -0.8, -0.9, -0.96, -0.2, -0.34)] == [
        False,
        False,
        False,
        True,
        False,
        False,
    ]
    assert watch.must_stop(-0.36)
    assert watch.must_stop(math.nan)


class Ended(NamedTuple):
    started: float
    chosen: float


def trained(*, guarded: bool, rate: float) -> Ended:
    """Pairs share 4 of 6 tokens and one row of features: the model cannot tell them apart well."""
    generator = torch.Generator().manual_seed(0)
    right = torch.randint(0, 10, (16, 6), generator=generator)
    wrong = right.clone()
    wrong[:, 4:] = (right[:, 4:] + 1 + torch.randint(0, 9, (16, 2), generator=generator)) % 10
    features = torch.randn(16, 6, 4, generator=generator)
    weights = torch.zeros(4, 10, requires_grad=True)
    mask = torch.ones(16, 6, dtype=torch.bool)
    options = {} if guarded else {"floor": -math.inf, "only_after_difference": False}
    aim = objective("redi", options)
    watch = HeldOutWatch()
    kept, started, chosen = weights.detach().clone(), 0.0, 0.0
    for step in range(400):
        logits = features @ weights
        given = Given(Scored(logits, right, mask), rejected=Scored(logits, wrong, mask))
        loss, figures = aim.loss(given)
        started, chosen = started or figures["chosen_log_prob"], figures["chosen_log_prob"]
        if guarded and watch.must_stop(chosen):
            return Ended(started, watch.best)
        kept = weights.detach().clone()
        (gradient,) = torch.autograd.grad(loss, weights)
        weights = (kept - rate * gradient).requires_grad_()
        assert step < 400
    return Ended(started, chosen)


def test_without_guards_right_answers_collapse_at_ten_times_the_rate_and_with_them_not() -> None:
    assert trained(guarded=False, rate=5.0).chosen < -6
    guarded = trained(guarded=True, rate=5.0)
    assert guarded.chosen >= guarded.started - 0.15
