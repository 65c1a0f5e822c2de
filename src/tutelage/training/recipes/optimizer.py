"""AdamW, its step, and what of torch is set for the time of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tutelage.training.recipes.settings import Precision, TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


def adamw(parameters: Sequence[Tensor], settings: TrainingSettings) -> Optimizer:
    """Source: Loshchilov and Hutter, Decoupled weight decay regularization, arXiv 1711.05101."""
    import torch

    optimizer: Optimizer = torch.optim.AdamW(
        parameters, lr=settings.peak_rate, weight_decay=settings.weight_decay
    )
    return optimizer


def clipped_step(
    optimizer: Optimizer, parameters: Sequence[Tensor], rate: float, clip: float
) -> None:
    """One step against the gradients, which are cut to the norm ``clip`` and then dropped."""
    import torch

    torch.nn.utils.clip_grad_norm_(parameters, clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def autocast(device: str, precision: Precision) -> Any:
    """Multiplies matrices in bf16, where that is asked for."""
    import torch

    kind = device.partition(":")[0]
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16")


def seeded(seed: int, step: int, rank: int) -> None:
    """Seeds torch for one step: what is drawn in it depends on nothing that came before."""
    import torch

    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)


@contextmanager
def training_state(threads: int | None) -> Iterator[None]:
    """Sets torch's threads, and restores them and its random generator after the run."""
    import torch

    before = torch.get_num_threads()
    with torch.random.fork_rng():
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
