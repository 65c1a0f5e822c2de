"""Plain fine-tuning and the helpers that all losses stand on."""

from __future__ import annotations

import math

import pytest
import torch
from tests.training.objectives.batches import full, number, scored

from tutelage.training.objectives.given import Scored
from tutelage.training.objectives.step_by_step import step_by_step_loss
from tutelage.training.objectives.supervised import (
    cross_entropy,
    length_normalised_cross_entropy,
)
from tutelage.training.objectives.tokens import entropy, log_probs, masked_mean, sequence_means


def plain_log_probs(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


def test_cross_entropy_is_the_token_mean_of_an_oracle_in_plain_code() -> None:
    given = scored(1)
    losses = [
        [-plain_log_probs(row)[target] for row, target, on in zip(*rows, strict=True) if on]
        for rows in zip(
            given.logits.tolist(), given.targets.tolist(), given.mask.tolist(), strict=True
        )
    ]
    tokens = [loss for row in losses for loss in row]

    loss = cross_entropy(given.logits, given.targets, given.mask)
    normalised = length_normalised_cross_entropy(given.logits, given.targets, given.mask)

    assert number(loss) == pytest.approx(sum(tokens) / len(tokens))
    assert number(normalised) == pytest.approx(sum(sum(row) / len(row) for row in losses) / 3)
    assert number(loss) != pytest.approx(number(normalised))


def test_the_gradient_of_cross_entropy_is_right() -> None:
    given = scored(2)

    assert torch.autograd.gradcheck(
        lambda z: cross_entropy(z, given.targets, given.mask), given.logits
    )


def test_an_empty_mask_gives_zero_with_a_graph() -> None:
    given = scored(3)
    nothing = torch.zeros_like(given.mask)

    loss = cross_entropy(given.logits, given.targets, nothing)
    loss.backward()

    assert number(loss) == 0
    assert given.logits.grad is not None
    assert (given.logits.grad == 0).all()
    assert number(sequence_means(given.logits[..., 0], nothing).sum()) == 0


def test_forbidden_tokens_keep_log_probs_and_entropy_finite() -> None:
    values = torch.tensor([[0.0, -torch.inf, 0.0]])

    assert log_probs(values)[0, 0] == pytest.approx(math.log(0.5))
    assert torch.isfinite(log_probs(values)).all()
    assert number(entropy(values)) == pytest.approx(math.log(2))


def test_half_precision_is_computed_in_float32() -> None:
    assert log_probs(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_values_outside_the_mask_may_be_anything() -> None:
    values = torch.tensor([[1.0, math.nan, 3.0, math.inf]])
    mask = torch.tensor([[True, False, True, False]])

    assert number(masked_mean(values, mask)) == 2


def longer(given: Scored, times: int) -> Scored:
    return Scored(
        given.logits.repeat(1, times, 1),
        given.targets.repeat(1, times),
        given.mask.repeat(1, times),
    )


def test_a_reason_repeated_twice_leaves_both_terms_as_they_are() -> None:
    given = full()
    assert given.explained is not None

    once = step_by_step_loss(given.chosen, given.explained)
    twice = step_by_step_loss(given.chosen, longer(given.explained, 2))

    assert number(once) == pytest.approx(number(twice))


def test_without_a_share_the_action_gets_no_gradient_and_the_reason_all() -> None:
    given = full()
    assert given.explained is not None

    step_by_step_loss(given.chosen, given.explained, action_share=0.0).backward()

    assert given.chosen.logits.grad is not None
    assert given.explained.logits.grad is not None
    assert (given.chosen.logits.grad == 0).all()
    assert given.explained.logits.grad.abs().sum() > 0


def test_the_whole_action_share_gives_the_gradient_of_fine_tuning() -> None:
    given = full()
    assert given.explained is not None
    chosen = given.chosen
    loss = step_by_step_loss(chosen, given.explained, action_share=1.0)

    gradients = torch.autograd.grad(loss, [chosen.logits, given.explained.logits])
    plain = cross_entropy(chosen.logits, chosen.targets, chosen.mask)

    assert torch.equal(gradients[0], torch.autograd.grad(plain, chosen.logits)[0])
    assert (gradients[1] == 0).all()
