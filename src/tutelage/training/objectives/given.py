"""What a loss is computed from: forward passes that were done, and the teacher's signal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tutelage.training.objectives.signal import Signal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One forward pass of the student over answers; position i of the logits predicts target i."""

    logits: Tensor
    """(batch, seq, vocab)."""
    targets: Tensor
    """(batch, seq), int64; any valid id where the mask is off."""
    mask: Tensor
    """(batch, seq), bool: the positions that carry loss."""

    @staticmethod
    def causal(logits: Tensor, tokens: Tensor, supervised: Tensor) -> Scored:
        """Shifts a causal model's pass by one: the logits at i predict the token at i + 1.

        Args:
            logits: (batch, seq, vocab) of ``tokens``.
            tokens: (batch, seq), int64.
            supervised: (batch, seq), bool: the tokens that carry loss.
        """
        return Scored(logits[:, :-1], tokens[:, 1:], supervised[:, 1:])


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """The teacher's likeliest tokens at each position."""

    ids: Tensor
    """(batch, seq, k), int64; distinct at a position."""
    log_probs: Tensor
    """(batch, seq, k), nats."""


@dataclass(frozen=True, slots=True, eq=False)
class TeacherSignal:
    """What the teacher said of this batch; absent is what it does not expose."""

    log_probs: Tensor | None = None
    """(batch, seq): of the chosen targets, nats (T1)."""
    rejected_log_probs: Tensor | None = None
    """(batch, rejected seq): of the rejected targets, nats (T1)."""
    top_k: TopK | None = None
    logits: Tensor | None = None
    """(batch, seq, vocab): at the chosen targets (T3)."""
    hidden: Tensor | None = None
    """(batch, width): pooled (T4)."""

    def has(self, signal: Signal) -> bool:
        """Whether this batch holds the signal itself."""
        held = {
            Signal.TEXT: True,
            Signal.LOG_PROBS: self.log_probs is not None,
            Signal.TOP_K: self.top_k is not None,
            Signal.LOGITS: self.logits is not None,
            Signal.HIDDEN_STATES: self.hidden is not None,
        }
        return held[signal]


@dataclass(frozen=True, slots=True, eq=False)
class ChunkPairs:
    """The same texts, cut where both tokenizers end a token; see ``alm.align``."""

    student: Tensor
    """(batch, seq), int64: number of the chunk that each of the student's targets is in, or -1."""
    teacher: Tensor
    """(batch, teacher seq), int64: likewise for the teacher's tokens."""
    teacher_log_probs: Tensor
    """(batch, teacher seq): of the teacher's tokens, nats."""
    student_ending: Tensor | None = None
    """(batch, chunks): log-mass that the student gives to a boundary after each chunk, nats."""
    teacher_ending: Tensor | None = None
    """(batch, chunks): likewise the teacher."""


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A batch for an objective; each objective says which parts it needs."""

    chosen: Scored
    """The gated answers."""
    rejected: Scored | None = None
    """Wrong answers to the same states, row by row."""
    explained: Scored | None = None
    """The teacher's reasons for the same states; rows and length may differ."""
    teacher: TeacherSignal = field(default_factory=TeacherSignal)
    chunks: ChunkPairs | None = None
    demonstrated: Tensor | None = None
    """(batch, seq, vocab): the student's logits at the chosen targets, demonstrations in view."""
    hidden: Tensor | None = None
    """(batch, width): the student's pooled hidden states."""
