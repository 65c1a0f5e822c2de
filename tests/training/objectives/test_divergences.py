"""Divergences against plain code, their gradients and their edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from tests.training.objectives.batches import logits, number
from torch import Tensor

from tutelage.training.objectives.divergences import (
    DIVERGENCES,
    adaptive_kl,
    forward_kl,
    generalised_jsd,
    kl,
    reverse_kl,
    skew_forward_kl,
    skew_reverse_kl,
    top_k_kl,
    total_variation,
)

Row = list[float]


def softmax(row: Row) -> Row:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def plain_kl(p: Row, q: Row) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def blend(p: Row, q: Row, share: float) -> Row:
    return [share * a + (1 - share) * b for a, b in zip(p, q, strict=True)]


def plain_adaptive(p: Row, q: Row) -> float:
    order = sorted(range(len(p)), key=lambda token: -p[token])
    head: set[int] = set()
    for token in order:
        if sum(p[one] for one in head) >= 0.5:
            break
        head.add(token)
    gaps = [abs(a - b) for a, b in zip(p, q, strict=True)]
    share = sum(gaps[token] for token in head) / sum(gaps)
    return share * plain_kl(p, q) + (1 - share) * plain_kl(q, p)


ORACLES: dict[str, Callable[[Row, Row], float]] = {
    "fkl": plain_kl,
    "rkl": lambda p, q: plain_kl(q, p),
    "jsd": lambda p, q: (plain_kl(p, blend(p, q, 0.5)) + plain_kl(q, blend(p, q, 0.5))) / 2,
    "skew-fkl": lambda p, q: plain_kl(p, blend(p, q, 0.1)),
    "skew-rkl": lambda p, q: plain_kl(q, blend(q, p, 0.1)),
    "tvd": lambda p, q: sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
    "adaptive-kl": plain_adaptive,
}


def both(student: Tensor, teacher: Tensor) -> list[tuple[Row, Row]]:
    """Distributions of the teacher and of the student at every position."""
    pairs = zip(student.flatten(0, 1).tolist(), teacher.flatten(0, 1).tolist(), strict=True)
    return [(softmax(theirs), softmax(mine)) for mine, theirs in pairs]


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_is_what_plain_code_says(name: str) -> None:
    student, teacher = logits(1), logits(2)

    values = DIVERGENCES[name](student, teacher).flatten().tolist()

    assert values == pytest.approx([ORACLES[name](p, q) for p, q in both(student, teacher)])


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "adaptive-kl"])
def test_its_gradient_is_right(name: str) -> None:
    teacher = logits(2)

    assert torch.autograd.gradcheck(lambda z: DIVERGENCES[name](z, teacher), logits(1, grad=True))


def test_the_shares_of_the_adaptive_kl_carry_no_gradient() -> None:
    student, teacher = logits(1, 1, 1, grad=True), logits(2, 1, 1)
    ((p, q),) = both(student, teacher)
    forward, reverse = forward_kl(student, teacher).sum(), reverse_kl(student, teacher).sum()
    share = (plain_adaptive(p, q) - plain_kl(q, p)) / (plain_kl(p, q) - plain_kl(q, p))

    (gradient,) = torch.autograd.grad(adaptive_kl(student, teacher).sum(), student)
    expected = torch.autograd.grad(share * forward + (1 - share) * reverse, student)[0]

    assert torch.allclose(gradient, expected)


@pytest.mark.parametrize("name", DIVERGENCES)
@settings(max_examples=50, deadline=None)
@drawn(rows=st.lists(st.lists(st.floats(-30, 30), min_size=4, max_size=4), min_size=2, max_size=2))
def test_it_is_never_negative_and_zero_at_equality(name: str, rows: list[Row]) -> None:
    student, teacher = (torch.tensor([[row]], dtype=torch.float64) for row in rows)

    assert number(DIVERGENCES[name](student, teacher)) >= -1e-9
    assert number(DIVERGENCES[name](student, student)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("which", ["student", "teacher", "both"])
def test_forbidden_tokens_keep_value_and_gradient_finite(name: str, which: str) -> None:
    student, teacher = logits(1), logits(2)
    if which != "teacher":
        student[..., 2] = -torch.inf
    if which != "student":
        teacher[..., 2] = -torch.inf
    student.requires_grad_()

    values = DIVERGENCES[name](student, teacher)
    values.sum().backward()

    assert torch.isfinite(values).all()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", ["fkl", "rkl", "jsd", "skew-fkl", "skew-rkl"])
def test_a_temperature_shrinks_gradients_by_its_square(name: str) -> None:
    def steepness(temperature: float) -> float:
        student = logits(1, grad=True)
        values = DIVERGENCES[name](student, logits(2), temperature=temperature)
        return number(torch.autograd.grad(values.sum(), student)[0].norm())

    assert steepness(200.0) / steepness(100.0) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("beta", [0.1, 0.3, 0.9])
def test_the_mixture_of_the_jsd_weighs_the_teacher_by_beta(beta: float) -> None:
    student, teacher = logits(3), logits(4)
    oracle = [
        beta * plain_kl(p, blend(p, q, beta)) + (1 - beta) * plain_kl(q, blend(p, q, beta))
        for p, q in both(student, teacher)
    ]

    assert generalised_jsd(student, teacher, beta).flatten().tolist() == pytest.approx(oracle)


def test_a_small_beta_has_the_direction_of_the_forward_kl() -> None:
    student, teacher = logits(5, grad=True), logits(6)
    scaled = generalised_jsd(student, teacher, 1e-5).sum() / 1e-5
    (gradient,) = torch.autograd.grad(scaled, student)

    (expected,) = torch.autograd.grad(forward_kl(student, teacher).sum(), student)

    assert torch.allclose(gradient, expected, atol=1e-3)


def test_skewed_divergences_are_bounded_where_the_plain_ones_are_not() -> None:
    student = torch.tensor([[[0.0, -500.0]]])
    teacher = torch.tensor([[[-500.0, 0.0]]])

    assert number(forward_kl(student, teacher)) > 400
    assert number(skew_forward_kl(student, teacher, 0.1)) <= -math.log(0.1) + 1e-5
    assert number(skew_reverse_kl(student, teacher, 0.1)) <= -math.log(0.1) + 1e-5
    assert number(total_variation(student, teacher)) == pytest.approx(1)


def test_the_whole_vocabulary_as_top_is_the_forward_kl() -> None:
    student, teacher = logits(1, grad=True), logits(2)
    top = teacher.log_softmax(-1).topk(6)

    values = top_k_kl(student, top.indices, top.values)

    assert torch.allclose(values, forward_kl(student, teacher), atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_top_of_some_tokens_is_the_kl_of_the_coarsened_distributions(k: int) -> None:
    student, teacher = logits(1, grad=True), logits(2)
    top = teacher.log_softmax(-1).topk(k)
    oracle = []
    for p, q in both(student, teacher):
        kept = sorted(range(6), key=lambda token: -p[token])[:k]
        rest = [token for token in range(6) if token not in kept]
        coarse_p = [*(p[token] for token in kept), sum(p[token] for token in rest)]
        coarse_q = [*(q[token] for token in kept), sum(q[token] for token in rest)]
        oracle.append(plain_kl(coarse_p, coarse_q))

    values = top_k_kl(student, top.indices, top.values)

    assert values.flatten().tolist() == pytest.approx(oracle)
    assert (values <= forward_kl(student, teacher) + 1e-9).all()
    assert torch.autograd.gradcheck(lambda z: top_k_kl(z, top.indices, top.values), student)


def test_kl_of_log_probabilities_sums_over_the_last_axis() -> None:
    p = torch.tensor([0.25, 0.75]).log()
    q = torch.tensor([0.5, 0.5]).log()

    assert number(kl(p, q)) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
