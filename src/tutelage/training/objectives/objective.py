"""A training loss with the signal it needs, its state and the limits that it is tested in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from tutelage.runtime.errors import CheckpointDamaged, TrainingError
from tutelage.training.objectives.given import Given
from tutelage.training.objectives.signal import Need, Signal

if TYPE_CHECKING:
    from torch import Tensor

Part = TypeVar("Part")
Loss = tuple["Tensor", Mapping[str, float]]
"""A scalar with its graph, and figures to log; nats."""


class ObjectiveState(Protocol):
    """What an objective carries from one optimizer step to the next, as JSON values."""

    def stepped(self, loss: float) -> None:
        """One optimizer step was made; ``loss`` is the mean over its micro-batches."""
        ...

    def state_dict(self) -> dict[str, float | int | None]:
        """All there is to go on from."""
        ...

    def load_state_dict(self, state: Mapping[str, float | int | None]) -> None:
        """Goes on from there."""
        ...


@dataclass(frozen=True, slots=True)
class Limit:
    """A special case in which an objective must equal another, or a number."""

    options: Mapping[str, object]
    equals: str | float
    """Name of an objective, or the value itself."""
    equal_options: Mapping[str, object] = field(default_factory=dict)
    compare: Literal["value", "gradient"] = "value"
    """``gradient``: they may differ by a constant."""
    same_models: bool = False
    """Holds where the teacher is the student."""


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """A loss; pure for a given state, which changes in ``stepped`` alone."""

    name: str
    signal: Signal
    """The poorest signal of a teacher that it can work with."""
    formula: Callable[[Given], Loss]
    needs: frozenset[Need] = frozenset()
    state: ObjectiveState | None = None
    limits: tuple[Limit, ...] = ()

    def require(self, offered: Signal) -> None:
        """Asks before any training whether a teacher's signal is enough.

        Raises:
            TrainingError: It is not.
        """
        if not offered.gives(self.signal):
            raise TrainingError(
                f"objective {self.name!r} needs the teacher's {self.signal.value} "
                f"(T{self.signal.tier}), and the teacher gives {offered.value} (T{offered.tier}): "
                "choose an objective of that tier or a teacher that gives more"
            )

    def loss(self, given: Given) -> Loss:
        """The mean loss of a batch, and figures to log.

        Raises:
            TrainingError: The batch lacks the signal or a part that this objective needs.
        """
        self._check(given)
        return self.formula(given)

    def stepped(self, loss: float) -> None:
        """Call once an optimizer step of training, never in evaluation.

        Args:
            loss: Mean over the micro-batches of the step.
        """
        if self.state is not None:
            self.state.stepped(loss)

    def state_dict(self) -> dict[str, float | int | None]:
        """For the checkpoint; JSON values, empty where nothing is carried."""
        return {} if self.state is None else self.state.state_dict()

    def load_state_dict(self, state: Mapping[str, float | int | None]) -> None:
        """Goes on where a checkpoint ended.

        Raises:
            CheckpointDamaged: It holds other keys than this objective wrote.
        """
        expected = set(self.state_dict())
        if set(state) != expected:
            raise CheckpointDamaged(
                f"state of objective {self.name!r} has the keys {sorted(state)}, not "
                f"{sorted(expected)}: resume with the objective that the run was started with"
            )
        if self.state is not None:
            self.state.load_state_dict(state)

    def _check(self, given: Given) -> None:
        if not self._signal_in(given):
            raise TrainingError(
                f"objective {self.name!r} needs the teacher's {self.signal.value} "
                f"(T{self.signal.tier}), and this batch has none: score the examples with such a "
                "teacher or choose an objective of a lower tier"
            )
        held = {
            Need.PAIRS: given.rejected is not None,
            Need.RATIONALE: given.explained is not None,
            Need.CHUNKS: given.chunks is not None,
            Need.HIDDEN: given.hidden is not None,
            Need.DEMONSTRATIONS: given.demonstrated is not None,
            Need.SAME_VOCABULARY: True,
        }
        for need in sorted(self.needs):
            if not held[need]:
                raise TrainingError(
                    f"objective {self.name!r} needs {need.value} and this batch has none: add them "
                    "to the examples or choose another objective"
                )
        if Need.SAME_VOCABULARY in self.needs and given.teacher.logits is not None:
            teacher, student = given.teacher.logits.shape[-1], given.chosen.logits.shape[-1]
            if teacher != student:
                raise TrainingError(
                    f"objective {self.name!r} needs one vocabulary, and the teacher has {teacher} "
                    f"tokens, the student {student}: use objective 'alm'"
                )

    def _signal_in(self, given: Given) -> bool:
        if Need.CHUNKS in self.needs:
            return True
        if Need.PAIRS in self.needs and self.signal is Signal.LOG_PROBS:
            return given.teacher.has(self.signal) and given.teacher.rejected_log_probs is not None
        return given.teacher.has(self.signal)


def part(name: str, value: Part | None) -> Part:
    """A part of a batch that ``Objective.loss`` found to be there."""
    if value is None:
        raise TrainingError(f"the batch has no {name}: call the objective's loss, not its formula")
    return value
