"""A bidirectional transformer that fills in masked tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutelage.training.diffusion.attention import allowed, noisy_and_clean
from tutelage.training.diffusion.canvas import Canvas
from tutelage.training.diffusion.shape import StudentShape

KeysValues = list[tuple[Tensor, Tensor]]
"""One (keys, values) pair a layer, each (batch, key-value heads, columns, head width)."""


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one forward leaves."""

    hidden: Tensor
    """(batch, columns, width), after the last norm."""
    keys_values: KeysValues
    """Of the past, if one was given, and of these columns."""


class DiffusionTransformer(nn.Module):  # type: ignore[misc]
    """Pre-norm layers of grouped-query attention with rotary positions, and a gated feed-forward.

    The layers are Llama's (RMSNorm, half-rotated pairs, SiLU gates), so that a Llama checkpoint
    fits it; nothing in it is causal: who sees whom is an argument.

    Args:
        shape: Sizes.
    """

    def __init__(self, shape: StudentShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        if shape.tied:
            self.head.weight = self.embedding.weight
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                # What is added to the stream stays small however many layers add to it.
                adds = name.endswith(("output.weight", "down.weight"))
                depth = (2 * shape.layers) ** -0.5 if adds else 1.0
                nn.init.normal_(weight, std=depth * weight.shape[-1] ** -0.5)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = self.embedding.weight.device
        return found

    def parameter_count(self) -> int:
        """Weights; a tied matrix counts once."""
        return sum(weight.numel() for weight in self.parameters())

    def forward(
        self, tokens: Tensor, positions: Tensor, seen: Tensor, past: KeysValues | None = None
    ) -> Pass:
        """One pass.

        Args:
            tokens: (batch, columns), int64.
            positions: (batch, columns), int64.
            seen: (batch, columns, past columns + columns), bool: ``True`` may be looked at.
            past: Keys and values of columns before these.
        """
        hidden = self.embedding(tokens)
        turns = _turns(positions, self.shape, hidden.dtype)
        kept: KeysValues = []
        for number, layer in enumerate(self.layers):
            before = past[number] if past is not None else None
            hidden, keys_values = layer(hidden, turns, seen[:, None], before)
            kept.append(keys_values)
        return Pass(self.norm(hidden), kept)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., vocabulary) of hidden states (..., width); the mask token cannot be predicted."""
        scores: Tensor = self.head(hidden)
        forbidden = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
        forbidden[self.shape.mask_token] = True
        return scores.masked_fill(forbidden, float("-inf"))

    def score(self, clean: Canvas, noisy: Tensor) -> Tensor:
        """Logits (batch, slots, vocabulary) of every slot of a noisy canvas, for training.

        A block-causal student is given the clean half beside the noisy one, so that each block
        sees what came before it as it will be when the block is decoded.

        Args:
            clean: Prompts and answers.
            noisy: (batch, columns): the same tokens, some of them masked.
        """
        start, columns = clean.prompt_columns, clean.tokens.shape[1]
        slots = torch.arange(start, columns, device=noisy.device)
        if self.shape.attention == "block-causal":
            halves = noisy_and_clean(clean, noisy)
            hidden = self(halves.tokens, halves.positions, halves.allowed).hidden
            read_at = halves.read_at[slots] if self.shape.shifted else slots
        else:
            hidden = self(noisy, clean.positions(), allowed(clean, "full")).hidden
            read_at = slots - 1 if self.shape.shifted else slots
        return self.logits(hidden[:, read_at])


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: StudentShape) -> None:
        super().__init__()
        self.shape = shape
        inner, narrow = shape.heads * shape.head_width, shape.key_value_heads * shape.head_width
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.query = nn.Linear(shape.width, inner, bias=False)
        self.key = nn.Linear(shape.width, narrow, bias=False)
        self.value = nn.Linear(shape.width, narrow, bias=False)
        self.output = nn.Linear(inner, shape.width, bias=False)
        self.feed_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(
        self,
        hidden: Tensor,
        turns: tuple[Tensor, Tensor],
        seen: Tensor,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        normed = self.attention_norm(hidden)
        queries = _rotated(self._split(self.query(normed)), turns)
        keys = _rotated(self._split(self.key(normed)), turns)
        values = self._split(self.value(normed))
        if past is not None:
            keys = torch.cat([past[0], keys], 2)
            values = torch.cat([past[1], values], 2)
        mixed = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=seen,
            enable_gqa=self.shape.heads != self.shape.key_value_heads,
        )
        hidden = hidden + self.output(mixed.transpose(1, 2).flatten(2))
        normed = self.feed_norm(hidden)
        gated = functional.silu(self.gate(normed)) * self.up(normed)
        return hidden + self.down(gated), (keys, values)

    def _split(self, projected: Tensor) -> Tensor:
        """(batch, heads, columns, head width)."""
        return projected.unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)


def _turns(positions: Tensor, shape: StudentShape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (batch, 1, columns, head width)."""
    half = torch.arange(0, shape.head_width, 2, device=positions.device).float()
    frequencies = shape.rope_theta ** (-half / shape.head_width)
    angles = positions[..., None].float() * frequencies
    angles = torch.cat([angles, angles], -1)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotated(vectors: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    first, second = vectors.chunk(2, -1)
    return vectors * turns[0] + torch.cat([-second, first], -1) * turns[1]
