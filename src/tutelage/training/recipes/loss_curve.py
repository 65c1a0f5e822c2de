"""The losses of a run, as lines of JSON and as a picture."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from tutelage.runtime.errors import MissingExtra
from tutelage.training.recipes.recipe import TrainingProgress

LOSSES_FILE = "losses.jsonl"
PICTURE_FILE = "loss.png"

logger = logging.getLogger(__name__)


def append_loss(folder: Path, progress: TrainingProgress, learning_rate: float) -> None:
    """Adds one step to ``losses.jsonl``."""
    line = {
        "step": progress.step,
        "loss": progress.loss,
        "learning_rate": learning_rate,
        "tokens": progress.tokens,
        "tokens_per_s": round(progress.tokens_per_s, 1),
    }
    with (folder / LOSSES_FILE).open("a") as file:
        file.write(json.dumps(line) + "\n")


def keep_losses(folder: Path, steps: int) -> None:
    """Drops the lines after ``steps``, which a killed run wrote past its last checkpoint."""
    path = folder / LOSSES_FILE
    if not path.exists():
        return
    kept = path.read_text().splitlines(keepends=True)[:steps]
    scratch = path.with_suffix(".new")
    scratch.write_text("".join(kept))
    scratch.replace(path)


def smoothed(losses: Sequence[float], share: float = 0.1) -> list[float]:
    """An exponential mean, each step weighing ``share``."""
    means: list[float] = []
    for loss in losses:
        means.append(loss if not means else (1 - share) * means[-1] + share * loss)
    return means


def draw_losses(losses: Sequence[float], title: str) -> bytes:
    """Loss against optimizer steps, as a PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    with rc_context({"font.size": 10}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        steps = range(1, len(losses) + 1)
        axes.plot(steps, losses, color="0.75", linewidth=1, label="each step")
        axes.plot(steps, smoothed(losses), color="C0", label="smoothed")
        axes.set(xlabel="optimizer step", ylabel="loss, nats a token", title=title)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        picture = io.BytesIO()
        # The version of the software would make equal curves differ.
        figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
    return picture.getvalue()


def write_curve(folder: Path, losses: Sequence[float], title: str) -> Path | None:
    """Writes ``loss.png``; returns ``None`` where matplotlib is not installed."""
    try:
        picture = draw_losses(losses, title)
    except MissingExtra as error:
        logger.info("no picture of the losses: %s", error)
        return None
    path = folder / PICTURE_FILE
    path.write_bytes(picture)
    return path
