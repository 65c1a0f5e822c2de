"""Configurations that need nothing from outside, and policy files for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.cascade.policy_file import PolicyFile
from tutelage.cascade.scores import IsotonicScore
from tutelage.cascade.step_scores import StepScores
from tutelage.policies import Policies
from tutelage.runtime.config import Config, load_config

SCORES = StepScores(
    prompt=None,
    prior=IsotonicScore("similarity", (0.0, 1.0), (0.0, 1.0), missing_rate=0.5),
    score=IsotonicScore("agreement", (0.0, 1.0), (0.0, 1.0), missing_rate=0.5),
).to_json()
"""Before sampling the similarity is P(right), after it the agreement."""


def settings(**changes: Any) -> Config:
    """A configuration that needs neither weights nor prices of its own."""
    given = {
        "retrieval.embedder": "hash",
        "teacher.priced_as": "gpt-4.1",
        "student.priced_as": "gpt-4.1-mini",
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return load_config(environment={}, overrides=given)


def policies(cost_usd: float = 0.01, **changes: Any) -> Policies:
    return Policies(settings(**changes), lambda step: cost_usd)


def written(
    path: Path, config: Config, bank: str = "", teacher: str = "oracle: test", **changes: Any
) -> Path:
    """A policy file that was calibrated under a configuration."""
    conditions = Policies(config, lambda step: 0.0).conditions(bank, teacher)
    made: dict[str, Any] = {
        "scores": SCORES,
        "threshold": 0.6,
        "p_teacher": 0.9,
        "conditions": conditions,
        "source": "test",
        "created_at_s": 1.0,
        **changes,
    }
    PolicyFile(**made).write(path)
    return path


def layers(policy: Any) -> list[str]:
    """Names of a policy's layers, outermost first."""
    names = []
    while policy is not None:
        names.append(type(policy).__name__)
        policy = getattr(policy, "_policy", None)
    return names
