"""Preference with the teacher as reference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tests.training.objectives.batches import full, number

from tutelage.training.objectives.given import TeacherSignal
from tutelage.training.objectives.preference import dpo_loss, kto_pair_loss
from tutelage.training.objectives.registry import objective

RATIOS = torch.tensor([0.4, -1.0, 2.0], dtype=torch.float64)
OTHERS = torch.tensor([0.1, 0.5, -3.0], dtype=torch.float64)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_both_losses_are_what_plain_code_says() -> None:
    pairs = list(zip(RATIOS.tolist(), OTHERS.tolist(), strict=True))
    dpo = [-math.log(sigmoid(0.1 * (w - l))) for w, l in pairs]  # noqa: E741
    kl_w, kl_l = max(0.0, sum(RATIOS.tolist()) / 3), max(0.0, sum(OTHERS.tolist()) / 3)
    kto = [
        (1 - sigmoid(0.1 * (right - kl_l)) + 1 - sigmoid(0.1 * (kl_w - wrong))) / 2
        for right, wrong in pairs
    ]

    assert number(dpo_loss(RATIOS, OTHERS)) == pytest.approx(sum(dpo) / 3)
    assert number(kto_pair_loss(RATIOS, OTHERS)) == pytest.approx(sum(kto) / 3)


@pytest.mark.parametrize("loss", [dpo_loss, kto_pair_loss])
def test_a_descent_step_raises_the_right_answer_and_lowers_the_wrong(loss) -> None:  # type: ignore[no-untyped-def]
    right, wrong = RATIOS.clone().requires_grad_(), OTHERS.clone().requires_grad_()

    gradients = torch.autograd.grad(loss(right, wrong), [right, wrong])

    assert (gradients[0] < 0).all()
    assert (gradients[1] > 0).all()
    assert torch.autograd.gradcheck(dpo_loss, (right, wrong))


def test_swapped_labels_turn_the_gradient_around() -> None:
    given = full(3)
    assert given.rejected is not None
    swapped = replace(
        given,
        chosen=given.rejected,
        rejected=given.chosen,
        teacher=TeacherSignal(
            log_probs=given.teacher.rejected_log_probs,
            rejected_log_probs=given.teacher.log_probs,
        ),
    )
    aim = objective("dpo", {"beta": 1e-4})

    (gradient,) = torch.autograd.grad(aim.loss(given)[0], given.chosen.logits)
    (turned,) = torch.autograd.grad(aim.loss(swapped)[0], given.chosen.logits)

    assert torch.allclose(gradient, -turned, rtol=0.01)


def test_dpo_does_not_see_a_constant_on_both_of_the_teachers_answers() -> None:
    given = full(4)
    teacher = given.teacher
    assert teacher.log_probs is not None
    assert teacher.rejected_log_probs is not None
    shifted = TeacherSignal(
        log_probs=teacher.log_probs - 1 / given.chosen.mask.sum(-1, keepdim=True),
        rejected_log_probs=teacher.rejected_log_probs - 1 / given.chosen.mask.sum(-1, keepdim=True),
    )

    plain, _ = objective("dpo").loss(given)
    moved, _ = objective("dpo").loss(replace(given, teacher=shifted))

    assert torch.allclose(plain, moved)


def test_the_teacher_gets_no_gradient() -> None:
    given = full(5)
    assert given.teacher.log_probs is not None
    logs = given.teacher.log_probs.clone().requires_grad_()
    teacher = replace(given.teacher, log_probs=logs)

    objective("kto-pair").loss(replace(given, teacher=teacher))[0].backward()

    assert logs.grad is None
