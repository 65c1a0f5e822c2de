"""A transformer of two layers, small enough to train in a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.training.objectives.trial.wording import (
    ANSWER,
    VOCABULARY,
)

WIDTH: Final = 32
HEADS: Final = 2
LAYERS: Final = 2
POSITIONS: Final = 32
TEACHER_WIDTH: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class ToyStudent:
    """Its weights by name; causal, pre-norm, tied output."""

    weights: dict[str, Tensor]

    @staticmethod
    def drawn(seed: int) -> ToyStudent:
        """Fresh weights."""
        generator = torch.Generator().manual_seed(seed)
        shapes = {"tokens": (VOCABULARY, WIDTH), "places": (POSITIONS, WIDTH)}
        for layer in range(LAYERS):
            shapes[f"{layer}.attention"] = (3 * WIDTH, WIDTH)
            shapes[f"{layer}.out"] = (WIDTH, WIDTH)
            shapes[f"{layer}.up"] = (4 * WIDTH, WIDTH)
            shapes[f"{layer}.down"] = (WIDTH, 4 * WIDTH)
        shapes["to_teacher"] = (TEACHER_WIDTH, WIDTH)
        weights = {
            name: (torch.randn(shape, generator=generator) * shape[1] ** -0.5).requires_grad_()
            for name, shape in shapes.items()
        }
        return ToyStudent(weights)

    def parameters(self) -> list[Tensor]:
        """All weights."""
        return list(self.weights.values())

    def hidden(self, tokens: Tensor) -> Tensor:
        """Last hidden states.

        Args:
            tokens: (batch, seq), int64.

        Returns:
            (batch, seq, width).
        """
        batch, seq = tokens.shape
        x = self.weights["tokens"][tokens] + self.weights["places"][:seq]
        for layer in range(LAYERS):
            mixed = F.linear(F.layer_norm(x, (WIDTH,)), self.weights[f"{layer}.attention"])
            q, k, v = mixed.view(batch, seq, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            seen = seen.transpose(1, 2).reshape(batch, seq, WIDTH)
            x = x + F.linear(seen, self.weights[f"{layer}.out"])
            wide = F.gelu(F.linear(F.layer_norm(x, (WIDTH,)), self.weights[f"{layer}.up"]))
            x = x + F.linear(wide, self.weights[f"{layer}.down"])
        return F.layer_norm(x, (WIDTH,))

    def logits(self, hidden: Tensor) -> Tensor:
        """(batch, seq, width) -> (batch, seq, vocabulary)."""
        return F.linear(hidden, self.weights["tokens"])

    def answers(self, prompts: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Writes an act after each prompt, the likeliest or one drawn.

        Args:
            prompts: (batch, seq), int64.
            generator: Draws; ``None``: the likeliest tokens.

        Returns:
            (batch, 2), int64.
        """
        tokens = prompts
        for _ in range(ANSWER):
            scores = self.logits(self.hidden(tokens)[:, -1]).detach()
            if generator is None:
                following = scores.argmax(-1, keepdim=True)
            else:
                following = torch.multinomial(scores.softmax(-1), 1, generator=generator)
            tokens = torch.cat([tokens, following], 1)
        return tokens[:, -ANSWER:]
