"""Which of several models is worth its price for one step, told before any of them is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from tutelage.cascade.feature_scale import number
from tutelage.cascade.prompt_score import PromptScore, fit_prompt_score
from tutelage.runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class GatedTier:
    """What a gate knows of one model."""

    name: str
    right: PromptScore | float
    """P(its action is right) from the vector of the prompt, or the same for all prompts."""
    cost_usd: float
    """Mean cost of asking it."""

    def probability(self, vector: NDArray[Any]) -> float:
        """P(its action is right)."""
        return self.right if isinstance(self.right, float) else self.right.probability(vector)


@dataclass(frozen=True, slots=True)
class InstanceGate:
    """Sends a prompt to the model with the greatest P(right) x value - cost.

    Source: the instance gate of MST-Distill (arXiv 2507.07015), which reads the student's logits
    and in its released code is trained by a balance term alone. Here it is fitted on verified
    steps, and a price stands for the balance: of two equal models the cheaper one is asked.
    """

    tiers: tuple[GatedTier, ...]
    """Cheap to dear; the last one is the teacher."""
    value_usd: float
    """What a right action is worth."""

    def first(self, vector: NDArray[Any]) -> int:
        """Place of the model to ask; of equals the cheaper one's.

        Args:
            vector: (dimensions,) of the prompt.
        """
        worth = [tier.probability(vector) * self.value_usd - tier.cost_usd for tier in self.tiers]
        return int(np.argmax(worth))

    def to_json(self) -> dict[str, Any]:
        """The gate as JSON values."""
        tiers = [
            {
                "name": one.name,
                "right": one.right if isinstance(one.right, float) else one.right.to_json(),
                "cost_usd": one.cost_usd,
            }
            for one in self.tiers
        ]
        return {"tiers": tiers, "value_usd": self.value_usd}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what ``to_json`` wrote.

        Raises:
            ConfigError: A field is missing or of the wrong kind.
        """
        listed = values.get("tiers")
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise ConfigError("gate: tiers must be a list of tables")
        tiers = []
        for one in listed:
            right = one.get("right")
            fitted = isinstance(right, Mapping)
            known = PromptScore.from_json(right) if fitted else number(one, "right")
            tiers.append(GatedTier(str(one.get("name")), known, number(one, "cost_usd")))
        return cls(tuple(tiers), number(values, "value_usd"))

    @classmethod
    def read(cls, path: Path, names: Sequence[str]) -> Self:
        """Reads a gate for models of these names, cheap to dear.

        Raises:
            ConfigError: The file cannot be read, or was fitted for other models.
        """
        try:
            gate = cls.from_json(orjson.loads(path.read_bytes()))
        except OSError as error:
            raise ConfigError(f"chain.gate = {str(path)!r}: {error.strerror}") from None
        except (orjson.JSONDecodeError, AttributeError, ConfigError) as error:
            raise ConfigError(f"chain.gate = {str(path)!r} is no gate: {error}") from None
        fitted = [tier.name for tier in gate.tiers]
        if fitted != list(names):
            raise ConfigError(
                f"chain.gate = {str(path)!r} was fitted for {', '.join(fitted)}, and the chain is "
                f"{', '.join(names)}: fit it again"
            )
        return gate

    def write(self, path: Path) -> None:
        """Writes the gate for ``chain.gate``."""
        path.write_bytes(orjson.dumps(self.to_json(), option=orjson.OPT_INDENT_2))


def fit_instance_gate(
    vectors: NDArray[Any],
    right: Mapping[str, Sequence[bool]],
    cost_usd: Mapping[str, float],
    value_usd: float,
) -> InstanceGate:
    """Fits a gate on steps at which every model was asked and its action verified.

    Args:
        vectors: (steps, dimensions), of the prompts.
        right: By model, cheap to dear and the teacher last: (steps,), whether its action was right.
        cost_usd: By model, mean cost of asking it.
        value_usd: What a right action is worth.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    tiers = []
    for name, outcomes in right.items():
        # All alike: Laplace's rule, as there is nothing to tell apart.
        alike = all(outcomes) or not any(outcomes)
        known = (
            (sum(outcomes) + 1) / (len(outcomes) + 2)
            if alike
            else fit_prompt_score(vectors, outcomes)
        )
        tiers.append(GatedTier(name, known, cost_usd[name]))
    return InstanceGate(tuple(tiers), value_usd)
