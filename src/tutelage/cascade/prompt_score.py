"""P(the student's action is right) from the step alone, before anything is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import exp
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.feature_scale import number, numbers
from tutelage.runtime.errors import MissingExtra

FOLDS = 5


@dataclass(frozen=True, slots=True)
class PromptScore:
    """Logistic regression on the vectors that the retriever made of a step anyway.

    It costs one dot product. Source: routers that decide before generation (RouteLLM, arXiv
    2406.18665), here as one feature among others.
    """

    weights: NDArray[np.float64]
    """(2 dimensions,), goal then state."""
    intercept: float

    def probability(self, query: NDArray[Any]) -> float:
        """In [0, 1]; ``query`` is of the shape of the weights."""
        return 1 / (1 + exp(-_clipped(float(self.weights @ query) + self.intercept)))

    def to_json(self) -> dict[str, Any]:
        """The score as JSON values."""
        return {"weights": [round(float(w), 6) for w in self.weights], "intercept": self.intercept}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what ``to_json`` wrote.

        Raises:
            ConfigError: A field is missing or of the wrong kind.
        """
        weights = np.array(numbers(values, "weights"), dtype=np.float64)
        return cls(weights, number(values, "intercept"))


def fit_prompt_score(
    queries: NDArray[Any], right: Sequence[bool], penalty: float = 1.0
) -> PromptScore:
    """Fits the score on labelled steps.

    Args:
        queries: (steps, 2 dimensions).
        right: (steps,), whether the student's action was right; both kinds occur.
        penalty: Weight of the squared coefficients over two, in log likelihood units of one step.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", "calibrate") from error

    model = LogisticRegression(C=1 / penalty, max_iter=1000).fit(queries, np.asarray(right))
    return PromptScore(np.asarray(model.coef_[0], dtype=np.float64), float(model.intercept_[0]))


def held_out_probabilities(
    queries: NDArray[Any], right: Sequence[bool], episodes: Sequence[str], penalty: float = 1.0
) -> list[float]:
    """The probability of each step by a score that has not seen its episode.

    What is fitted on top must not trust a score on the steps that it was fitted on.

    Args:
        queries: (steps, 2 dimensions).
        right: (steps,).
        episodes: (steps,), the episode of each step; an episode falls into one of 5 parts.
        penalty: As in ``fit_prompt_score``.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    parts = np.array([sha256(name.encode()).digest()[0] % FOLDS for name in episodes])
    labels = np.asarray(right, dtype=np.bool_)
    found = np.zeros(len(labels))
    for part in np.unique(parts):
        inside = parts == part
        seen = labels[~inside]
        if seen.any() and not seen.all():
            score = fit_prompt_score(queries[~inside], seen.tolist(), penalty)
            found[inside] = [score.probability(query) for query in queries[inside]]
        else:
            # Laplace's rule. The rate of all steps would tell of the labels inside.
            found[inside] = (seen.sum() + 1) / (len(seen) + 2)
    return [float(one) for one in found]


def _clipped(value: float) -> float:
    """Within what ``exp`` can take."""
    return min(max(value, -700.0), 700.0)
