"""A diffusion student as a recipe of the loop: ``training.recipe`` names it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.runtime.errors import NoExamples, TrainingError
from tutelage.runtime.models.diffusion_server import is_diffusion
from tutelage.training.data.example import TrainingExample
from tutelage.training.diffusion.conversion import convert_llama
from tutelage.training.diffusion.lessons import Lesson, distil, pairs_of, scratch_student, teach
from tutelage.training.diffusion.student import DiffusionStudent, load_diffusion_student
from tutelage.training.diffusion.trainer import DiffusionTraining
from tutelage.training.recipes.recipe import TrainedStudent, Watch

FOLDER = "student"


@dataclass(frozen=True, slots=True)
class DiffusionRecipe:
    """Trains a masked-diffusion student on every supervised turn of the examples.

    As ``training.recipe = "tutelage.training.diffusion.recipe:DiffusionRecipe"``, with these fields
    as ``training.settings``. A start that is a diffusion student is trained on; else one is made,
    from scratch or of the start's weights. A run that was cut off begins anew.
    """

    steps: int = 1000
    batch: int = 32
    learning_rate: float = 1e-3
    distil_steps: int = 0
    """Steps of certainty forcing on the student's own right answers; 0: none."""
    beta: float = 2.0
    """Weight of its entropy term."""
    from_scratch: bool = True
    """Whether a student of the examples' words is made; else the start, a Llama model, is
    converted."""
    width: int = 96
    layers: int = 3
    slots: int = 32
    """Longest answer in tokens."""
    max_positions: int = 1024
    """Longest prompt plus answer in tokens."""
    threads: int | None = None
    """Of torch; absent: as they are."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "width", "layers", "slots", "max_positions"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} = {getattr(self, name)}: use at least 1")
        if self.distil_steps < 0:
            raise TrainingError(f"distil_steps = {self.distil_steps}: use 0 or more")

    def train(
        self,
        examples: Sequence[TrainingExample],
        checkpoint: Path,
        out: Path,
        watch: Watch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> TrainedStudent:
        """As ``Recipe.train``.

        Raises:
            NoExamples: No example has a turn that fits the student, or, with ``distil_steps``, no
                answer of its own was right.
            TrainingError: The loss is no number any more.
            ConfigError: The start can be neither loaded nor converted.
        """
        started_s = clock()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        lessons = lessons_of(examples)
        student = self._start(lessons, checkpoint)
        pairs = pairs_of(student, lessons)
        if not pairs:
            raise NoExamples(
                f"none of {len(lessons)} supervised turns fits the student: raise slots or "
                "max_positions in training.settings"
            )
        seen = [0]

        def watched(progress: Any) -> None:
            seen[0] = progress.tokens
            if watch is not None:
                watch(progress)

        losses = teach(student, lessons, self._training(self.steps), watched)
        told: dict[str, object] = {"fitting": len(pairs), "turns": len(lessons)}
        tokens = seen[0]
        if self.distil_steps:
            distilling = self._training(self.distil_steps)
            kept = distil(student, lessons, distilling, beta=self.beta, watch=watched)
            told["own_right"] = kept
            tokens += seen[0]
        folder = student.save(out / FOLDER)
        mean_answer = sum(len(pair.answer) + 1 for pair in pairs) / len(pairs)
        return TrainedStudent(
            checkpoint=folder,
            adapter=None,
            losses=tuple(losses),
            tokens=tokens,
            supervised_tokens=round(mean_answer * self.batch * self.steps),
            wall_s=clock() - started_s,
            peak_memory_bytes=0,
            settings={**asdict(self), **told},
        )

    def _start(self, lessons: Sequence[Lesson], checkpoint: Path) -> DiffusionStudent:
        if is_diffusion(checkpoint):
            return load_diffusion_student(checkpoint)
        if not self.from_scratch:
            return convert_llama(
                checkpoint,
                slots=self.slots,
                block_length=min(self.slots, 32),
                max_positions=self.max_positions,
            )
        return scratch_student(
            lessons,
            width=self.width,
            layers=self.layers,
            slots=self.slots,
            max_positions=self.max_positions,
            seed=self.seed,
        )

    def _training(self, steps: int) -> DiffusionTraining:
        return DiffusionTraining(
            steps=steps, batch=self.batch, learning_rate=self.learning_rate, seed=self.seed
        )


def lessons_of(examples: Sequence[TrainingExample]) -> list[Lesson]:
    """Every supervised turn of chats, with what stands before it.

    Raises:
        NoExamples: There is none.
    """
    found = []
    for one in examples:
        messages = [_plain(message) for message in one.messages]
        for place in one.supervised:
            found.append(Lesson(tuple(messages[:place]), messages[place]["content"]))
    if not found:
        raise NoExamples("there is nothing to train on: no example has a supervised turn")
    return found


def _plain(message: Mapping[str, Any]) -> dict[str, str]:
    from tutelage.runtime.types import Message

    read = Message.model_validate(message)
    return {"role": read.role, "content": read.text}
