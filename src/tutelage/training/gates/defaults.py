"""The gates that a release passes unless others are named."""

from __future__ import annotations

from collections.abc import Mapping

from tutelage.training.gates.agreement_quality import AgreementQuality
from tutelage.training.gates.cost import CostPerSolved
from tutelage.training.gates.fidelity import Fidelity
from tutelage.training.gates.hacking import GoldenFall, PowerLaw
from tutelage.training.gates.length import TokensPerStep
from tutelage.training.gates.overlap import Overlap, Similarity
from tutelage.training.gates.success import Improvement, NonInferiority
from tutelage.training.gates.verdict import Gate

SHARPENING = ("certainty", "diffusion")
"""What stands in the names of recipes and objectives that sharpen."""


def default_gates(
    *,
    margin: float = 0.10,
    confidence: float = 0.95,
    similarity: Similarity | None = None,
    sharpened: bool = False,
) -> tuple[Gate, ...]:
    """All gates, those that block first.

    Args:
        margin: Success that a candidate may lose, as a share of tasks.
        confidence: One-sided, of each gate by itself.
        similarity: For the overlap of evaluation and training; ``None``: ids alone.
        sharpened: Whether the candidate was trained to be surer, as by certainty forcing or as a
            diffusion student; then it is refused unless the agreement of its samples was measured
            on enough held-out steps and still tells right from wrong as well.
    """
    return (
        Overlap(similarity),
        NonInferiority(margin, confidence),
        CostPerSolved(confidence=confidence),
        AgreementQuality(confidence=confidence, required=sharpened),
        TokensPerStep(confidence=confidence),
        GoldenFall(),
        PowerLaw(),
        Fidelity(),
        Improvement(confidence),
    )


def is_sharpened(recipe: str, settings: Mapping[str, object]) -> bool:
    """Whether a recipe makes students surer of what they say, by its name and settings."""
    names = (recipe, str(settings.get("objective", "")))
    return any(mark in name.lower() for name in names for mark in SHARPENING)
