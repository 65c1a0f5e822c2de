"""Which recipe to try, from rules or from past runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log1p
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.errors import TrainingError

RecipeName = Literal["supervised", "progressive", "preference", "retriever"]
Basis = Literal["rules", "past runs"]

ENOUGH_RUNS = 30
NEIGHBOURS = 5
_FEWEST_PAIRS = 200
_LOW_RECALL = 0.5


@dataclass(frozen=True, slots=True)
class TaskFeatures:
    """What is known before a run."""

    examples: int
    """Gated examples to train on."""
    families: int
    """Kinds of task among them."""
    mean_steps: float
    """Of an episode."""
    student_parameters: float
    student_success: float
    """Held-out success of the student so far, in [0, 1]."""
    teacher_success: float
    logits: bool = False
    """Whether the teacher is local and shares the student's vocabulary."""
    pairs: int = 0
    """Steps at which an answer of the teacher stands beside a worse one of the student."""
    recall: float | None = None
    """Share of held-out steps for which a useful demonstration is found, in [0, 1]."""

    def __post_init__(self) -> None:
        counts = (self.examples, self.families, self.mean_steps, self.pairs)
        if min(counts) < 0 or self.student_parameters <= 0:
            raise TrainingError("advice: counts must not be negative, parameters above 0")


@dataclass(frozen=True, slots=True)
class PastRun:
    """What one run of a recipe brought."""

    features: TaskFeatures
    recipe: RecipeName
    gain: float
    """Held-out success of the candidate minus that of the student so far."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Recipes, the most promising first."""

    recipes: tuple[RecipeName, ...]
    basis: Basis
    expected_gains: tuple[tuple[RecipeName, float], ...]
    """Mean gain of the nearest runs; empty where rules speak."""
    text: str


def recommend(features: TaskFeatures, runs: Sequence[PastRun]) -> Recommendation:
    """Ranks the recipes that can be run.

    Rules until there are 30 runs. Then the mean gain of the 5 nearest runs of each recipe, by
    Euclidean distance of standardised features (logarithms of counts); a recipe with fewer than 5
    runs stays behind in the order of the rules. The idea is AutoDistiller's; it learns a regression
    instead. Try the first two or three: neither basis is a proof.
    """
    ruled, why = _by_rules(features)
    if len(runs) < ENOUGH_RUNS:
        text = f"by rules, as only {len(runs)} of {ENOUGH_RUNS} runs exist: {why}"
        return Recommendation(ruled, "rules", (), text)
    table = np.array([_vector(one.features) for one in runs])
    spread = table.std(axis=0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    distances = np.linalg.norm((table - _vector(features)) / scale, axis=1)
    gains: dict[RecipeName, float] = {}
    for recipe in ruled:
        mine = [place for place, one in enumerate(runs) if one.recipe == recipe]
        if len(mine) >= NEIGHBOURS:
            nearest = sorted(mine, key=lambda place: float(distances[place]))[:NEIGHBOURS]
            gains[recipe] = sum(runs[place].gain for place in nearest) / NEIGHBOURS
    known = sorted(gains, key=lambda recipe: -gains[recipe])
    rest = tuple(recipe for recipe in ruled if recipe not in gains)
    listed = ", ".join(f"{recipe} {gains[recipe]:+.3f}" for recipe in known) or "none has enough"
    text = f"by the {NEIGHBOURS} nearest of {len(runs)} runs of each recipe: {listed}"
    if rest:
        text += f"; hardly tried: {', '.join(rest)}"
    expected = tuple((recipe, gains[recipe]) for recipe in known)
    return Recommendation((*known, *rest), "past runs", expected, text)


def _by_rules(features: TaskFeatures) -> tuple[tuple[RecipeName, ...], str]:
    """Recipes that can be run, and why the first one is first."""
    found: list[RecipeName] = ["supervised"]
    why = "text of the teacher is what every recipe must beat first"
    if features.logits:
        found.insert(0, "progressive")
        why = "the teacher's probabilities carry more than its text"
    if features.pairs >= _FEWEST_PAIRS:
        # Preferences sharpen what imitation has taught; before that they have nothing to sharpen.
        ahead = features.student_success >= features.teacher_success / 2
        found.insert(0 if ahead else 1, "preference")
        if ahead:
            why = "the student imitates well, and its errors stand beside better answers"
    if features.recall is not None:
        low = features.recall < _LOW_RECALL
        found.insert(0 if low else len(found), "retriever")
        if low:
            why = "useful demonstrations are not found"
    return tuple(found), why


def _vector(features: TaskFeatures) -> NDArray[np.float64]:
    return np.array(
        [
            log1p(features.examples),
            log1p(features.families),
            log1p(features.mean_steps),
            log(features.student_parameters),
            features.student_success,
            features.teacher_success,
            float(features.logits),
            log1p(features.pairs),
            # The middle where it is not known.
            0.5 if features.recall is None else features.recall,
        ]
    )
