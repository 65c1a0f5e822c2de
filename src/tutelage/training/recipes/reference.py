"""A model that teaches or is compared with, and does not learn."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.training.recipes.packing import Batch
from tutelage.training.recipes.settings import TrainingSettings
from tutelage.training.recipes.weights import load_weights, logits_at

if TYPE_CHECKING:
    from torch import Tensor


class Reference:
    """A teacher's checkpoint, or the student as it was before training.

    The student's own former self costs no memory where adapters are trained: without them it is
    what it was.

    Args:
        model: The student in training.
        teacher: Folder of another checkpoint, if it is one.
        checkpoint: Folder that the student started from.
        settings: Those of the run.
        device: torch device.
    """

    def __init__(
        self,
        model: Any,
        teacher: Path | None,
        checkpoint: Path,
        settings: TrainingSettings,
        device: str,
    ) -> None:
        self._without_adapter = teacher is None and settings.lora is not None
        self._model = model
        if not self._without_adapter:
            dtype = "bfloat16" if settings.precision == "bf16" else "float32"
            self._model = load_weights(teacher or checkpoint, dtype=dtype, device=device).eval()

    def logits(self, batch: Batch) -> Tensor:
        """Its logits at the supervised positions, without a graph: (n, vocab)."""
        import torch

        former = self._model.disable_adapter() if self._without_adapter else nullcontext()
        with torch.no_grad(), former:
            return logits_at(self._model, batch)
