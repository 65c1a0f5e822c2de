"""What a recipe is given and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tutelage.training.data.example import TrainingExample


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a run is, after each optimizer step."""

    step: int
    steps: int
    loss: float
    tokens: int
    """Tokens that went through the model so far."""
    tokens_per_s: float
    remaining_s: float


Watch = Callable[[TrainingProgress], None]


@dataclass(frozen=True, slots=True)
class TrainedStudent:
    """A checkpoint that a recipe made."""

    checkpoint: Path
    """Folder of merged weights in safetensors with the tokenizer; servable as it is."""
    adapter: Path | None
    """Folder of the adapter by itself, where there is one."""
    losses: tuple[float, ...]
    """Training loss after each optimizer step."""
    tokens: int
    supervised_tokens: int
    """Tokens that carried loss."""
    wall_s: float
    peak_memory_bytes: int
    settings: Mapping[str, object] = field(default_factory=dict)
    """What the recipe was run with, as JSON values."""


class Recipe(Protocol):
    """Trains a student."""

    def train(
        self,
        examples: Sequence[TrainingExample],
        checkpoint: Path,
        out: Path,
        watch: Watch | None = None,
    ) -> TrainedStudent:
        """Trains from ``checkpoint``; run again with the same ``out``, it goes on where it was.

        Args:
            examples: What to learn; not empty.
            checkpoint: Folder of the student to start from, in the Hugging Face layout.
            out: Folder of this run: its checkpoints, its log and the result.
            watch: Called after each optimizer step.

        Raises:
            NoExamples: There is nothing to train on.
            TrainingError: The run cannot go on; the text names the setting to change.
        """
        ...
