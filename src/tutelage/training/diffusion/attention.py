"""Who may look at whom: full, block-causal, and the noisy half beside the clean one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.training.diffusion.canvas import Canvas
from tutelage.training.diffusion.shape import Attention


def allowed(canvas: Canvas, attention: Attention) -> Tensor:
    """(batch, columns, columns), bool: whether the query in a row may look at the key in a column.

    Padding looks at itself alone, so that no row of a softmax is empty.
    """
    valid = canvas.valid()
    seen = valid[:, None, :].expand(-1, valid.shape[1], -1)
    if attention == "block-causal":
        numbers = canvas.block_numbers()
        seen = seen & (numbers[None, :] <= numbers[:, None])
    return seen | torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """A noisy canvas and its clean twin in one pass (BD3-LM, arXiv 2503.09573, section 3)."""

    tokens: Tensor
    """(batch, 2 columns): noisy, then clean."""
    positions: Tensor
    """(batch, 2 columns); the two halves share them."""
    allowed: Tensor
    """(batch, 2 columns, 2 columns)."""
    read_at: Tensor
    """(columns,): where a shifted model's logits of each noisy column are read."""


def noisy_and_clean(clean: Canvas, noisy: Tensor) -> Halves:
    """Trains every block of a block-causal student at once.

    A noisy block sees itself and the clean blocks before it; a clean block sees the clean ones up
    to itself. Three parts make up the mask: block-diagonal, offset block-causal, block-causal.

    Args:
        clean: Prompts and answers.
        noisy: (batch, columns): the same tokens, some of them masked.
    """
    valid = clean.valid()
    batch, columns = valid.shape
    numbers = clean.block_numbers()
    same = numbers[None, :] == numbers[:, None]
    earlier = numbers[None, :] < numbers[:, None]
    nothing = torch.zeros_like(same)
    upper = torch.cat([same, earlier], 1)
    lower = torch.cat([nothing, same | earlier], 1)
    pattern = torch.cat([upper, lower], 0)
    seen = pattern & torch.cat([valid, valid], 1)[:, None, :]
    seen = seen | torch.eye(2 * columns, dtype=torch.bool, device=valid.device)
    positions = clean.positions()
    before = (torch.arange(columns, device=valid.device) - 1).clamp(min=0)
    # The token before a block is committed when the block is written: it is read in the clean half.
    read_at = torch.where(numbers[before] == numbers, before, before + columns)
    return Halves(
        tokens=torch.cat([noisy, clean.tokens], 1),
        positions=torch.cat([positions, positions], 1),
        allowed=seen.expand(batch, -1, -1),
        read_at=read_at,
    )
