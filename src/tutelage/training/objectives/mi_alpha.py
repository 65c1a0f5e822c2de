"""MI-alpha: a bound of the mutual information of the student's and teacher's hidden states.

The equations are those of Poole et al., On variational bounds of mutual information, arXiv
1905.06922, which He et al., Distiller, arXiv 2109.11105, use; the critic is our choice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.given import Given
from tutelage.training.objectives.objective import Limit, Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.supervised import cross_entropy
from tutelage.training.objectives.tokens import figure


def mi_alpha(critic: Tensor, alpha: float, baseline: float = math.e) -> Tensor:
    """``I_a = 1 + mean_i log(e^{f_ii} / c_i) - mean e^{f_ij} / c_j``, ``c = a m + (1 - a) b``.

    ``m_j = mean_i e^{f_ij}``. At alpha 1 this is InfoNCE, at most log of the batch; at alpha 0
    with baseline e it is NWJ. Below 1 the last mean leaves the pairs i = j out.

    Args:
        critic: (batch, batch), ``f_ij`` of student row i and teacher row j.
        alpha: From 0 to 1.
        baseline: ``b``.

    Returns:
        Scalar, nats.
    """
    rows = len(critic)
    parts = []
    if alpha > 0:
        parts.append(critic.logsumexp(0) - math.log(rows) + math.log(alpha))
    if alpha < 1:
        parts.append(critic.new_full((rows,), math.log(1 - alpha) + math.log(baseline)))
    mean = parts[0] if len(parts) == 1 else torch.logaddexp(*parts)
    ratios = (critic - mean.unsqueeze(0)).exp()
    if alpha < 1:
        others = ~torch.eye(rows, dtype=torch.bool, device=critic.device)
        ratios = ratios[others]
    return 1 + (critic.diagonal() - mean).mean() - ratios.mean()


def cosine_critic(student: Tensor, teacher: Tensor, temperature: float = 0.2) -> Tensor:
    """Cosines of all pairs over a temperature.

    Args:
        student: (batch, width).
        teacher: (batch, width).
        temperature: Divides the cosines.

    Returns:
        (batch, batch).
    """
    unit = torch.nn.functional.normalize
    return unit(student, dim=-1) @ unit(teacher, dim=-1).T / temperature


def mi_alpha_objective(
    alpha: float = 0.5, weight: float = 0.1, temperature: float = 0.2
) -> Objective:
    """``CE - weight I_a``: needs pooled hidden states of one width; for encoders and heads.

    Raises:
        TrainingError: An option is out of range, or a batch has one row.
    """
    if not 0 <= alpha <= 1 or temperature <= 0:
        raise TrainingError(
            f"alpha is {alpha} and temperature {temperature}: give alpha from 0 to 1 and a "
            "positive temperature"
        )

    def formula(given: Given) -> Loss:
        chosen = given.chosen
        hidden = part("hidden", given.hidden)
        if len(hidden) < 2:
            raise TrainingError("objective 'mi-alpha' compares rows: give batches of 2 or more")
        teacher = part("hidden states of the teacher", given.teacher.hidden).detach()
        bound = mi_alpha(cosine_critic(hidden, teacher, temperature), alpha)
        loss = cross_entropy(chosen.logits, chosen.targets, chosen.mask) - weight * bound
        return loss, {"loss": figure(loss), "mutual_information": figure(bound)}

    return Objective(
        "mi-alpha",
        Signal.HIDDEN_STATES,
        formula,
        needs=frozenset({Need.HIDDEN}),
        limits=(Limit({"weight": 0.0}, "sft"),),
    )
