"""Log-probabilities of tokens and means over the positions that count."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

FLOOR: Final = -1e4
"""Nats that stand for a token forbidden by a logit of -inf, so that sums stay finite."""


def log_probs(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``log softmax(logits / temperature)`` in float32 or better.

    Args:
        logits: (..., vocab); -inf forbids a token, which then gets ``FLOOR``.
        temperature: Divides the logits.

    Returns:
        (..., vocab), finite.
    """
    exact = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(exact / temperature, -1).masked_fill(exact == -torch.inf, FLOOR)


def target_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target.

    Args:
        logits: (batch, seq, vocab).
        targets: (batch, seq), int64.

    Returns:
        (batch, seq), nats.
    """
    return log_probs(logits).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions of the mask; 0 with a graph where it is empty.

    Args:
        values: (batch, seq).
        mask: (batch, seq), bool.
    """
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def sequence_sums(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of each row over its mask.

    Args:
        values: (batch, seq).
        mask: (batch, seq), bool.

    Returns:
        (batch,).
    """
    return torch.where(mask, values, 0.0).sum(-1)


def sequence_means(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row over its mask; 0 for an empty one.

    Args:
        values: (batch, seq).
        mask: (batch, seq), bool.

    Returns:
        (batch,).
    """
    return sequence_sums(values, mask) / mask.sum(-1).clamp(min=1)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of ``softmax(logits / temperature)``.

    Args:
        logits: (..., vocab).
        temperature: Divides the logits.

    Returns:
        (...), nats.
    """
    logs = log_probs(logits, temperature)
    return -(logs.exp() * logs).sum(-1)


def figure(value: Tensor) -> float:
    """A scalar for a log, without its graph."""
    return float(value.detach())
