"""Preference with the teacher as reference: tell right from wrong better than the teacher does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tutelage.training.objectives.given import Given, Scored
from tutelage.training.objectives.objective import Limit, Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.tokens import figure, sequence_sums, target_log_probs


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float = 0.1) -> Tensor:
    """``-log sigmoid(beta (D_w - D_l))``, mean over pairs.

    Source: Rafailov et al., DPO, with the teacher as reference as in Shu et al., LLaVA-MoD,
    arXiv 2408.15881.

    Args:
        chosen: (batch,), ``D_w = log pi(y_w) - log pi_T(y_w)``, summed over tokens, nats.
        rejected: (batch,), ``D_l`` likewise.
        beta: How far the student may leave the teacher; smaller is farther.

    Returns:
        Scalar; log 2 where the student is the teacher.
    """
    return -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()


def kto_pair_loss(chosen: Tensor, rejected: Tensor, beta: float = 0.1) -> Tensor:
    """``1 - sigmoid(beta (D_w - KL_l))`` and ``1 - sigmoid(beta (KL_w - D_l))``, averaged.

    ``KL_w = max(0, mean D_w)`` and ``KL_l = max(0, mean D_l)`` over the batch carry no gradient:
    they are the point of reference. Source: as ``dpo_loss``.

    Args:
        chosen: (batch,), ``D_w``, nats.
        rejected: (batch,), ``D_l``, nats.
        beta: As in ``dpo_loss``.

    Returns:
        Scalar; 0.5 where the student is the teacher.
    """
    chosen_kl = chosen.mean().clamp(min=0).detach()
    rejected_kl = rejected.mean().clamp(min=0).detach()
    liked = 1 - torch.sigmoid(beta * (chosen - rejected_kl))
    disliked = 1 - torch.sigmoid(beta * (chosen_kl - rejected))
    return (liked.mean() + disliked.mean()) / 2


def log_ratio(scored: Scored, reference: Tensor) -> Tensor:
    """``log pi(y) - log pi_T(y)`` of whole answers.

    Args:
        scored: (batch, seq, vocab) logits, targets and mask of the student.
        reference: (batch, seq) log-probabilities that the teacher gives the same tokens, nats; a
            teacher of another tokenizer puts its sum at one position of the mask and 0 elsewhere.

    Returns:
        (batch,), nats.
    """
    own = sequence_sums(target_log_probs(scored.logits, scored.targets), scored.mask)
    return own - sequence_sums(reference.detach(), scored.mask)


def _objective(
    name: str, rule: Callable[[Tensor, Tensor, float], Tensor], beta: float
) -> Objective:
    def formula(given: Given) -> Loss:
        teacher = given.teacher
        chosen = log_ratio(given.chosen, part("log-probs of the teacher", teacher.log_probs))
        rejected = log_ratio(
            part("pairs", given.rejected),
            part("log-probs of the teacher", teacher.rejected_log_probs),
        )
        loss = rule(chosen, rejected, beta)
        figures = {
            "loss": figure(loss),
            "margin": figure((chosen - rejected).mean()),
            "accuracy": figure((chosen > rejected).float().mean()),
        }
        return loss, figures

    value = 0.6931471805599453 if name == "dpo" else 0.5
    return Objective(
        name,
        Signal.LOG_PROBS,
        formula,
        needs=frozenset({Need.PAIRS}),
        limits=(Limit({}, value, same_models=True),),
    )


def dpo_objective(beta: float = 0.1) -> Objective:
    """Needs pairs and the teacher's log-probabilities of both answers."""
    return _objective("dpo", dpo_loss, beta)


def kto_pair_objective(beta: float = 0.1) -> Objective:
    """As ``dpo_objective``, each answer weighed by itself."""
    return _objective("kto-pair", kto_pair_loss, beta)
