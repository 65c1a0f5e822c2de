"""Random batches for objectives: every part that any of them may need."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.training.objectives.given import ChunkPairs, Given, Scored, TeacherSignal, TopK


def logits(seed: int, batch: int = 3, seq: int = 4, vocab: int = 6, grad: bool = False) -> Tensor:
    drawn = torch.randn(
        batch, seq, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return (2 * drawn).requires_grad_(grad)


def scored(seed: int, grad: bool = True, seq: int = 4) -> Scored:
    generator = torch.Generator().manual_seed(seed + 1)
    targets = torch.randint(0, 6, (3, seq), generator=generator)
    mask = torch.ones(3, seq, dtype=torch.bool)
    mask[0, -1] = mask[1, 0] = False
    return Scored(logits(seed, seq=seq, grad=grad), targets, mask)


def log_probs_of(given: Scored, values: Tensor) -> Tensor:
    return values.log_softmax(-1).gather(-1, given.targets.unsqueeze(-1)).squeeze(-1)


def full(seed: int = 0, *, same_models: bool = False) -> Given:
    """Everything; where ``same_models``, the teacher is the student."""
    chosen, rejected = scored(seed), scored(seed + 10)
    teacher = chosen.logits.detach() if same_models else logits(seed + 20)
    wrong = rejected.logits.detach() if same_models else logits(seed + 30)
    own = log_probs_of(chosen, chosen.logits.detach())
    numbers = torch.where(chosen.mask, torch.arange(4), -1)
    top = teacher.log_softmax(-1).topk(2)
    return Given(
        chosen=chosen,
        rejected=rejected,
        explained=scored(seed + 40, seq=5),
        teacher=TeacherSignal(
            log_probs=log_probs_of(chosen, teacher),
            rejected_log_probs=log_probs_of(rejected, wrong),
            top_k=TopK(top.indices, top.values),
            logits=teacher,
            hidden=torch.randn(3, 5, generator=torch.Generator().manual_seed(seed + 50)).double(),
        ),
        chunks=ChunkPairs(numbers, numbers, own if same_models else log_probs_of(chosen, teacher)),
        demonstrated=teacher,
        hidden=torch.randn(
            3, 5, generator=torch.Generator().manual_seed(seed + 60), dtype=torch.float64
        ),
    )


def number(value: Tensor) -> float:
    """A scalar, whether it has a graph or not."""
    return float(value.detach())
