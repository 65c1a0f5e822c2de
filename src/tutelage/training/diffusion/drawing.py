"""Tokens for masked slots, by temperature and nucleus, each row from its own chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Draw:
    """How the tokens of one row are drawn."""

    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    random: torch.Generator | None = None
    """On the CPU, so that a seed gives the same tokens on every device."""


def draw_tokens(log_probs: Tensor, draws: Sequence[Draw]) -> Tensor:
    """One token for every slot.

    A row's tokens depend on its own generator alone, not on who shares its batch.

    Args:
        log_probs: (batch, slots, vocabulary), nats.
        draws: One for each row.

    Returns:
        (batch, slots), int64.
    """
    chosen = log_probs.argmax(-1)
    for row, draw in enumerate(draws):
        if draw.temperature > 0:
            chosen[row] = _sampled(log_probs[row], draw)
    return chosen


def _sampled(log_probs: Tensor, draw: Draw) -> Tensor:
    heated = (log_probs / draw.temperature).log_softmax(-1)
    if draw.top_p < 1:
        ranked, order = heated.exp().sort(-1, descending=True)
        # A token stays if the likelier ones do not fill the nucleus; the first one always does.
        outside = ranked.cumsum(-1) - ranked >= draw.top_p
        outside[:, 0] = False
        heated = heated.masked_fill(
            torch.zeros_like(outside).scatter(-1, order, outside), float("-inf")
        )
    noise = torch.rand(heated.shape, generator=draw.random, dtype=torch.float64)
    # The largest of the log-probabilities plus Gumbel noise is a sample.
    gumbel = -(-noise.clamp(min=1e-300).log()).log()
    return (heated + gumbel.to(heated.device)).argmax(-1)
