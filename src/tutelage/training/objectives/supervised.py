"""Supervised fine-tuning on actions: cross-entropy of the gated answers."""

from __future__ import annotations

from torch import Tensor

from tutelage.training.objectives.given import Given
from tutelage.training.objectives.objective import Limit, Loss, Objective
from tutelage.training.objectives.signal import Signal
from tutelage.training.objectives.tokens import (
    figure,
    masked_mean,
    sequence_means,
    target_log_probs,
)


def cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """``mean_m -log q(y)``: the mean over all tokens of the mask.

    Args:
        logits: (batch, seq, vocab).
        targets: (batch, seq), int64.
        mask: (batch, seq), bool.

    Returns:
        Scalar, nats a token.
    """
    return masked_mean(-target_log_probs(logits, targets), mask)


def length_normalised_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """``mean_rows -log q(y) / |y|``: each answer counts alike, however long it is.

    Args:
        logits: (batch, seq, vocab).
        targets: (batch, seq), int64.
        mask: (batch, seq), bool.

    Returns:
        Scalar, nats a token.
    """
    return sequence_means(-target_log_probs(logits, targets), mask).mean()


def sft_objective() -> Objective:
    """Plain fine-tuning, the control of every other objective."""

    def formula(given: Given) -> Loss:
        chosen = given.chosen
        loss = cross_entropy(chosen.logits, chosen.targets, chosen.mask)
        return loss, {"cross_entropy": figure(loss)}

    return Objective("sft", Signal.TEXT, formula)


def normalised_sft_objective() -> Objective:
    """Fine-tuning in which short and long answers weigh the same."""

    def formula(given: Given) -> Loss:
        chosen = given.chosen
        loss = length_normalised_cross_entropy(chosen.logits, chosen.targets, chosen.mask)
        return loss, {"cross_entropy": figure(loss)}

    limits = (Limit({}, "redi", {"alpha": 0.0}),)
    return Objective("sft-normalised", Signal.TEXT, formula, limits=limits)
