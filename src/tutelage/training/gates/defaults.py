"""The gates that a release passes unless others are named."""

from __future__ import annotations

from tutelage.training.gates.agreement_quality import AgreementQuality
from tutelage.training.gates.cost import CostPerSolved
from tutelage.training.gates.fidelity import Fidelity
from tutelage.training.gates.hacking import GoldenFall, PowerLaw
from tutelage.training.gates.length import TokensPerStep
from tutelage.training.gates.overlap import Overlap, Similarity
from tutelage.training.gates.success import Improvement, NonInferiority
from tutelage.training.gates.verdict import Gate


def default_gates(
    *, margin: float = 0.10, confidence: float = 0.95, similarity: Similarity | None = None
) -> tuple[Gate, ...]:
    """All gates, those that block first.

    Args:
        margin: Success that a candidate may lose, as a share of tasks.
        confidence: One-sided, of each gate by itself.
        similarity: For the overlap of evaluation and training; ``None``: ids alone.
    """
    return (
        Overlap(similarity),
        NonInferiority(margin, confidence),
        CostPerSolved(confidence=confidence),
        AgreementQuality(confidence=confidence),
        TokensPerStep(confidence=confidence),
        GoldenFall(),
        PowerLaw(),
        Fidelity(),
        Improvement(confidence),
    )
