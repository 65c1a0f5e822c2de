"""The dollars that a run may spend."""

from __future__ import annotations


class BudgetSpent(Exception):
    """The dollars of the run are spent; nothing more may be asked of a model."""


class Budget:
    """Counts what a run spends and says when it must stop.

    Args:
        max_usd: The cap; ``None`` for no cap.
        spent_usd: What was spent before, e.g. by the run that is resumed.
    """

    def __init__(self, max_usd: float | None, spent_usd: float = 0.0) -> None:
        self.max_usd = max_usd
        self.spent_usd = spent_usd

    def spend(self, cost_usd: float) -> None:
        """Counts a cost that arose."""
        self.spent_usd += cost_usd

    @property
    def exhausted(self) -> bool:
        """Whether the cap is reached."""
        return self.max_usd is not None and self.spent_usd >= self.max_usd

    def check(self) -> None:
        """Asked before each step.

        Raises:
            BudgetSpent: The cap is reached.
        """
        if self.exhausted:
            raise BudgetSpent
