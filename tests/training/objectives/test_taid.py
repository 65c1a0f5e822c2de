"""TAID: where its target is, how it moves, and what a checkpoint keeps."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tests.training.objectives.batches import full, logits, number

from tutelage.training.objectives.registry import objective
from tutelage.training.objectives.taid import TaidState, taid_loss

MASK = torch.ones(3, 4, dtype=torch.bool)


def state(steps: int, pace: float, start: float = 0.2) -> TaidState:
    return TaidState(steps=steps, start=start, end=1.0, pace=pace, momentum=0.99, t=start)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("form", ["cross-entropy", "kl"])
def test_the_gradient_is_student_minus_target(t: float, form: str) -> None:
    student, teacher = logits(1, grad=True), logits(2)
    target = ((1 - t) * student.detach() + t * teacher).softmax(-1)

    loss = taid_loss(student, teacher, MASK, t, form)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, student)

    expected = (student.detach().softmax(-1) - target) / MASK.sum()
    assert torch.allclose(gradient, expected, atol=1e-9)
    assert (gradient.abs().max() < 1e-9) == (t == 0)


def test_the_two_forms_differ_by_the_entropy_of_the_target() -> None:
    student, teacher = logits(1), logits(2)
    target = (0.5 * student + 0.5 * teacher).log_softmax(-1)
    entropy = -(target.exp() * target).sum(-1).mean()

    cross = taid_loss(student, teacher, MASK, 0.5)
    divergence = taid_loss(student, teacher, MASK, 0.5, "kl")

    assert number(cross - divergence) == pytest.approx(number(entropy))


def test_without_the_adaptive_branch_the_schedule_is_linear() -> None:
    moving = state(10, pace=0.0)
    seen = []
    for step in range(1, 11):
        moving.stepped(1 / step)
        seen.append(moving.t)

    assert seen[0] == 0.2
    assert seen[1:] == pytest.approx([0.2 + 0.8 * step / 10 for step in range(2, 11)])
    assert moving.adaptive_share == 0


def test_the_target_never_goes_back_and_ends_at_the_teacher() -> None:
    moving = state(50, pace=0.1)
    generator = torch.Generator().manual_seed(0)
    seen = [moving.t]
    for loss in torch.rand(80, generator=generator).tolist():
        moving.stepped(loss)
        seen.append(moving.t)

    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(("pace", "halfway"), [(5e-4, 0.600), (5e-3, 0.771)])
def test_the_papers_pace_is_linear_in_a_short_run(pace: float, halfway: float) -> None:
    moving = state(1000, pace)
    for _ in range(501):
        moving.stepped(1.0)

    assert moving.t == pytest.approx(halfway, abs=0.003)
    assert (moving.adaptive_share > 0.5) == (pace > 1e-3)


def test_a_step_is_the_papers_update_in_plain_code() -> None:
    moving = state(1000, 0.05)
    t, mu, previous = 0.2, 0.0, 2.0
    moving.stepped(2.0)
    for step, loss in enumerate([1.8, 1.7, 1.9, 1.2], start=2):
        mu = 0.99 * mu + 0.01 * (previous - loss) / (previous + 1e-15)
        t = min(1.0, max(0.2 + 0.8 * step / 1000, t + 0.05 / (1 + math.exp(-mu)) * (1 - t)))
        previous = loss
        moving.stepped(loss)
        assert moving.t == pytest.approx(t)
        assert moving.mu == pytest.approx(mu)


def test_a_short_run_gets_a_pace_that_matters() -> None:
    aim = objective("taid", {"steps": 100})
    for _ in range(20):
        aim.stepped(1.0)

    _, figures = aim.loss(full())

    assert figures["adaptive_share"] > 0.5
    assert figures["t"] == aim.state_dict()["t"]


def test_a_resumed_run_goes_on_exactly() -> None:
    whole, first = objective("taid", {"steps": 30}), objective("taid", {"steps": 30})
    losses = torch.rand(20, generator=torch.Generator().manual_seed(1)).tolist()
    first.load_state_dict(first.state_dict())
    for loss in losses[:7]:
        first.stepped(loss)
    saved = json.loads(json.dumps(first.state_dict()))
    second = objective("taid", {"steps": 30})
    second.load_state_dict(saved)
    for loss in losses[7:]:
        second.stepped(loss)
    for loss in losses:
        whole.stepped(loss)

    assert second.state_dict() == whole.state_dict()
