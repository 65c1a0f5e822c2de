"""Revision of the student's answers, and the clipped KL."""

from __future__ import annotations

import math

import pytest
import torch
from tests.training.objectives.batches import logits, number
from torch import Tensor

from tutelage.training.objectives.divergences import forward_kl
from tutelage.training.objectives.revision import clipped_kl, kept_tokens, revise, worst_position

MASK = torch.ones(3, 4, dtype=torch.bool)


def rewritten(mended: Tensor, positions: Tensor) -> Tensor:
    return torch.full_like(mended, 5)


def never(mended: Tensor, positions: Tensor) -> Tensor:
    raise AssertionError


def test_equal_models_leave_the_answer_as_it_is() -> None:
    student = logits(1)
    answer = student.argmax(-1)

    assert worst_position(student, student, answer, MASK).tolist() == [-1, -1, -1]
    assert torch.equal(revise(student, student, answer, MASK, never), answer)


def test_one_token_changes_and_the_student_goes_on_after_it() -> None:
    student, teacher = logits(1), logits(2)
    answer = student.argmax(-1)
    places = worst_position(student, teacher, answer, MASK).tolist()

    revised = revise(student, teacher, answer, MASK, rewritten)

    assert all(place >= 0 for place in places)
    for row, place in enumerate(places):
        assert revised[row, :place].tolist() == answer[row, :place].tolist()
        assert revised[row, place] == teacher[row, place].argmax() != answer[row, place]
        assert (revised[row, place + 1 :] == 5).all()


def test_the_worst_token_is_the_differing_one_with_the_largest_kl() -> None:
    student, teacher = logits(3), logits(4)
    answer = student.argmax(-1)
    gaps = forward_kl(student, teacher)
    expected = []
    for row in range(3):
        differing = [i for i in range(4) if int(teacher[row, i].argmax()) != int(answer[row, i])]
        expected.append(max(differing, key=lambda i: number(gaps[row, i]), default=-1))

    assert worst_position(student, teacher, answer, MASK).tolist() == expected


def test_rows_without_a_difference_stay_beside_rows_that_change() -> None:
    student, teacher = logits(1), logits(2)
    teacher[1] = student[1]
    answer = student.argmax(-1)

    revised = revise(student, teacher, answer, MASK, rewritten)

    assert torch.equal(revised[1], answer[1])
    assert not torch.equal(revised[0], answer[0])


def row(*shares: float) -> Tensor:
    return torch.tensor([[list(shares)]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("low", "high", "mass", "kept"),
    [
        (0.0, 1.0, 0.5, [True, True, True, True]),
        (0.0, 0.8, 0.5, [False, True, True, False]),
        (0.0, 0.5, 0.0, [False, True, False, False]),
        (0.0, 0.1, 0.85, [True, True, True, False]),
        (0.55, 1.0, 0.0, [True, False, True, True]),
        (0.96, 1.0, 0.5, [False, True, False, True]),
    ],
)
def test_the_region_is_between_two_quantiles_and_holds_enough(
    low: float, high: float, mass: float, kept: list[bool]
) -> None:
    teacher = row(0.15, 0.5, 0.3, 0.05)

    assert kept_tokens(teacher, low, high, mass).flatten().tolist() == kept


def test_tokens_outside_the_region_get_no_gradient() -> None:
    student, teacher = logits(1, grad=True), logits(2)
    kept = kept_tokens(teacher, 0.0, 0.7)

    (gradient,) = torch.autograd.grad(clipped_kl(student, teacher, 0.0, 0.7).sum(), student)

    assert (gradient[~kept] == 0).all()
    assert gradient[kept].abs().sum() > 0
    assert torch.autograd.gradcheck(lambda z: clipped_kl(z, teacher, 0.0, 0.7), student)


def test_the_clipped_kl_is_that_of_what_is_kept() -> None:
    student, teacher = row(0.25, 0.25, 0.25, 0.25), row(0.15, 0.5, 0.3, 0.05)

    value = clipped_kl(student, teacher, 0.0, 0.8)

    p = [0.5 / 0.8, 0.3 / 0.8]
    assert number(value) == pytest.approx(sum(share * math.log(share / 0.5) for share in p))
