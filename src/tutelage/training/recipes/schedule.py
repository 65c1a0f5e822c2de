"""The learning rate at each step, as a pure function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Decay = Literal["cosine", "linear", "none"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rises in a straight line, then decays towards 0 at the end."""

    peak: float
    steps: int
    warm_up: float = 0.05
    """Share of the steps in which the rate rises."""
    decay: Decay = "cosine"

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0 to ``steps - 1``; above 0 at each."""
        rising = max(1, round(self.warm_up * self.steps))
        if step < rising:
            return self.peak * (step + 1) / rising
        done = (step - rising) / max(1, self.steps - rising)
        if self.decay == "cosine":
            return self.peak * (1 + math.cos(math.pi * done)) / 2
        if self.decay == "linear":
            return self.peak * (1 - done)
        return self.peak
