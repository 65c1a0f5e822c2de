"""Examples for the tiny student, and a program that trains it: also killed, also in two processes.

Run as ``python toys.py RECIPE CHECKPOINT OUT [KILL_AT_STEP]``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tutelage.training.data.example import TrainingExample
from tutelage.training.recipes.adapters import Lora
from tutelage.training.recipes.preference import Preference
from tutelage.training.recipes.progressive import Progressive
from tutelage.training.recipes.recipe import Recipe, TrainingProgress
from tutelage.training.recipes.settings import TrainingSettings
from tutelage.training.recipes.supervised import Supervised

WORDS = ("ash", "bay", "cedar", "dogwood", "elm", "fir", "gum", "holly")


def chat(*turns: str, system: str = "say it back") -> tuple[dict[str, Any], ...]:
    """A system message, then user and assistant in turn."""
    roles = ("user", "assistant")
    spoken = [{"role": roles[at % 2], "content": turn} for at, turn in enumerate(turns)]
    return ({"role": "system", "content": system}, *spoken)


def example(number: int, *, turns: int = 2, weight: float = 1.0) -> TrainingExample:
    """The assistant says back what the user said."""
    said = [WORDS[(number + turn) % len(WORDS)] for turn in range(turns) for _ in range(2)]
    return TrainingExample(
        id=f"episode-{number}",
        tenant="acme",
        episode_id=f"episode-{number}",
        messages=chat(*said),
        supervised=tuple(2 + 2 * turn for turn in range(turns)),
        weight=weight,
    )


def step_example(number: int) -> TrainingExample:
    """One turn, the last message of the chat."""
    return example(number, turns=1)


def shown(one: TrainingExample) -> TrainingExample:
    """The example behind a demonstration of one turn."""
    system, *rest = one.messages
    return one.model_copy(
        update={
            "messages": (system, *chat("oak", "oak")[1:], *rest),
            "supervised": tuple(index + 2 for index in one.supervised),
        }
    )


def settings(**changed: Any) -> TrainingSettings:
    """Few and small steps, dropout among them, exact on one thread."""
    chosen: dict[str, Any] = {
        "lora": Lora(rank=4, alpha=8, dropout=0.1),
        "learning_rate": 0.01,
        "epochs": 2,
        "max_tokens": 120,
        "tokens_per_batch": 160,
        "batches_per_step": 2,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "checkpoint_every": 3,
        **changed,
    }
    return TrainingSettings(**chosen)


def recipe(name: str, **changed: Any) -> Recipe:
    """A recipe for the tiny student."""
    if name == "progressive":
        return Progressive(shown=shown, settings=settings(**changed))
    if name == "preference":
        rejected = {f"episode-{number}": "no" for number in range(16)}
        return Preference(rejected, settings=settings(**changed))
    return Supervised(settings(**changed))


def examples(name: str) -> list[TrainingExample]:
    """What the recipe is given."""
    make = step_example if name == "preference" else example
    return [make(number) for number in range(16)]


def main() -> None:
    """Trains; kills itself at a step if one is named."""
    name, checkpoint, out, *rest = sys.argv[1:]

    def watch(progress: TrainingProgress) -> None:
        if rest and progress.step == int(rest[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    changed = {"lora": Lora(rank=4, alpha=8)} if "WORLD_SIZE" in os.environ else {}
    recipe(name, **changed).train(examples(name), Path(checkpoint), Path(out), watch)
    (Path(out) / f"rank-{os.environ.get('RANK', '0')}").touch()


if __name__ == "__main__":
    main()
