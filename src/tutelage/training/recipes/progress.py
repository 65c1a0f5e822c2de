"""How fast a run is, and when it will end."""

from __future__ import annotations

from collections.abc import Callable

from tutelage.training.recipes.recipe import TrainingProgress


class ProgressMeter:
    """Counts steps and tokens of one sitting; earlier ones of a resumed run cost no time here.

    Args:
        steps: Optimizer steps of the whole run.
        tokens_ahead: Tokens of the whole run.
        step: Steps made before this sitting.
        tokens: Tokens of these steps.
        timer: A monotonic clock in seconds.
    """

    def __init__(
        self, steps: int, tokens_ahead: int, step: int, tokens: int, timer: Callable[[], float]
    ) -> None:
        self._steps = steps
        self._tokens_ahead = tokens_ahead
        self.step = step
        self.tokens = tokens
        self._tokens_before = tokens
        self._timer = timer
        self._started = timer()

    @property
    def elapsed_s(self) -> float:
        """Seconds of this sitting."""
        return self._timer() - self._started

    def stepped(self, loss: float, tokens: int) -> TrainingProgress:
        """Counts one optimizer step of ``tokens`` tokens."""
        self.step += 1
        self.tokens += tokens
        elapsed = self.elapsed_s
        speed = (self.tokens - self._tokens_before) / elapsed if elapsed > 0 else 0.0
        left = self._tokens_ahead - self.tokens
        return TrainingProgress(
            step=self.step,
            steps=self._steps,
            loss=loss,
            tokens=self.tokens,
            tokens_per_s=speed,
            remaining_s=left / speed if speed > 0 else 0.0,
        )
