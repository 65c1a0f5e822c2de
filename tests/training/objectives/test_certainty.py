"""Certainty forcing."""

from __future__ import annotations

import pytest
import torch
from tests.training.objectives.batches import logits, number

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.certainty import (
    certainty_loss,
    complementary_certainty_loss,
    correct_entropy,
)
from tutelage.training.objectives.given import Scored
from tutelage.training.objectives.supervised import cross_entropy

ALL = torch.ones(3, 4, dtype=torch.bool)


def right(values: torch.Tensor) -> torch.Tensor:
    return values.argmax(-1)


def wrong(values: torch.Tensor) -> torch.Tensor:
    return values.argmin(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_gradient_of_the_entropy_is_its_formula(temperature: float) -> None:
    values = logits(1, grad=True)
    p = (values.detach() / temperature).softmax(-1)
    entropy = -(p * p.log()).sum(-1, keepdim=True)

    loss = correct_entropy(values, right(values), ALL, temperature)
    (gradient,) = torch.autograd.grad(loss, values)

    assert torch.allclose(gradient * ALL.sum(), -p * (p.log() + entropy) / temperature)
    assert (gradient.gather(-1, right(values).unsqueeze(-1)) < 0).all()


def test_at_uniform_and_at_certainty_nothing_pulls() -> None:
    for row in ([0.0, 0.0, 0.0], [500.0, 0.0, 0.0]):
        values = torch.tensor([[row]], requires_grad=True)
        loss = correct_entropy(values, torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.bool))

        (gradient,) = torch.autograd.grad(loss, values)

        assert gradient.abs().max() < 1e-6


def test_a_descent_step_makes_the_right_token_likelier() -> None:
    values = logits(2, grad=True)
    loss = correct_entropy(values, right(values), ALL)
    (gradient,) = torch.autograd.grad(loss, values)

    stepped = values.detach() - gradient

    before = values.detach().softmax(-1).max(-1).values
    assert (stepped.softmax(-1).max(-1).values > before).all()


def test_without_a_right_prediction_the_entropy_is_zero_with_a_graph() -> None:
    values = logits(3, grad=True)

    loss = correct_entropy(values, wrong(values), ALL)
    loss.backward()

    assert number(loss) == 0
    assert values.grad is not None
    assert (values.grad == 0).all()


def test_only_right_positions_of_the_mask_count() -> None:
    values = logits(4)
    targets = torch.where(torch.arange(4) < 2, right(values), wrong(values))
    mask = torch.arange(4).expand(3, 4) % 2 == 0

    found = correct_entropy(values, targets, mask)
    only = correct_entropy(values[:, :1], targets[:, :1], ALL[:, :1])

    assert number(found) == pytest.approx(number(only))


def test_without_weight_it_is_the_masked_cross_entropy() -> None:
    values = logits(5)
    given = Scored(values, right(values), ALL)

    assert torch.equal(certainty_loss(given, 0.0), cross_entropy(values, given.targets, ALL))


def test_a_mask_and_its_complement_add_up() -> None:
    values, others = logits(6), logits(7)
    half = torch.arange(4).expand(3, 4) < 2
    first, second = Scored(values, right(values), half), Scored(others, right(values), ~half)

    both = complementary_certainty_loss(first, second, beta=2.0)

    assert number(both) == pytest.approx(
        number(certainty_loss(first, 2.0) + certainty_loss(second, 2.0))
    )
    with pytest.raises(TrainingError, match="overlap"):
        complementary_certainty_loss(first, first)
