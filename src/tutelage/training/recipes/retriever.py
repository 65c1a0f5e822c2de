"""Distillation of scores into the retriever's queries; the demonstrations' vectors stay."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.errors import MissingExtra, NoExamples, TrainingError
from tutelage.training.recipes.checkpoints import verify_folder, write_folder
from tutelage.training.recipes.optimizer import seeded, training_state
from tutelage.training.recipes.progress import ProgressMeter
from tutelage.training.recipes.recipe import Watch
from tutelage.training.recipes.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

Vectors = NDArray[np.float32]
WEIGHTS_FILE = "projection.safetensors"
SETTINGS_FILE = "projection.json"
# Stands for a candidate that is not there; its probability is 0.
_ABSENT = -1e4


@dataclass(frozen=True, slots=True, eq=False)
class ScoredStep:
    """A state of the agent with candidate demonstrations, and what a teacher thinks of each."""

    query: Vectors
    """(width,), unit: the state, as the frozen embedder gives it."""
    candidates: Vectors
    """(n, width), unit rows: demonstrations."""
    usefulness: Vectors
    """(n,): the teacher's scores; only their differences count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverSettings:
    """Settings of `train_retriever`."""

    rank: int | None = None
    """Rank of the change to the query; ``None`` lets the whole matrix change."""
    temperature: float = 0.1
    """Divides the student's cosines, which lie between -1 and 1."""
    teacher_temperature: float = 0.25
    """Divides the teacher's scores."""
    contrastive: float = 0.01
    """Weight of telling a step's best demonstration from those of other steps of the batch."""
    keep: float = 0.01
    """Weight of ``mean |Wx - x|^2``, which holds the query near what the embedder gave."""
    learning_rate: float = 1e-3
    epochs: int = 10
    batch: int = 32
    warm_up: float = 0.05
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class QueryProjection:
    """``x -> normalised(W x)``; needs numpy alone."""

    matrix: Vectors
    """(width, width)."""
    embedder: str = ""
    """Name of the embedder whose queries it was trained on; empty: unknown."""

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self.matrix.shape[-1])

    def project(self, queries: Vectors) -> Vectors:
        """Unit rows to unit rows, (n, width) each."""
        turned = queries @ self.matrix.T
        norms = np.linalg.norm(turned, axis=-1, keepdims=True)
        scaled: Vectors = (turned / np.maximum(norms, 1e-12)).astype(np.float32)
        return scaled

    @staticmethod
    def load(folder: Path) -> QueryProjection:
        """Reads what `train_retriever` wrote.

        Raises:
            MissingExtra: safetensors is not installed.
            CheckpointDamaged: A file is not as it was written.
        """
        try:
            from safetensors.numpy import load_file
        except ImportError as error:
            raise MissingExtra("safetensors", "train") from error
        verify_folder(folder)
        told = json.loads((folder / SETTINGS_FILE).read_bytes())
        return QueryProjection(load_file(folder / WEIGHTS_FILE)["matrix"], told.get("embedder", ""))


@dataclass(frozen=True, slots=True)
class TrainedRetriever:
    """A projection on disk."""

    folder: Path
    losses: tuple[float, ...]
    wall_s: float

    @property
    def projection(self) -> QueryProjection:
        """The projection itself."""
        return QueryProjection.load(self.folder)


def train_retriever(
    steps: Sequence[ScoredStep],
    out: Path,
    settings: RetrieverSettings | None = None,
    watch: Watch | None = None,
    timer: Callable[[], float] = time.monotonic,
    *,
    embedder: str = "",
) -> TrainedRetriever:
    """Learns a projection of queries whose scores of demonstrations follow the teacher's.

    Starts at the identity, so an untrained projection retrieves as the embedder does. A run takes
    seconds and is not resumed: it begins anew, and its folder appears when it is complete.

    Args:
        steps: What to learn from.
        out: Folder of the projection; replaced.
        settings: How.
        watch: Called after each optimizer step; its tokens are scored demonstrations.
        timer: A monotonic clock in seconds.
        embedder: Name of the embedder that made the vectors; a projection that is to be configured
            needs it.

    Raises:
        NoExamples: No step has two candidates that differ in usefulness.
        MissingExtra: torch is not installed.
        TrainingError: A step's shapes do not fit.
    """
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingExtra("torch or safetensors", "train") from error
    chosen = settings or RetrieverSettings()
    useful = [step for step in steps if np.ptp(step.usefulness) > 0]
    if not useful:
        raise NoExamples(
            f"none of {len(steps)} steps has candidates that differ in usefulness: score more "
            "candidates for each step"
        )
    width = useful[0].query.shape[-1]
    for step in useful:
        if step.candidates.shape != (len(step.usefulness), width):
            raise TrainingError(
                f"a step has {len(step.usefulness)} scores and candidates of shape "
                f"{step.candidates.shape}: give one vector of width {width} for each score"
            )
    with training_state(chosen.threads):
        seeded(chosen.seed, 0, 0)
        head = _Head(width, chosen.rank)
        optimizer = torch.optim.AdamW(head.parameters, lr=chosen.learning_rate, weight_decay=0.0)
        an_epoch = -(-len(useful) // chosen.batch)
        schedule = Schedule(chosen.learning_rate, an_epoch * chosen.epochs, chosen.warm_up)
        scored = chosen.epochs * sum(len(step.usefulness) for step in useful)
        meter = ProgressMeter(schedule.steps, scored, 0, 0, timer)
        losses = []
        for _ in range(chosen.epochs):
            order = torch.randperm(len(useful)).tolist()
            for start in range(0, len(useful), chosen.batch):
                batch = [useful[index] for index in order[start : start + chosen.batch]]
                queries, candidates, teacher = _stacked(batch)
                loss = retriever_loss(head.matrix, queries, candidates, teacher, chosen)
                for group in optimizer.param_groups:
                    group["lr"] = schedule.rate(meter.step)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
                progress = meter.stepped(losses[-1], sum(len(step.usefulness) for step in batch))
                if watch is not None:
                    watch(progress)
        matrix = head.matrix.detach().contiguous()

    def fill(folder: Path) -> None:
        save_file({"matrix": matrix}, folder / WEIGHTS_FILE)
        (folder / SETTINGS_FILE).write_text(
            json.dumps(
                {
                    "embedder": embedder,
                    "settings": asdict(chosen),
                    "steps": len(useful),
                    "losses": losses,
                }
            )
        )

    write_folder(out, fill, recipe="retriever")
    return TrainedRetriever(out, tuple(losses), meter.elapsed_s)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """``KL(softmax(t) || softmax(s))`` over the candidates of a step, mean over steps.

    Only differences of scores matter, so any query vector that ranks and spaces the demonstrations
    as the teacher does is right. Source: Lupart et al., DiSCo, arXiv 2410.14609.

    Args:
        student: (batch, n), scores.
        teacher: (batch, n), scores; absent candidates are far below all others in both.

    Returns:
        Scalar, nats.
    """
    wanted, own = teacher.log_softmax(-1), student.log_softmax(-1)
    return (wanted.exp() * (wanted - own)).sum(-1).mean()


def retriever_loss(
    matrix: Tensor,
    queries: Tensor,
    candidates: Tensor,
    teacher: Tensor,
    settings: RetrieverSettings,
) -> Tensor:
    """Score distillation, a little contrast within the batch, and a pull towards the identity.

    Args:
        matrix: (width, width), what is learned.
        queries: (batch, width), unit rows.
        candidates: (batch, n, width), unit rows or zeros where absent; no gradient.
        teacher: (batch, n), scores.
        settings: Temperatures and weights.

    Returns:
        Scalar, nats.
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    turned = queries @ matrix.T
    pull = (turned - queries).square().sum(-1).mean()
    unit = normalize(turned, dim=-1)
    scores = torch.einsum("bw,bnw->bn", unit, candidates) / settings.temperature
    absent = teacher <= _ABSENT / 2
    scores = scores.masked_fill(absent, _ABSENT)
    loss = distillation_loss(
        scores, (teacher / settings.teacher_temperature).masked_fill(absent, _ABSENT)
    )
    best = candidates[torch.arange(len(candidates)), teacher.argmax(-1)]
    others = unit @ best.T / settings.temperature
    contrast = cross_entropy(others, torch.arange(len(others)))
    return (
        (1 - settings.contrastive) * loss + settings.contrastive * contrast + settings.keep * pull
    )


class _Head:
    """The identity plus a change that starts at 0."""

    def __init__(self, width: int, rank: int | None) -> None:
        import torch

        self._identity = torch.eye(width)
        if rank is None:
            self.parameters = [torch.zeros(width, width, requires_grad=True)]
        else:
            down = (torch.randn(rank, width) / width**0.5).requires_grad_()
            self.parameters = [torch.zeros(width, rank, requires_grad=True), down]

    @property
    def matrix(self) -> Tensor:
        """(width, width), with its graph."""
        if len(self.parameters) == 1:
            return self._identity + self.parameters[0]
        return self._identity + self.parameters[0] @ self.parameters[1]


def _stacked(batch: Sequence[ScoredStep]) -> tuple[Any, Any, Any]:
    """Queries, candidates and scores as tensors, padded to the most candidates."""
    import torch

    most = max(len(step.usefulness) for step in batch)
    width = batch[0].query.shape[-1]
    candidates = torch.zeros(len(batch), most, width)
    teacher = torch.full((len(batch), most), _ABSENT)
    for row, step in enumerate(batch):
        count = len(step.usefulness)
        candidates[row, :count] = torch.from_numpy(np.asarray(step.candidates, np.float32))
        teacher[row, :count] = torch.from_numpy(np.asarray(step.usefulness, np.float32))
    queries = torch.from_numpy(np.stack([step.query for step in batch]).astype(np.float32))
    return queries, candidates, teacher


def recall_of_useful(
    steps: Sequence[ScoredStep], projection: QueryProjection | None, k: int
) -> float:
    """Mean share of a step's useful demonstrations that the retriever has among its first ``k``.

    Useful are the candidates of the highest usefulness; of more than ``k``, finding ``k`` is all.
    Steps whose candidates are all alike do not count.

    Args:
        steps: Held-out steps.
        projection: Of the queries; ``None``: as the embedder gave them.
        k: Demonstrations shown.

    Raises:
        NoExamples: No step counts.
    """
    shares = []
    for step in steps:
        if np.ptp(step.usefulness) == 0:
            continue
        query = step.query[None]
        if projection is not None:
            query = projection.project(query)
        first = np.argsort(-(step.candidates @ query[0]), kind="stable")[:k]
        useful = step.usefulness >= step.usefulness.max()
        shares.append(useful[first].sum() / min(k, int(useful.sum())))
    if not shares:
        raise NoExamples("no held-out step has candidates that differ in usefulness")
    return float(np.mean(shares))
