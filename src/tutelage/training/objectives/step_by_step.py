"""Distilling step-by-step: learn the action and, apart from it, the reason."""

from __future__ import annotations

from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.given import Given, Scored
from tutelage.training.objectives.objective import Limit, Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.supervised import cross_entropy
from tutelage.training.objectives.tokens import figure


def step_by_step_loss(action: Scored, reason: Scored, action_share: float = 0.5) -> Tensor:
    """``a CE(action) + (1 - a) CE(reason)``, each a token mean of its own forward pass.

    So a long reason does not drown a short action. The two passes see the same states under
    different tags, and serving with the tag of actions pays for no reason.
    Source: Hsieh et al., Distilling step-by-step, arXiv 2305.02301, in its convex form.

    Args:
        action: (batch, seq, vocab) logits and their targets.
        reason: (batch, seq, vocab) likewise; length and rows may differ.
        action_share: ``a``, from 0 to 1.

    Returns:
        Scalar, nats a token.
    """
    acted = cross_entropy(action.logits, action.targets, action.mask)
    explained = cross_entropy(reason.logits, reason.targets, reason.mask)
    return action_share * acted + (1 - action_share) * explained


def step_by_step_objective(action_share: float = 0.5) -> Objective:
    """Needs the teacher's reason beside its action.

    Raises:
        TrainingError: ``action_share`` is not within 0 and 1.
    """
    if not 0 <= action_share <= 1:
        raise TrainingError(f"action_share is {action_share}: give a number from 0 to 1")

    def formula(given: Given) -> Loss:
        reason = part("rationale", given.explained)
        loss = step_by_step_loss(given.chosen, reason, action_share)
        return loss, {"loss": figure(loss)}

    return Objective(
        "step-by-step",
        Signal.TEXT,
        formula,
        needs=frozenset({Need.RATIONALE}),
        limits=(Limit({"action_share": 1.0}, "sft"),),
    )
