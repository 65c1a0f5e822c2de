"""The losses of a masked-diffusion student."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tutelage.training.objectives.certainty import certainty_loss
from tutelage.training.objectives.given import Scored
from tutelage.training.objectives.supervised import cross_entropy

MaskedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (batch, slots, vocabulary), targets (batch, slots), scored (batch, slots)) -> scalar."""


def masked_cross_entropy(logits: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    """``mean over scored slots of -log q(y)``, uniformly weighted.

    Args:
        logits: (batch, slots, vocabulary) of a noisy canvas; not shifted.
        targets: (batch, slots), int64.
        scored: (batch, slots), bool: masked slots that carry loss.

    Returns:
        Scalar, nats a token; 0 with a graph where nothing is scored.
    """
    return cross_entropy(logits, targets, scored)


def certainty_forcing(beta: float, temperature: float = 0.5) -> MaskedLoss:
    """``CE + beta * mean entropy(softmax(z / T))`` over scored slots predicted right.

    Section 3 of dParallel (arXiv 2509.26488); 2 is its beta for LLaDA, 1 for Dream.

    Args:
        beta: Weight of the entropy term; 0 is ``masked_cross_entropy``.
        temperature: ``T``.
    """

    def loss(logits: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
        return certainty_loss(Scored(logits, targets, scored), beta, temperature)

    return loss
