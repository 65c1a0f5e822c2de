"""Demonstrations into weights."""

from __future__ import annotations

import pytest
import torch
from tests.training.objectives.batches import full, logits, number

from tutelage.training.objectives.context_distillation import context_kl, top_k_jsd
from tutelage.training.objectives.divergences import forward_kl, generalised_jsd
from tutelage.training.objectives.registry import objective

MASK = torch.ones(3, 4, dtype=torch.bool)


def test_the_kl_is_that_from_the_pass_with_demonstrations() -> None:
    plain, seen = logits(1, grad=True), logits(2, grad=True)

    loss = context_kl(plain, seen, MASK)
    loss.backward()

    assert number(loss) == pytest.approx(number(forward_kl(plain, seen).mean()))
    assert seen.grad is None
    assert plain.grad is not None


def test_a_temperature_divides_both_logits() -> None:
    plain, seen = logits(1), logits(2)

    loss = context_kl(plain, seen, MASK, temperature=2.0)

    assert number(loss) == pytest.approx(number(forward_kl(plain / 2, seen / 2).mean()))


@pytest.mark.parametrize("k", [6, 100])
def test_all_tokens_give_the_full_jsd(k: int) -> None:
    plain, seen = logits(1), logits(2)

    loss = top_k_jsd(plain, seen, MASK, k)

    assert number(loss) == pytest.approx(number(generalised_jsd(plain, seen).mean()), abs=1e-6)


def test_fewer_tokens_give_a_lower_bound_with_a_right_gradient() -> None:
    seen = logits(2)
    found = [number(top_k_jsd(logits(1), seen, MASK, k)) for k in (1, 3, 6)]

    assert found == sorted(found)
    assert torch.autograd.gradcheck(lambda z: top_k_jsd(z, seen, MASK, 2), logits(1, grad=True))


def test_a_descent_step_brings_the_plain_pass_nearer() -> None:
    given = full()
    aim = objective("context", {"divergence": "top-k-jsd", "k": 3})
    loss, figures = aim.loss(given)
    (gradient,) = torch.autograd.grad(loss, given.chosen.logits)
    assert given.demonstrated is not None

    nearer = top_k_jsd(given.chosen.logits - gradient, given.demonstrated, given.chosen.mask, 3)

    assert number(nearer) < figures["divergence"]
