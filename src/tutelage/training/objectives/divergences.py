"""Divergences between the teacher's and the student's next tokens.

All take logits (batch, seq, vocab) of one vocabulary and give nats (batch, seq); 0 where the two
agree, never negative, finite where logits are -inf. A temperature divides both logits. The result
is *not* multiplied by its square, so gradients shrink by about ``1 / temperature**2``: raise the
learning rate or the weight of the term to make up for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.given import Given
from tutelage.training.objectives.objective import Limit, Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.tokens import FLOOR, figure, log_probs, masked_mean

Divergence = Callable[[Tensor, Tensor], Tensor]
"""(student logits, teacher logits) -> (batch, seq)."""


def kl(first: Tensor, second: Tensor) -> Tensor:
    """``KL(first || second)`` of log-probabilities (..., vocab); gives (...)."""
    return (first.exp() * (first - second)).sum(-1)


def mixture(first: Tensor, second: Tensor, share: float) -> Tensor:
    """``log(share e^first + (1 - share) e^second)`` of log-probabilities, share within 0 and 1."""
    if share in (0.0, 1.0):
        return first if share else second
    weights = first.new_tensor([share, 1 - share]).log()
    return torch.logaddexp(first + weights[0], second + weights[1])


def forward_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``KL(p || q)``: covers all that the teacher does."""
    return kl(log_probs(teacher, temperature), log_probs(student, temperature))


def reverse_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``KL(q || p)``: keeps to what the teacher does most."""
    return kl(log_probs(student, temperature), log_probs(teacher, temperature))


def generalised_jsd(
    student: Tensor, teacher: Tensor, beta: float = 0.5, temperature: float = 1.0
) -> Tensor:
    """``beta KL(p || M) + (1 - beta) KL(q || M)``, ``M = beta p + (1 - beta) q``.

    ``beta`` 0 and 1 stand for the forward and the reverse KL, whose directions the scaled
    divergence takes there though its own value is 0.
    """
    if beta == 0:
        return forward_kl(student, teacher, temperature)
    if beta == 1:
        return reverse_kl(student, teacher, temperature)
    p, q = log_probs(teacher, temperature), log_probs(student, temperature)
    middle = mixture(p, q, beta)
    return beta * kl(p, middle) + (1 - beta) * kl(q, middle)


def skew_forward_kl(
    student: Tensor, teacher: Tensor, skew: float = 0.1, temperature: float = 1.0
) -> Tensor:
    """``KL(p || skew p + (1 - skew) q)``: bounded by ``-log skew``."""
    p, q = log_probs(teacher, temperature), log_probs(student, temperature)
    return kl(p, mixture(p, q, skew))


def skew_reverse_kl(
    student: Tensor, teacher: Tensor, skew: float = 0.1, temperature: float = 1.0
) -> Tensor:
    """``KL(q || skew q + (1 - skew) p)``."""
    p, q = log_probs(teacher, temperature), log_probs(student, temperature)
    return kl(q, mixture(q, p, skew))


def total_variation(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``1/2 sum_v |p - q|``, from 0 to 1."""
    p, q = log_probs(teacher, temperature).exp(), log_probs(student, temperature).exp()
    return (p - q).abs().sum(-1) / 2


def adaptive_kl(
    student: Tensor, teacher: Tensor, head: float = 0.5, temperature: float = 1.0
) -> Tensor:
    """Forward and reverse KL, weighed by where the two differ.

    The head is the fewest likeliest tokens of the teacher that hold ``head`` of its mass. The
    forward KL gets the share of ``sum |p - q|`` in the head, the reverse KL that in the tail; the
    shares carry no gradient. Source: Wu et al., Rethinking KL divergence in knowledge
    distillation for large language models, arXiv 2404.02657.
    """
    p, q = log_probs(teacher, temperature), log_probs(student, temperature)
    with torch.no_grad():
        ordered, order = p.exp().sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        in_head = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < head)
        gap = (p.exp() - q.exp()).abs()
        head_gap = torch.where(in_head, gap, 0.0).sum(-1)
        total = gap.sum(-1)
        share = torch.where(total > 0, head_gap / total.clamp(min=1e-30), 0.5)
    return share * kl(p, q) + (1 - share) * kl(q, p)


def coarsened(logs: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities of some tokens and, as one more, of all others together.

    Args:
        logs: (..., vocab), nats.
        ids: (..., k), int64, distinct.

    Returns:
        (..., k + 1), nats.
    """
    kept = logs.gather(-1, ids)
    others = logs.scatter(-1, ids, FLOOR)
    return torch.cat([kept, others.logsumexp(-1, keepdim=True)], -1)


def with_rest(top: Tensor) -> Tensor:
    """Adds the mass that the top tokens leave.

    Args:
        top: (..., k), log-probabilities, nats.

    Returns:
        (..., k + 1), nats.
    """
    left = (1 - top.exp().sum(-1, keepdim=True)).clamp(min=0)
    rest = torch.where(left > 0, left.clamp(min=1e-38).log(), FLOOR)
    return torch.cat([top, rest], -1)


def top_k_kl(student: Tensor, ids: Tensor, top: Tensor) -> Tensor:
    """Forward KL over the teacher's top tokens and one bucket for all others.

    A lower bound of the full forward KL, and equal to it where the top is the whole vocabulary.

    Args:
        student: (batch, seq, vocab), logits.
        ids: (batch, seq, k), int64: the teacher's top tokens, distinct.
        top: (batch, seq, k): their log-probabilities, nats.

    Returns:
        (batch, seq), nats.
    """
    return kl(with_rest(top), coarsened(log_probs(student), ids))


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "fkl": forward_kl,
    "rkl": reverse_kl,
    "jsd": generalised_jsd,
    "skew-fkl": skew_forward_kl,
    "skew-rkl": skew_reverse_kl,
    "tvd": total_variation,
    "adaptive-kl": adaptive_kl,
}
LIMITS: dict[str, tuple[Limit, ...]] = {
    "jsd": (Limit({"beta": 0.0}, "fkl"), Limit({"beta": 1.0}, "rkl")),
    "skew-fkl": (Limit({"skew": 0.0}, "fkl"), Limit({"skew": 1.0}, 0.0)),
    "skew-rkl": (Limit({"skew": 0.0}, "rkl"), Limit({"skew": 1.0}, 0.0)),
    "adaptive-kl": (Limit({}, 0.0, same_models=True),),
    "fkl": (Limit({}, 0.0, same_models=True),),
    "rkl": (Limit({}, 0.0, same_models=True),),
    "tvd": (Limit({}, 0.0, same_models=True),),
}


def divergence_objective(kind: str, **options: float) -> Objective:
    """Matches the teacher's distribution at every token of the gated answers.

    Args:
        kind: A name in ``DIVERGENCES``.
        options: Of that function: ``temperature`` and ``beta``, ``skew`` or ``head``.

    Raises:
        TrainingError: The temperature is not positive or a share is not within 0 and 1.
    """
    if options.get("temperature", 1.0) <= 0:
        raise TrainingError(f"temperature is {options['temperature']}: give a positive number")
    for name in ("beta", "skew", "head"):
        if not 0 <= options.get(name, 0.5) <= 1:
            raise TrainingError(f"{name} is {options[name]}: give a number from 0 to 1")
    divergence = partial(DIVERGENCES[kind], **options)

    def formula(given: Given) -> Loss:
        teacher = part("logits of the teacher", given.teacher.logits).detach()
        loss = masked_mean(divergence(given.chosen.logits, teacher), given.chosen.mask)
        return loss, {"divergence": figure(loss)}

    return Objective(
        kind,
        Signal.LOGITS,
        formula,
        needs=frozenset({Need.SAME_VOCABULARY}),
        limits=LIMITS.get(kind, ()),
    )


def fkl_objective(temperature: float = 1.0) -> Objective:
    """``KL(p || q)``."""
    return divergence_objective("fkl", temperature=temperature)


def rkl_objective(temperature: float = 1.0) -> Objective:
    """``KL(q || p)``."""
    return divergence_objective("rkl", temperature=temperature)


def jsd_objective(beta: float = 0.5, temperature: float = 1.0) -> Objective:
    """Generalised Jensen-Shannon divergence."""
    return divergence_objective("jsd", beta=beta, temperature=temperature)


def skew_fkl_objective(skew: float = 0.1, temperature: float = 1.0) -> Objective:
    """Skewed forward KL."""
    return divergence_objective("skew-fkl", skew=skew, temperature=temperature)


def skew_rkl_objective(skew: float = 0.1, temperature: float = 1.0) -> Objective:
    """Skewed reverse KL."""
    return divergence_objective("skew-rkl", skew=skew, temperature=temperature)


def tvd_objective(temperature: float = 1.0) -> Objective:
    """Total variation distance."""
    return divergence_objective("tvd", temperature=temperature)


def adaptive_kl_objective(head: float = 0.5, temperature: float = 1.0) -> Objective:
    """Adaptive KL."""
    return divergence_objective("adaptive-kl", head=head, temperature=temperature)


def top_k_objective() -> Objective:
    """Forward KL from top-k log-probabilities, as a vLLM teacher gives them."""

    def formula(given: Given) -> Loss:
        top = part("top-k of the teacher", given.teacher.top_k)
        loss = masked_mean(top_k_kl(given.chosen.logits, top.ids, top.log_probs), given.chosen.mask)
        return loss, {"divergence": figure(loss)}

    return Objective("top-k-kl", Signal.TOP_K, formula, needs=frozenset({Need.SAME_VOCABULARY}))
