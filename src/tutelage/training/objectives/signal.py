"""What a teacher can show of itself, and what a batch must hold beside the answer."""

from __future__ import annotations

from enum import StrEnum


class Signal(StrEnum):
    """What a teacher gives, from the poorest (T0) to the richest (T4); the order is the tier."""

    TEXT = "text"
    """T0: its answers; any API."""
    LOG_PROBS = "log-probs"
    """T1: the log-probability of each token of a given text."""
    TOP_K = "top-k"
    """T2: the likeliest tokens at each position with their log-probabilities."""
    LOGITS = "logits"
    """T3: all logits, so a local teacher of the same vocabulary."""
    HIDDEN_STATES = "hidden-states"
    """T4: its hidden states."""

    @property
    def tier(self) -> int:
        """0 to 4."""
        return list(Signal).index(self)

    def gives(self, needed: Signal) -> bool:
        """Whether a teacher of this signal can give the one needed: the richer hold the poorer."""
        return self.tier >= needed.tier


class Need(StrEnum):
    """What an objective wants of a batch beside the teacher's signal."""

    PAIRS = "pairs"
    """A rejected answer to the same state beside the chosen one."""
    RATIONALE = "rationale"
    """The teacher's reason, as an answer of its own."""
    CHUNKS = "chunks"
    """Byte-aligned chunks of both tokenizers."""
    HIDDEN = "hidden"
    """The student's pooled hidden states, as wide as the teacher's."""
    SAME_VOCABULARY = "same-vocabulary"
    """Teacher and student number their tokens alike."""
    DEMONSTRATIONS = "demonstrations"
    """The student's own logits with demonstrations in its prompt."""
