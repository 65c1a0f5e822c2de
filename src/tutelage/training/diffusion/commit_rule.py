"""Which of the masked slots are written after a forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tutelage.runtime.errors import ConfigError


class CommitRule(Protocol):
    """Chooses slots to write; at least one in every row that has a masked slot."""

    def commit(self, log_probs: Tensor, masked: Tensor) -> Tensor:
        """The slots to write now.

        Args:
            log_probs: (batch, slots, vocabulary), nats at temperature 1, in float64; finite or
                -inf.
            masked: (batch, slots), bool: the masked slots of the active block.

        Returns:
            (batch, slots), bool; within ``masked``.
        """
        ...


@dataclass(frozen=True, slots=True)
class TopK:
    """The ``k`` slots whose likeliest token is likeliest; 1 is one token a forward."""

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"top-k = {self.k}: commit at least 1 token a forward")

    def commit(self, log_probs: Tensor, masked: Tensor) -> Tensor:
        """The best ``k`` of each row."""
        best = log_probs.amax(-1).masked_fill(~masked, float("-inf"))
        rank = best.argsort(dim=-1, descending=True, stable=True).argsort(-1)
        return masked & (rank < self.k)


@dataclass(frozen=True, slots=True)
class ConfidenceThreshold:
    """Every slot whose likeliest token has a probability of at least ``least``, and the best one.

    Fast-dLLM's parallel decoding (arXiv 2505.22618).
    """

    least: float = 0.9

    def commit(self, log_probs: Tensor, masked: Tensor) -> Tensor:
        """All that are likely enough."""
        enough = log_probs.amax(-1).exp() >= self.least
        return (masked & enough) | TopK(1).commit(log_probs, masked)


@dataclass(frozen=True, slots=True)
class EntropyThreshold:
    """Every slot whose entropy is below ``most`` nats, and the most certain one.

    dParallel's decoding (arXiv 2509.26488). 0 writes one slot a forward, infinity the whole block.
    """

    most: float = 0.5

    def commit(self, log_probs: Tensor, masked: Tensor) -> Tensor:
        """All that are certain enough."""
        found = entropies(log_probs)
        best = found.masked_fill(~masked, float("inf")).argmin(-1, keepdim=True)
        first = torch.zeros_like(masked).scatter(-1, best, True)
        return masked & ((found < self.most) | first)


def entropies(log_probs: Tensor) -> Tensor:
    """Entropy of each slot.

    Args:
        log_probs: (..., vocabulary); -inf counts nothing.

    Returns:
        (...), nats.
    """
    terms = log_probs.exp() * log_probs
    return -terms.nan_to_num(nan=0.0).sum(-1)


def commit_rule(name: str, value: float | None = None) -> CommitRule:
    """A rule by the name that settings use: ``one-token``, ``top-k``, ``confidence``, ``entropy``.

    Args:
        name: Of the rule.
        value: Tokens a forward, or the threshold; the rule's own if ``None``.

    Raises:
        ConfigError: There is no such rule, or the value is out of range.
    """
    if name == "one-token":
        return TopK(1)
    if name == "top-k":
        if value is not None and value != int(value):
            raise ConfigError(f"top-k = {value:g}: use a whole number of tokens")
        return TopK(2 if value is None else int(value))
    if name == "confidence":
        least = 0.9 if value is None else value
        if not 0 <= least <= 1:
            raise ConfigError(f"confidence = {least:g}: use a probability from 0 to 1")
        return ConfidenceThreshold(least)
    if name == "entropy":
        most = 0.5 if value is None else value
        if not most >= 0:
            raise ConfigError(f"entropy = {most:g}: use nats from 0 up")
        return EntropyThreshold(most)
    raise ConfigError(
        f"commit rule {name!r} is unknown: use one-token, top-k, confidence or entropy"
    )
