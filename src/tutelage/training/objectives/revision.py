"""Revision: the teacher mends the first grave token of the student's answer; a clipped KL.

Only the idea is from Liu et al., Multi-granularity semantic revision, arXiv 2407.10068: the method
section was not at hand, so the bounds of the clip are fixed, not learned.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.divergences import forward_kl, kl
from tutelage.training.objectives.given import Given
from tutelage.training.objectives.objective import Limit, Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.tokens import figure, log_probs, masked_mean


def worst_position(student: Tensor, teacher: Tensor, answer: Tensor, mask: Tensor) -> Tensor:
    """Where the teacher would say another token and ``KL(p || q)`` is largest.

    Args:
        student: (batch, seq, vocab), logits at the answer's tokens.
        teacher: (batch, seq, vocab), likewise.
        answer: (batch, seq), int64: what the student said.
        mask: (batch, seq), bool: tokens of the answer.

    Returns:
        (batch,), int64; -1 where no token differs.
    """
    differs = mask & (teacher.argmax(-1) != answer)
    grave = torch.where(differs, forward_kl(student, teacher), -1.0)
    return torch.where(differs.any(-1), grave.argmax(-1), -1)


def revise(
    student: Tensor,
    teacher: Tensor,
    answer: Tensor,
    mask: Tensor,
    go_on: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Replaces the worst token by the teacher's and lets the student go on after it.

    Args:
        student: (batch, seq, vocab), as in ``worst_position``.
        teacher: (batch, seq, vocab), likewise.
        answer: (batch, seq), int64.
        mask: (batch, seq), bool.
        go_on: (answers (batch, seq), positions (batch,)) -> answers in which the student wrote all
            tokens after the position anew; called where something was replaced.

    Returns:
        (batch, seq), int64; rows without a difference are as they were.
    """
    positions = worst_position(student, teacher, answer, mask)
    changed = positions >= 0
    if not bool(changed.any()):
        return answer
    place = positions.clamp(min=0).unsqueeze(-1)
    mended = answer.scatter(-1, place, teacher.argmax(-1).gather(-1, place))
    written = go_on(mended, positions)
    after = torch.arange(answer.shape[-1], device=answer.device) > place
    return torch.where(changed.unsqueeze(-1), torch.where(after & mask, written, mended), answer)


def kept_tokens(teacher: Tensor, low: float, high: float, least_mass: float = 0.5) -> Tensor:
    """Tokens of the teacher between two quantiles of its mass, the likeliest first.

    Args:
        teacher: (batch, seq, vocab), logits.
        low: Quantile where the region begins, from 0.
        high: Quantile where it ends, up to 1.
        least_mass: The likeliest tokens are added until the region holds this much, so that it
            cannot shrink to nothing.

    Returns:
        (batch, seq, vocab), bool.
    """
    ordered, order = log_probs(teacher).exp().sort(-1, descending=True)
    until = ordered.cumsum(-1)
    before = until - ordered
    inside = (before < high) | torch.tensor(high >= 1)
    inside = inside & ((until > low) | torch.tensor(low <= 0))
    mass = torch.where(inside, ordered, 0.0).sum(-1, keepdim=True)
    outside = torch.where(inside, 0.0, ordered)
    added = ~inside & (mass + outside.cumsum(-1) - outside < least_mass)
    return torch.zeros_like(inside).scatter(-1, order, inside | added)


def clipped_kl(
    student: Tensor, teacher: Tensor, low: float = 0.0, high: float = 0.95, least_mass: float = 0.5
) -> Tensor:
    """``KL(p || q)`` of both renormalised over the teacher's kept tokens; others get no gradient.

    It says nothing of the tokens left out, so it follows fine-tuning and cannot replace it.

    Args:
        student: (batch, seq, vocab), logits.
        teacher: (batch, seq, vocab), logits.
        low: As in ``kept_tokens``.
        high: Likewise.
        least_mass: Likewise.

    Returns:
        (batch, seq), nats; the forward KL for ``low`` 0 and ``high`` 1.
    """
    kept = kept_tokens(teacher, low, high, least_mass)
    p = log_probs(teacher.masked_fill(~kept, -torch.inf))
    return kl(p, log_probs(student.masked_fill(~kept, -torch.inf)))


def clipped_kl_objective(
    low: float = 0.0, high: float = 0.95, least_mass: float = 0.5
) -> Objective:
    """Forward KL without the teacher's tail; feed it revised answers of the student or gated ones.

    Raises:
        TrainingError: The quantiles are not in order within 0 and 1.
    """
    if not 0 <= low < high <= 1 or not 0 <= least_mass <= 1:
        raise TrainingError(
            f"low is {low}, high {high} and least_mass {least_mass}: give 0 <= low < high <= 1 "
            "and a mass from 0 to 1"
        )

    def formula(given: Given) -> Loss:
        teacher = part("logits of the teacher", given.teacher.logits).detach()
        values = clipped_kl(given.chosen.logits, teacher, low, high, least_mass)
        loss = masked_mean(values, given.chosen.mask)
        return loss, {"divergence": figure(loss)}

    return Objective(
        "clipped-kl",
        Signal.LOGITS,
        formula,
        needs=frozenset({Need.SAME_VOCABULARY}),
        limits=(
            Limit({"low": 0.0, "high": 1.0}, "fkl"),
            Limit({}, 0.0, same_models=True),
        ),
    )
