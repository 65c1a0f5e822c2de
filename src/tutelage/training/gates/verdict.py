"""What gates say of a candidate, as the evidence that is kept with a release."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Protocol

from pydantic import BaseModel, ConfigDict, field_validator

from tutelage.training.gates.evaluation import Evaluation


class Verdict(BaseModel):
    """What one gate found; figures that could not be measured, or are infinite, are ``None``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    passed: bool
    blocking: bool
    """Whether a candidate that did not pass may not be promoted; otherwise it is a warning."""
    value: float | None = None
    """What was measured."""
    bound: float | None = None
    """The confidence bound, or p-value, that was compared."""
    threshold: float | None = None
    """What it was compared with."""
    text: str
    """One sentence for the person who signs."""

    @field_validator("value", "bound", "threshold")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        return value if value is not None and isfinite(value) else None


class Gate(Protocol):
    """Judges one side of a candidate."""

    def check(self, evaluation: Evaluation) -> Verdict:
        """The verdict; the same evaluation always gets the same one."""
        ...


class Judgement(BaseModel):
    """All verdicts of one evaluation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdicts: tuple[Verdict, ...]
    tasks: int
    episodes: int
    """Pairs of episodes."""
    evaluation_digest: str
    """``Evaluation.digest``: which figures were judged."""

    @property
    def passed(self) -> bool:
        """Whether nothing blocks; never without a verdict."""
        return bool(self.verdicts) and not self.blocked_by

    @property
    def blocked_by(self) -> tuple[Verdict, ...]:
        """Verdicts that forbid a promotion."""
        return tuple(one for one in self.verdicts if one.blocking and not one.passed)

    @property
    def warnings(self) -> tuple[Verdict, ...]:
        """Verdicts that did not pass and do not block."""
        return tuple(one for one in self.verdicts if not one.blocking and not one.passed)

    @property
    def refusal(self) -> str:
        """One line that says what blocks; empty where nothing does."""
        if not self.verdicts:
            return "no gate judged the candidate"
        return "; ".join(f"{one.gate}: {one.text}" for one in self.blocked_by)


def judge(evaluation: Evaluation, gates: Sequence[Gate]) -> Judgement:
    """Asks every gate, also after one has blocked."""
    return Judgement(
        verdicts=tuple(gate.check(evaluation) for gate in gates),
        tasks=len(evaluation.by_task()),
        episodes=len(evaluation.episodes),
        evaluation_digest=evaluation.digest(),
    )
