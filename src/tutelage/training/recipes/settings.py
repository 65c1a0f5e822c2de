"""What every recipe that trains a language model can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tutelage.runtime.errors import TrainingError
from tutelage.training.recipes.adapters import Lora
from tutelage.training.recipes.packing import Batching, Order, Packing
from tutelage.training.recipes.schedule import Decay, Schedule

Precision = Literal["bf16", "fp32"]

LORA_RATE = 1e-3
FULL_RATE = 2e-5
# They change how a run is carried out, not what it learns; a run may be resumed with others.
_CARRYING_OUT = ("device", "threads", "checkpoint_every", "keep_checkpoints")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Settings of a training loop; the defaults suit a small student on a CPU.

    Raises:
        TrainingError: A number is out of range.
    """

    lora: Lora | None = field(default_factory=Lora)
    """``None`` trains all weights."""
    learning_rate: float | None = None
    """Peak; absent: 1e-3 for adapters, 2e-5 for all weights."""
    warm_up: float = 0.05
    """Share of the steps in which the rate rises."""
    decay: Decay = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0
    """Longest gradient, as its norm."""
    epochs: int = 2
    """Times that each example is seen."""
    steps: int | None = None
    """Optimizer steps at most; absent: as many as the epochs take."""
    max_tokens: int = 1024
    """Longest chat; a longer one is cut after its last supervised turn that fits."""
    tokens_per_batch: int = 2048
    """Tokens, padding included, that go through the model at once: what memory depends on."""
    batches_per_step: int = 1
    """Batches whose gradients make one optimizer step, over all processes together."""
    batching: Batching = "sorted"
    order: Order = "shuffled"
    """``given`` keeps the examples' order, as a curriculum wants it."""
    seed: int = 0
    precision: Precision = "bf16"
    """What the matrices are multiplied in; adapters and optimizer are float32 in any case."""
    gradient_checkpointing: bool = False
    """Less memory for about a third more time."""
    device: str = "auto"
    threads: int | None = None
    """Threads of torch on the CPU; absent: as they are."""
    checkpoint_every: int = 20
    """Optimizer steps between two checkpoints."""
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        positive = (
            "epochs",
            "max_tokens",
            "tokens_per_batch",
            "batches_per_step",
            "checkpoint_every",
            "keep_checkpoints",
            "clip",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name} is {getattr(self, name)}: give a positive number")
        if self.steps is not None and self.steps <= 0:
            raise TrainingError(f"steps is {self.steps}: give a positive number, or none")
        if not 0 <= self.warm_up <= 1:
            raise TrainingError(f"warm_up is {self.warm_up}: give a share from 0 to 1")

    @property
    def peak_rate(self) -> float:
        """The highest learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LORA_RATE if self.lora is not None else FULL_RATE

    @property
    def packing(self) -> Packing:
        """How chats are put together."""
        return Packing(
            tokens_per_batch=self.tokens_per_batch,
            batches_per_step=self.batches_per_step,
            batching=self.batching,
            order=self.order,
            row_tokens=self.max_tokens,
            seed=self.seed,
        )

    def schedule(self, steps: int) -> Schedule:
        """The learning rate of each of ``steps`` steps."""
        return Schedule(self.peak_rate, steps, self.warm_up, self.decay)

    def as_json(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return asdict(self)

    def learning(self) -> dict[str, Any]:
        """The settings that decide what is learned."""
        return {key: value for key, value in asdict(self).items() if key not in _CARRYING_OUT}


SMALL_CPU_STUDENT = TrainingSettings()
"""For a student of 0.1 to 0.5 billion parameters on a few CPU cores, in minutes."""
