"""REDI: learn from a wrong answer beside the right one, without a reference model."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tutelage.training.objectives.given import Given, Scored
from tutelage.training.objectives.objective import Limit, Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.tokens import figure, sequence_means, target_log_probs


def after_first_difference(chosen: Scored, rejected: Scored) -> Tensor:
    """Mask of the rejected tokens from the first one on that the chosen answer does not share.

    Both answers start at the first position of their masks, wherever that is in the row.

    Args:
        chosen: (batch, seq) targets and mask.
        rejected: (batch, rejected seq) likewise.

    Returns:
        (batch, rejected seq), bool; part of the rejected mask.
    """
    kept = torch.zeros_like(rejected.mask)
    for row in range(len(rejected.mask)):
        right = chosen.targets[row][chosen.mask[row]]
        places = rejected.mask[row].nonzero().squeeze(-1)
        wrong = rejected.targets[row][places]
        shared = min(len(right), len(wrong))
        equal = (right[:shared] == wrong[:shared]).long().cumprod(0)
        kept[row, places[int(equal.sum()) :]] = True
    return kept


def redi_loss(
    chosen: Scored, rejected: Scored, alpha: float = 0.8, floor: float = -4.0
) -> tuple[Tensor, Tensor]:
    """``-log pi(y_w)/|y_w| + alpha log pi(y_l)/|y_l|``, mean over pairs.

    Unbounded below for any ``alpha > 0``. Hence the term of the wrong answer counts only tokens
    after the first that differs, and only while the answer is still likelier than ``floor``;
    ``HeldOutWatch`` is the third guard. Source: Xu et al., Harnessing negative signals,
    arXiv 2505.24850, eq. 5.

    Args:
        chosen: (batch, seq, vocab) logits, targets and mask of the right answers.
        rejected: (batch, rejected seq, vocab) likewise, of the wrong; ``after_first_difference``
            gives the mask of the guard.
        alpha: Weight of the wrong answers, from 0 to 1.
        floor: Nats a token; a wrong answer whose mean is below it is left alone. ``-inf``: never.

    Returns:
        The scalar loss, and (batch,) bool: which wrong answers counted.
    """
    right = sequence_means(target_log_probs(chosen.logits, chosen.targets), chosen.mask)
    wrong = sequence_means(target_log_probs(rejected.logits, rejected.targets), rejected.mask)
    counted = (wrong.detach() >= floor) & rejected.mask.any(-1)
    return (-right + alpha * torch.where(counted, wrong, 0.0)).mean(), counted


@dataclass
class HeldOutWatch:
    """Says when the right answers of held-out pairs have become less likely than they were."""

    tolerance: float = 0.15
    """Nats a token that the mean may fall below its best."""
    best: float = field(default=-torch.inf)

    def must_stop(self, chosen_log_prob: float) -> bool:
        """Whether to stop and go back to the best checkpoint.

        Args:
            chosen_log_prob: Mean log-probability of held-out right answers, nats a token.
        """
        self.best = max(self.best, chosen_log_prob)
        return not chosen_log_prob >= self.best - self.tolerance


def redi_objective(
    alpha: float = 0.8, floor: float = -4.0, only_after_difference: bool = True
) -> Objective:
    """Needs a wrong answer beside each right one; run it after plain fine-tuning.

    The paper trains it for one epoch at a learning rate of 1e-6, 50 times below its first stage.

    Args:
        alpha: Weight of the wrong answers.
        floor: Nats a token below which a wrong answer is left alone.
        only_after_difference: Leave alone the tokens that both answers begin with.
    """

    def formula(given: Given) -> Loss:
        chosen, rejected = given.chosen, part("pairs", given.rejected)
        if only_after_difference:
            mask = after_first_difference(chosen, rejected)
            rejected = Scored(rejected.logits, rejected.targets, mask)
        loss, counted = redi_loss(chosen, rejected, alpha, floor)
        right = sequence_means(target_log_probs(chosen.logits, chosen.targets), chosen.mask)
        figures = {
            "loss": figure(loss),
            "chosen_log_prob": figure(right.mean()),
            "counted_share": figure(counted.float().mean()),
        }
        return loss, figures

    return Objective(
        "redi",
        Signal.TEXT,
        formula,
        needs=frozenset({Need.PAIRS}),
        limits=(Limit({"alpha": 0.0}, "sft-normalised"),),
    )
