"""The student's own answers, kept where they are verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tutelage.runtime.errors import NoExamples
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.drawing import Draw
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.trainer import Pair

Verify = Callable[[int, Sequence[int]], bool]
"""Whether an answer to the prompt of a number is right: the environment's success, or an action
equal to the teacher's."""


@dataclass(frozen=True, slots=True)
class OwnTrajectory:
    """An answer of the student, and the order in which it was written."""

    pair: Pair
    order: tuple[int, ...]
    """Of every slot, the forward in which it was written; -1: after the end of the answer."""


@dataclass(frozen=True, slots=True)
class OwnTrajectories:
    """What was kept, and of how many."""

    kept: tuple[OwnTrajectory, ...]
    written: int

    @property
    def share_kept(self) -> float:
        """From 0 to 1."""
        return len(self.kept) / self.written if self.written else 0.0


def own_trajectories(
    model: DiffusionTransformer,
    prompts: Sequence[Sequence[int]],
    verify: Verify,
    settings: DecodingSettings,
    *,
    temperature: float = 0.0,
    samples: int = 1,
    batch: int = 64,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> OwnTrajectories:
    """Lets the student answer, and keeps the answers that are right.

    Args:
        model: The student.
        prompts: Token ids.
        verify: Says whether an answer is right.
        settings: How the student decodes.
        temperature: 0 is greedy.
        samples: Answers to each prompt; more than one need a temperature.
        batch: Answers that are written at a time.
        seed: Of the samples.
        progress: Called with the number of answers written since the last call.

    Raises:
        NoExamples: No answer was right.
    """
    numbers = [number for number in range(len(prompts)) for _ in range(samples)]
    kept: list[OwnTrajectory] = []
    for begin in range(0, len(numbers), batch):
        chosen = numbers[begin : begin + batch]
        draws = [
            Draw(temperature, random=torch.Generator().manual_seed(seed + begin + place))
            for place in range(len(chosen))
        ]
        answers = decode(model, [prompts[number] for number in chosen], settings, draws=draws)
        for number, answer in zip(chosen, answers, strict=True):
            if answer.finish_reason == "stop" and verify(number, answer.tokens):
                pair = Pair(tuple(prompts[number]), answer.tokens)
                kept.append(OwnTrajectory(pair, answer.order))
        if progress is not None:
            progress(len(chosen))
    if not kept:
        raise NoExamples(
            f"none of the student's {len(numbers)} own answers passed the check, so there is "
            "nothing to distil: train the student longer, give it easier prompts, or draw several "
            "samples of each at a temperature"
        )
    return OwnTrajectories(tuple(kept), len(numbers))
