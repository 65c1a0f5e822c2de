"""What audits of accepted steps say of the student's risk, in all and by cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.bounds import Interval, beta_quantile

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AuditEvidence:
    """One accepted step that was drawn to be checked by the teacher."""

    episode_id: str
    wrong: bool
    """Whether the check went against the student."""
    propensity: float
    """Probability that the step had of being audited, as recorded when it was drawn."""
    cluster: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.propensity <= 1:
            raise ValueError(
                f"episode {self.episode_id}: propensity = {self.propensity} is not in (0, 1]"
            )


@dataclass(frozen=True, slots=True)
class AuditRisk:
    """Share of accepted steps that were wrong."""

    risk: float
    interval: Interval
    """Two-sided."""
    bound: float
    """One-sided upper bound at the same confidence."""
    audits: int
    episodes: int


def audit_risk(audits: Sequence[AuditEvidence], *, confidence: float = 0.95) -> AuditRisk | None:
    """Share of the accepted steps that were wrong.

    Hajek: ``sum(wrong / q) / sum(1 / q)`` over the audited steps, ``q`` their propensity; what was
    not audited is represented by what was. Bounds: quantiles of Beta(r n, (1 - r) n), where ``r``
    is the risk after one more episode was added, all wrong (for an upper bound) or all right (for a
    lower one) and as long as the longest, and ``n = r (1 - r) / V`` the effective sample size with
    the linearised variance ``V`` over whole episodes, as the steps of an episode depend on each
    other. Episodes of one step each give Clopper-Pearson exactly; the added episode keeps the bound
    honest where few episodes hold all errors, at the price of width. Approximate for longer ones.
    Assumes independent episodes. Sources: Korn and Graubard 1998 (effective size); Fay and Feuer
    1997 (added event).

    Returns:
        ``None`` without audits.
    """
    if not audits:
        return None
    weights = np.array([1 / audit.propensity for audit in audits])
    wrong = np.array([audit.wrong for audit in audits], dtype=np.float64)
    names = {name: place for place, name in enumerate(dict.fromkeys(a.episode_id for a in audits))}
    rows = np.array([names[audit.episode_id] for audit in audits])
    sizes: Array = np.bincount(rows, weights=weights).astype(np.float64)
    errors: Array = np.bincount(rows, weights=weights * wrong).astype(np.float64)
    most = float(weights.sum() ** 2 / (weights**2).sum())
    tail = 1 - confidence
    return AuditRisk(
        risk=float(errors.sum() / sizes.sum()),
        interval=Interval(
            1 - _upper_bound(sizes, sizes - errors, most, tail / 2),
            _upper_bound(sizes, errors, most, tail / 2),
        ),
        bound=_upper_bound(sizes, errors, most, tail),
        audits=len(audits),
        episodes=len(names),
    )


def audit_risk_by_cluster(
    audits: Sequence[AuditEvidence], *, confidence: float = 0.95
) -> dict[str | None, AuditRisk]:
    """``audit_risk`` of every cluster, each at ``confidence`` of its own, most audits first."""
    groups: dict[str | None, list[AuditEvidence]] = defaultdict(list)
    for audit in audits:
        groups[audit.cluster].append(audit)
    found = {name: audit_risk(group, confidence=confidence) for name, group in groups.items()}
    known = [(name, risk) for name, risk in found.items() if risk is not None]
    return dict(sorted(known, key=lambda pair: -pair[1].audits))


def _upper_bound(sizes: Array, errors: Array, most: float, tail: float) -> float:
    """Upper bound of ``sum(errors) / sum(sizes)``; ``most`` caps the effective sample size."""
    longest = sizes.max()
    sizes, errors = np.append(sizes, longest), np.append(errors, longest)
    total = sizes.sum()
    risk = float(errors.sum() / total)
    if risk >= 1 - 1e-12:
        return 1.0
    variance = float(((errors - risk * sizes) ** 2).sum() / total**2)
    effective = min(risk * (1 - risk) / variance, most + 1)
    return beta_quantile(1 - tail, risk * effective, (1 - risk) * effective)
