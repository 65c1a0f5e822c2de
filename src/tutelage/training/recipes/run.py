"""A training run on disk: where it is, how to go on, what it left behind."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tutelage.runtime.errors import CheckpointDamaged, TrainingError
from tutelage.training.data.example import TrainingExample
from tutelage.training.recipes.adapters import merged, save_adapter
from tutelage.training.recipes.checkpoints import (
    Checkpoints,
    sha256,
    verify_folder,
    write_folder,
)
from tutelage.training.recipes.loss_curve import append_loss, keep_losses, write_curve
from tutelage.training.recipes.memory import peak_memory_bytes
from tutelage.training.recipes.processes import Processes
from tutelage.training.recipes.progress import ProgressMeter
from tutelage.training.recipes.recipe import TrainedStudent, Watch
from tutelage.training.recipes.settings import TrainingSettings
from tutelage.training.recipes.weights import save_weights, trainable

if TYPE_CHECKING:
    from torch.optim import Optimizer

RESULT_FILE = "result.json"
STUDENT_FOLDER = "student"
ADAPTER_FOLDER = "adapter"
LOCK_FILE = "run.lock"


class Stateful(Protocol):
    """What carries a state from step to step, as an objective does."""

    def state_dict(self) -> dict[str, float | int | None]:
        """All there is to go on from, as JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, float | int | None]) -> None:
        """Goes on from there."""
        ...


def fingerprint(
    recipe: str,
    settings: Mapping[str, Any],
    examples: Sequence[TrainingExample],
    checkpoint: Path,
    **more: object,
) -> str:
    """Hex digest of all that decides what a run learns.

    Raises:
        TrainingError: The checkpoint has no weights in safetensors.
    """
    digest = hashlib.sha256(json.dumps([recipe, settings, more], sort_keys=True).encode())
    for example in examples:
        digest.update(example.model_dump_json().encode())
    digest.update(weights_digest(checkpoint).encode())
    return digest.hexdigest()


def weights_digest(checkpoint: Path) -> str:
    """Hex digest of a checkpoint's weights.

    Raises:
        TrainingError: It has none in safetensors.
    """
    weights = sorted(checkpoint.glob("*.safetensors"))
    if not weights:
        raise TrainingError(
            f"{checkpoint} has no weights in safetensors: give the folder of a checkpoint"
        )
    return hashlib.sha256("".join(map(sha256, weights)).encode()).hexdigest()


class Run:
    """One run in its folder.

    Args:
        out: Its folder.
        recipe: Name of the recipe.
        settings: What it is run with.
        fingerprint: Of all that decides what it learns.
        processes: Who trains; the first of them writes.
        watch: Called after each optimizer step.
        timer: A monotonic clock in seconds.
    """

    def __init__(
        self,
        out: Path,
        *,
        recipe: str,
        settings: TrainingSettings,
        fingerprint: str,
        processes: Processes,
        watch: Watch | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.out = out
        self._recipe = recipe
        self._settings = settings
        self._fingerprint = fingerprint
        self._processes = processes
        self._watch = watch
        self._timer = timer
        self._checkpoints = Checkpoints(out / "checkpoints", settings.keep_checkpoints)
        self._losses: list[float] = []
        self._wall_before_s = 0.0
        self._meter: ProgressMeter | None = None
        self._parts: tuple[Any, Optimizer, Stateful | None] | None = None
        self._saved_step = -1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs out of the folder.

        Raises:
            TrainingError: One is there.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        if not self._processes.is_first:
            yield
            return
        lock = os.open(self.out / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TrainingError(
                    f"another process trains in {self.out}: wait for it, or use another folder"
                ) from error
            yield
        finally:
            os.close(lock)

    def result(self) -> TrainedStudent | None:
        """What this very run left behind, if it ended before and all of it is there.

        Raises:
            TrainingError: The folder holds another run.
        """
        path = self.out / RESULT_FILE
        if not path.exists():
            return None
        try:
            kept = json.loads(path.read_text())
            self._refuse_other(kept["fingerprint"])
            verify_folder(self.out / STUDENT_FOLDER)
            return _student(self.out, kept)
        except (CheckpointDamaged, KeyError, ValueError):
            return None

    def resume(
        self,
        model: Any,
        optimizer: Optimizer,
        tokens: Sequence[int],
        objective: Stateful | None = None,
    ) -> int:
        """Goes to the newest checkpoint, and returns the steps that are made.

        Args:
            model: Its trainable parameters are overwritten.
            optimizer: Likewise its state.
            tokens: Of each step of the run.
            objective: Its state is kept with the rest.

        Raises:
            TrainingError: The folder holds another run.
            CheckpointDamaged: No checkpoint is whole.
        """
        self._parts = (model, optimizer, objective)
        saved = self._checkpoints.newest()
        step = 0
        if saved is not None:
            self._refuse_other(saved.state["fingerprint"])
            step = saved.step
            _load(model, optimizer, saved.tensors)
            if objective is not None:
                objective.load_state_dict(saved.state["objective"])
            self._losses = list(saved.state["losses"])
            self._wall_before_s = float(saved.state["wall_s"])
        if self._processes.is_first:
            keep_losses(self.out, step)
        # No process may write before all have read.
        self._processes.wait()
        self._saved_step = step
        self._meter = ProgressMeter(len(tokens), sum(tokens), step, sum(tokens[:step]), self._timer)
        return step

    def stepped(self, loss: float, tokens: int, learning_rate: float) -> None:
        """Counts an optimizer step, tells of it, and saves a checkpoint when one is due."""
        meter = self._running()
        progress = meter.stepped(loss, tokens)
        self._losses.append(loss)
        if not self._processes.is_first:
            return
        append_loss(self.out, progress, learning_rate)
        if meter.step % self._settings.checkpoint_every == 0 and meter.step < progress.steps:
            self.save()
        if self._watch is not None:
            try:
                self._watch(progress)
            except BaseException:
                # Whoever gives a run up goes on from here.
                self.save()
                raise

    def save(self) -> None:
        """Saves a checkpoint of this step, if there is none."""
        meter = self._running()
        assert self._parts is not None
        if not self._processes.is_first or self._saved_step == meter.step:
            return
        model, optimizer, objective = self._parts
        self._checkpoints.save(
            meter.step,
            {"trained": trainable(model), "optimizer": _optimizer_tensors(optimizer)},
            {
                "fingerprint": self._fingerprint,
                "objective": {} if objective is None else objective.state_dict(),
                "losses": self._losses,
                "wall_s": self._wall_s,
            },
        )
        self._saved_step = meter.step

    def finish(self, model: Any, tokenizer: Any, supervised_tokens: int) -> TrainedStudent:
        """Merges, writes the student and its papers, and drops the checkpoints."""
        if self._processes.is_first:
            self._write(model, tokenizer, supervised_tokens)
        self._processes.wait()
        student = self.result()
        assert student is not None
        return student

    def _write(self, model: Any, tokenizer: Any, supervised_tokens: int) -> None:
        has_adapter = self._settings.lora is not None
        result = {
            "fingerprint": self._fingerprint,
            "recipe": self._recipe,
            "adapter": has_adapter,
            "losses": self._losses,
            "tokens": self._running().tokens,
            "supervised_tokens": supervised_tokens,
            "wall_s": self._wall_s,
            "peak_memory_bytes": peak_memory_bytes(self._processes.device),
            "settings": {"recipe": self._recipe, **self._settings.as_json()},
        }
        if has_adapter:
            write_folder(self.out / ADAPTER_FOLDER, lambda folder: save_adapter(model, folder))
            model = merged(model)
        dtype = "bfloat16" if self._settings.precision == "bf16" else "float32"
        write_folder(
            self.out / STUDENT_FOLDER,
            lambda folder: save_weights(model, tokenizer, folder, dtype=dtype),
            recipe=self._recipe,
            fingerprint=self._fingerprint,
        )
        write_curve(self.out, self._losses, self._recipe)
        scratch = self.out / f".{RESULT_FILE}"
        scratch.write_text(json.dumps(result, indent=1) + "\n")
        scratch.replace(self.out / RESULT_FILE)
        self._checkpoints.clear()

    @property
    def _wall_s(self) -> float:
        return self._wall_before_s + self._running().elapsed_s

    def _running(self) -> ProgressMeter:
        assert self._meter is not None, "resume() comes first"
        return self._meter

    def _refuse_other(self, found: str) -> None:
        if found != self._fingerprint:
            raise TrainingError(
                f"{self.out} holds a run with other examples, settings or another student: choose "
                "another folder, or delete this one"
            )


def _student(out: Path, kept: Mapping[str, Any]) -> TrainedStudent:
    return TrainedStudent(
        checkpoint=out / STUDENT_FOLDER,
        adapter=out / ADAPTER_FOLDER if kept["adapter"] else None,
        losses=tuple(kept["losses"]),
        tokens=kept["tokens"],
        supervised_tokens=kept["supervised_tokens"],
        wall_s=kept["wall_s"],
        peak_memory_bytes=kept["peak_memory_bytes"],
        settings=kept["settings"],
    )


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Any]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, one in state.items() for name, value in one.items()}


def _load(model: Any, optimizer: Optimizer, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    import torch

    parameters = trainable(model)
    with torch.no_grad():
        for name, value in tensors["trained"].items():
            parameters[name].copy_(value)
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors["optimizer"].items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
