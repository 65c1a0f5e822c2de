"""Which steps of the student the teacher is asked about afterwards."""

from __future__ import annotations

from tutelage.cascade.chance import toss
from tutelage.runtime.errors import ConfigError


class RandomAudits:
    """A share of the student's steps, chosen by chance.

    Source: randomised shadow checks; the recorded probability makes what they find an unbiased
    estimate of all served steps (Horvitz and Thompson 1952).

    Args:
        share: Probability in [0, 1] that a step is audited.
        seed: Another seed chooses other steps.

    Raises:
        ConfigError: ``share`` is outside [0, 1].
    """

    def __init__(self, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise ConfigError(f"audits = {share}: give a share between 0 and 1, such as 0.02")
        self._share = share
        self._seed = seed

    def chosen(self, tenant: str, decision_id: str) -> float | None:
        """The probability with which the step was chosen; ``None`` if it was not."""
        if toss(self._seed, "audit", tenant, decision_id) < self._share:
            return self._share
        return None
