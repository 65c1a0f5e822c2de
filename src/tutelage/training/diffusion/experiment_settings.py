"""Sizes and arms of the experiment on parallel decoding."""

from __future__ import annotations

from dataclasses import dataclass

BASE, CONTROL, TRAJECTORY, OWN_ERRORS = "base", "ce-only", "trajectory", "own-errors"
SAMPLED = ", sampled"
"""Ends the name of an arm that learns from answers drawn at temperature 1."""
REPEATED = ", repeated"
"""Ends the name of an arm that learns in rounds, from what it writes several slots at a time."""


@dataclass(frozen=True, slots=True)
class ExperimentSettings:
    """Sizes of the experiment; every arm of a seed gets the same steps and batches."""

    seeds: int = 3
    width: int = 64
    layers: int = 3
    batch: int = 32
    bare_steps: int = 300
    """Of the base's first stage, in which it answers with bare actions on a short canvas."""
    base_steps: int = 3500
    """Of its second stage, in which it learns the language; an easy one takes a share of them."""
    examples: int = 20_000
    """Scenes that the base student is trained on."""
    own: int = 2048
    """Prompts that the base student answers for itself."""
    distil_steps: int = 1000
    distil_ratio: tuple[float, float] = (0.3, 1.0)
    """Bounds of the share that the first of two complementary masks hides; up to all of it, as an
    answer on one block begins."""
    base_rate: float = 3e-3
    distil_rate: float = 1e-3
    betas: tuple[float, ...] = (2.0, 8.0)
    """Certainty forcing on the student's greedy answers."""
    sampled_betas: tuple[float, ...] = (8.0,)
    """Certainty forcing on answers that the student drew, as live traffic leaves them."""
    rounds: int = 4
    """Of the repeated arms, which share the steps of the others; 1: no such arms."""
    repeated_betas: tuple[float, ...] = (2.0,)
    """Certainty forcing in rounds."""
    repeated_confidence: float = 0.8
    """Least confidence at which slots are written in the rounds after the first."""
    trajectory_beta: float = 2.0
    """Weight of the certainty term in trajectory distillation."""
    own_errors: bool = False
    """Whether an arm trains on its own errors, too."""
    tests: int = 200
    """Held-out scenes."""

    def of_the_base(self, share: float) -> dict[str, float]:
        """What a base student depends on.

        Args:
            share: Of the base's steps that a language takes.
        """
        return {
            "width": self.width,
            "layers": self.layers,
            "batch": self.batch,
            "bare_steps": self.bare_steps,
            "base_steps": round(share * self.base_steps),
            "examples": self.examples,
            "base_rate": self.base_rate,
        }

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, the base first."""
        more = (OWN_ERRORS,) if self.own_errors else ()
        sampled = (CONTROL, *map(certainty_arm, self.sampled_betas)) if self.sampled_betas else ()
        is_repeated = self.rounds > 1 and self.repeated_betas
        repeated = (CONTROL, *map(certainty_arm, self.repeated_betas)) if is_repeated else ()
        return (
            *(BASE, CONTROL, *map(certainty_arm, self.betas), TRAJECTORY, *more),
            *(arm + SAMPLED for arm in sampled),
            *(arm + REPEATED for arm in repeated),
        )


CUT = ExperimentSettings(
    seeds=1,
    base_steps=1200,
    examples=10_000,
    own=128,
    distil_steps=60,
    betas=(8.0,),
    rounds=2,
    tests=64,
)
"""A few minutes; shows that all works, and no more."""


def certainty_arm(beta: float) -> str:
    """The name of an arm with certainty forcing."""
    return f"certainty {beta:g}"


def control_of(arm: str) -> str:
    """The control that learns from answers of the same kind as an arm."""
    return next((CONTROL + end for end in (SAMPLED, REPEATED) if arm.endswith(end)), CONTROL)
