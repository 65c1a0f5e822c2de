"""Certainty forcing: be surer where the prediction is right."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.given import Given, Scored
from tutelage.training.objectives.objective import Limit, Loss, Objective
from tutelage.training.objectives.signal import Signal
from tutelage.training.objectives.supervised import cross_entropy
from tutelage.training.objectives.tokens import entropy, figure, masked_mean


def correct_entropy(
    logits: Tensor, targets: Tensor, mask: Tensor, temperature: float = 0.5
) -> Tensor:
    """Mean entropy of ``softmax(z / T)`` over the positions whose argmax is the target.

    Its gradient by a logit is ``-(1/T) p_v (log p_v + H)``, so a descent step raises the argmax.

    Args:
        logits: (batch, seq, vocab).
        targets: (batch, seq), int64.
        mask: (batch, seq), bool.
        temperature: ``T``.

    Returns:
        Scalar, nats; 0 with a graph where nothing is right.
    """
    right = mask & (logits.argmax(-1) == targets)
    return masked_mean(entropy(logits, temperature), right)


def certainty_loss(scored: Scored, beta: float, temperature: float = 0.5) -> Tensor:
    """``CE(M) + beta Hc(M)`` of one mask.

    For a masked-diffusion student the mask is the masked part of the active block; for a causal
    one it is the whole answer, which is our variant: it makes samples agree more, and is no
    parallel decoding. Source: Chen et al., dParallel, arXiv 2509.26488.

    Args:
        scored: (batch, seq, vocab) logits, targets and mask.
        beta: Weight of the entropy.
        temperature: Of the entropy alone; the cross-entropy has 1.

    Returns:
        Scalar, nats a token.
    """
    loss = cross_entropy(scored.logits, scored.targets, scored.mask)
    extra = correct_entropy(scored.logits, scored.targets, scored.mask, temperature)
    return loss + beta * extra


def complementary_certainty_loss(
    masked: Scored, complement: Scored, beta: float = 2.0, temperature: float = 0.5
) -> Tensor:
    """``CE(M) + CE(M') + beta (Hc(M) + Hc(M'))`` of a mask and its complement in the same block.

    Args:
        masked: (batch, seq, vocab): the pass in which M was masked.
        complement: (batch, seq, vocab): the pass in which M' was masked.
        beta: 2 for LLaDA, 1 for Dream.
        temperature: Of the entropy.

    Returns:
        Scalar, nats a token.

    Raises:
        TrainingError: The masks overlap.
    """
    if bool((masked.mask & complement.mask).any()):
        raise TrainingError("a mask and its complement overlap: mask each position in one of them")
    first = certainty_loss(masked, beta, temperature)
    return first + certainty_loss(complement, beta, temperature)


def certainty_objective(beta: float = 0.2, temperature: float = 0.5) -> Objective:
    """For a causal student; check that agreement still tells right from wrong afterwards.

    Args:
        beta: Weight of the entropy, 0.05 to 0.5.
        temperature: Of the entropy.

    Raises:
        TrainingError: An option is out of range.
    """
    if beta < 0 or temperature <= 0:
        raise TrainingError(
            f"beta is {beta} and temperature {temperature}: give beta >= 0 and temperature > 0"
        )

    def formula(given: Given) -> Loss:
        chosen = given.chosen
        loss = certainty_loss(chosen, beta, temperature)
        with torch.no_grad():
            right = (chosen.logits.argmax(-1) == chosen.targets).float()
            figures = {"loss": figure(loss), "right_share": figure(masked_mean(right, chosen.mask))}
        return loss, figures

    return Objective("certainty", Signal.TEXT, formula, limits=(Limit({"beta": 0.0}, "sft"),))
