"""The scores that calibrated policies decide by, fitted together on labelled steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.prompt_score import PromptScore, fit_prompt_score, held_out_probabilities
from tutelage.cascade.scores import (
    ScoreModel,
    fit_isotonic,
    fit_logistic,
    score_from_json,
)
from tutelage.runtime.errors import ConfigError

ScoreKind = Literal["isotonic", "logistic"]
PRIOR_FEATURES = ("consensus", "deferrals", "prompt", "refusals", "similarity", "step_index")
"""What is known of a step before it is sampled."""


@dataclass(frozen=True, slots=True)
class StepScores:
    """Three scores of P(the student's action is right), from cheap and early to late."""

    prompt: PromptScore | None
    """From the step's vector; it is the feature ``prompt`` of the other two."""
    prior: ScoreModel
    """From what is known before sampling."""
    score: ScoreModel
    """From all that is known after it."""

    def to_json(self) -> dict[str, Any]:
        """The scores as JSON values."""
        return {
            "prompt": None if self.prompt is None else self.prompt.to_json(),
            "prior": self.prior.to_json(),
            "score": self.score.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what ``to_json`` wrote.

        Raises:
            ConfigError: A score is missing or of the wrong kind.
        """
        prompt, prior, score = (values.get(name) for name in ("prompt", "prior", "score"))
        if not isinstance(prior, Mapping) or not isinstance(score, Mapping):
            raise ConfigError("scores: prior and score must be tables; calibrate again")
        if prompt is not None and not isinstance(prompt, Mapping):
            raise ConfigError(f"scores: prompt = {prompt!r} is not a table; calibrate again")
        return cls(
            None if prompt is None else PromptScore.from_json(prompt),
            score_from_json(prior),
            score_from_json(score),
        )


@dataclass(frozen=True, slots=True)
class StepCosts:
    """What the calls of a step cost, in USD."""

    teacher_usd: float
    """One call of the teacher."""
    student_usd: float
    """All samples of the student."""
    wrong_usd: float
    """What a wrong action of the student costs: at least the step that mends it."""


def fit_step_scores(
    features: Sequence[Mapping[str, float]],
    right: Sequence[bool],
    episodes: Sequence[str],
    queries: NDArray[Any] | None,
    kind: ScoreKind = "logistic",
) -> tuple[StepScores, list[dict[str, float]]]:
    """Fits all scores on the same labelled steps.

    Args:
        features: (steps,), without ``prompt``.
        right: (steps,).
        episodes: (steps,), the episode of each step.
        queries: (steps, 2 dimensions), the steps' vectors; ``None``: the bank has none.
        kind: Of the late score; ``isotonic`` rests on agreement alone.

    Returns:
        The scores, and the features with ``prompt`` as a score gives it that has not seen the
        step's episode.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    rows = [dict(one) for one in features]
    prompt: PromptScore | None = None
    if queries is not None and any(right) and not all(right):
        prompt = fit_prompt_score(queries, right)
        for row, probability in zip(
            rows, held_out_probabilities(queries, right, episodes), strict=True
        ):
            # A step's vector comes with its demonstrations.
            if "similarity" in row:
                row["prompt"] = probability
    known = [name for name in PRIOR_FEATURES if any(name in row for row in rows)]
    prior = fit_logistic(rows, right, names=known)
    score: ScoreModel = (
        fit_isotonic(rows, right) if kind == "isotonic" else fit_logistic(rows, right)
    )
    return StepScores(prompt, prior, score), rows


def best_floor(
    priors: Sequence[float],
    scores: Sequence[float],
    right: Sequence[bool],
    threshold: float,
    costs: StepCosts,
) -> float:
    """The floor of the gate with the least expected cost of a labelled step.

    A step below the floor costs a teacher's call. One above it costs the student's samples, and
    then either a teacher's call, if its score is below the threshold, or what its error costs.

    Args:
        priors: (steps,).
        scores: (steps,).
        right: (steps,).
        threshold: Least score that is served.
        costs: What calls and errors cost.

    Returns:
        A floor at a quantile of the priors, or 0 where asking always is cheapest.
    """
    prior = np.asarray(priors, dtype=np.float64)
    served = np.asarray(scores, dtype=np.float64) >= threshold
    wrong = ~np.asarray(right, dtype=np.bool_)
    asked = costs.student_usd + np.where(served, wrong * costs.wrong_usd, costs.teacher_usd)
    floors = [0.0, *np.unique(np.quantile(prior, np.linspace(0.05, 1.0, 20))).tolist()]
    totals = [float(np.where(prior < f, costs.teacher_usd, asked).mean()) for f in floors]
    return float(floors[int(np.argmin(totals))])
