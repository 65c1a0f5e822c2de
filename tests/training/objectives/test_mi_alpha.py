"""MI-alpha between its two ends."""

from __future__ import annotations

import math

import pytest
import torch
from tests.training.objectives.batches import full, number

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.given import Given, Scored, TeacherSignal
from tutelage.training.objectives.mi_alpha import cosine_critic, mi_alpha
from tutelage.training.objectives.registry import objective


def critic(rows: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        rows, rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_at_one_it_is_infonce_and_at_most_log_of_the_batch(scale: float) -> None:
    f = scale * (critic() + torch.eye(5) * 3)
    rows = f.tolist()
    oracle = sum(
        rows[i][i] - math.log(sum(math.exp(rows[j][i]) for j in range(5)) / 5) for i in range(5)
    )

    assert number(mi_alpha(f, 1.0)) == pytest.approx(oracle / 5)
    assert number(mi_alpha(f, 1.0)) <= math.log(5) + 1e-9


def test_at_zero_it_is_nwj() -> None:
    f = critic()
    rows = f.tolist()
    positive = sum(rows[i][i] for i in range(5)) / 5
    negative = sum(math.exp(rows[i][j] - 1) for i in range(5) for j in range(5) if i != j) / 20

    assert number(mi_alpha(f, 0.0)) == pytest.approx(positive - negative)


def test_between_it_is_what_plain_code_says() -> None:
    f, alpha = critic(), 0.3
    rows = f.tolist()
    means = [sum(math.exp(rows[i][j]) for i in range(5)) / 5 for j in range(5)]
    base = [alpha * mean + (1 - alpha) * math.e for mean in means]
    positive = sum(rows[i][i] - math.log(base[i]) for i in range(5)) / 5
    negative = [math.exp(rows[i][j]) / base[j] for i in range(5) for j in range(5) if i != j]

    assert number(mi_alpha(f, alpha)) == pytest.approx(1 + positive - sum(negative) / 20)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_order_of_the_batch_does_not_matter(alpha: float) -> None:
    f = critic()
    order = torch.tensor([3, 1, 4, 0, 2])

    assert number(mi_alpha(f[order][:, order], alpha)) == pytest.approx(number(mi_alpha(f, alpha)))
    assert torch.autograd.gradcheck(lambda z: mi_alpha(z, alpha), f.requires_grad_())


def test_the_critic_is_the_cosine_over_a_temperature() -> None:
    student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])

    assert torch.allclose(cosine_critic(student, teacher, 0.5), torch.tensor([[1.2, 1.6]]))


def test_a_descent_step_raises_the_bound() -> None:
    given = full()
    assert given.hidden is not None
    hidden = given.hidden.clone().requires_grad_()
    moved = Given(given.chosen, teacher=given.teacher, hidden=hidden)
    aim = objective("mi-alpha")
    loss, figures = aim.loss(moved)
    (gradient,) = torch.autograd.grad(loss, hidden)

    nearer = Given(given.chosen, teacher=given.teacher, hidden=hidden.detach() - gradient)

    assert aim.loss(nearer)[1]["mutual_information"] > figures["mutual_information"]


def test_a_batch_of_one_is_refused() -> None:
    given = full()
    assert given.hidden is not None
    chosen = given.chosen
    one = Given(
        Scored(chosen.logits[:1], chosen.targets[:1], chosen.mask[:1]),
        teacher=TeacherSignal(hidden=given.teacher.hidden),
        hidden=given.hidden[:1],
    )

    with pytest.raises(TrainingError, match="batches of 2 or more"):
        objective("mi-alpha").loss(one)
