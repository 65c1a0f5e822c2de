"""One sample where recorded steps show that more of them would not change the decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tutelage.cascade.calibration import certify
from tutelage.cascade.certificate import Certificate
from tutelage.cascade.risk_curve import logged_losses
from tutelage.cascade.scores import ScoreModel
from tutelage.runtime.protocols import DeferralPolicy, Describer
from tutelage.runtime.types import Agreement, Decision, Retrieved, SamplePlan, Step

_NO_VOTES = Agreement(votes=(), samples=0, chosen=None, agreed=False)
_LEVELS = 20


class Adaptive:
    """Draws a single sample where the prior reaches a level, else all samples of the policy.

    The prior is P(right) from the demonstrations and the episode, before anything is sampled. What
    is certified is certified of the policy with its adaptive draws, which plays the calibration.

    Source: adaptive numbers of samples (arXiv 2305.11860), decided before the first one.

    Args:
        policy: Plans and decides.
        describer: Reads the features of a step.
        prior: The prior.
        sure: Least prior with which one sample is enough.
    """

    def __init__(
        self, policy: DeferralPolicy, describer: Describer, prior: ScoreModel, sure: float
    ) -> None:
        self._policy = policy
        self._describer = describer
        self._prior = prior
        self._sure = sure

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The wrapped policy's plan, cut to its first sample where the prior allows it."""
        plan = self._policy.plan(step, demonstrations)
        if isinstance(plan, Decision) or plan.samples == 1:
            return plan
        if demonstrations is None:
            return replace(plan, waits=True)
        prior = self._prior.score(self._describer.describe(step, _NO_VOTES, demonstrations))
        return replace(plan, samples=1, draw="together") if prior >= self._sure else plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The wrapped policy's decision."""
        return self._policy.decide(step, agreement, demonstrations)


def least_sure(
    episodes: Sequence[str],
    priors: Sequence[float],
    same: Sequence[bool],
    *,
    alpha: float,
    delta: float,
) -> float | None:
    """The lowest level of the prior from which on one sample decides as all of them do.

    Args:
        episodes: (steps,), the episode of each recorded step.
        priors: (steps,).
        same: (steps,), whether the first sample alone leads to the decision of all samples.
        alpha: Share of an episode's steps that may be decided otherwise, on average.
        delta: Allowed probability that it is more all the same.

    Returns:
        The level; ``None`` where the steps certify none.

    Raises:
        ConfigError: ``alpha`` or ``delta`` is out of range.
    """
    if not priors:
        return None
    ordered = sorted(priors, reverse=True)
    places = {round((part + 1) / _LEVELS * (len(ordered) - 1)) for part in range(_LEVELS)}
    grid = sorted({ordered[place] for place in places}, reverse=True)
    losses, _ = logged_losses(episodes, priors, same, grid, unit="step")
    found = certify(losses, grid, alpha=alpha, delta=delta, unit="step", scope="logged states")
    return found.threshold if isinstance(found, Certificate) else None
