"""Demonstrations into weights: the student without them learns from itself with them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.divergences import coarsened, kl, mixture
from tutelage.training.objectives.given import Given
from tutelage.training.objectives.objective import Limit, Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.tokens import figure, log_probs, masked_mean


def context_kl(
    plain: Tensor, demonstrated: Tensor, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """``KL(sg(with demonstrations) || without)``, token mean; not multiplied by temperature^2.

    Both passes score the same answer, so position i is the same token in both.

    Args:
        plain: (batch, seq, vocab), the student's logits for the state alone.
        demonstrated: (batch, seq, vocab), its logits for state and demonstrations.
        mask: (batch, seq), bool.
        temperature: Divides both logits.

    Returns:
        Scalar, nats a token.
    """
    seen = log_probs(demonstrated.detach(), temperature)
    return masked_mean(kl(seen, log_probs(plain, temperature)), mask)


def top_k_jsd(
    plain: Tensor, demonstrated: Tensor, mask: Tensor, k: int = 100, beta: float = 0.5
) -> Tensor:
    """Jensen-Shannon divergence over the top tokens with demonstrations and one rest bucket.

    Args:
        plain: (batch, seq, vocab), as in ``context_kl``.
        demonstrated: (batch, seq, vocab), likewise.
        mask: (batch, seq), bool.
        k: Tokens kept; the vocabulary or more is the full divergence.
        beta: Share of the pass with demonstrations in the mixture, between 0 and 1.

    Returns:
        Scalar, nats a token.
    """
    seen = log_probs(demonstrated.detach())
    ids = seen.topk(min(k, seen.shape[-1]), dim=-1).indices
    p, q = coarsened(seen, ids), coarsened(log_probs(plain), ids)
    middle = mixture(p, q, beta)
    return masked_mean(beta * kl(p, middle) + (1 - beta) * kl(q, middle), mask)


def context_objective(
    divergence: Literal["kl", "top-k-jsd"] = "kl",
    temperature: float = 1.0,
    k: int = 100,
    beta: float = 0.5,
) -> Objective:
    """Needs a second pass of the student itself, demonstrations in its prompt; no teacher.

    Args:
        divergence: What is made small.
        temperature: Of ``kl``.
        k: Of ``top-k-jsd``.
        beta: Of ``top-k-jsd``.

    Raises:
        TrainingError: An option is out of range.
    """
    if divergence not in ("kl", "top-k-jsd"):
        raise TrainingError(f"divergence is {divergence!r}: give 'kl' or 'top-k-jsd'")
    if temperature <= 0 or k < 1 or not 0 < beta < 1:
        raise TrainingError(
            f"temperature is {temperature}, k {k} and beta {beta}: give a positive temperature, "
            "k of at least 1 and beta between 0 and 1"
        )

    def formula(given: Given) -> Loss:
        plain, mask = given.chosen.logits, given.chosen.mask
        demonstrated = part("demonstrations", given.demonstrated)
        if divergence == "kl":
            loss = context_kl(plain, demonstrated, mask, temperature)
        else:
            loss = top_k_jsd(plain, demonstrated, mask, k, beta)
        return loss, {"divergence": figure(loss)}

    return Objective(
        "context",
        Signal.TEXT,
        formula,
        needs=frozenset({Need.DEMONSTRATIONS}),
        limits=(
            Limit({}, 0.0, same_models=True),
            Limit({"divergence": "top-k-jsd"}, 0.0, same_models=True),
        ),
    )
