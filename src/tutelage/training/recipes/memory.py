"""How much memory a run took, and what to change when it was too much."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tutelage.runtime.errors import TrainingError
from tutelage.training.recipes.packing import Batch
from tutelage.training.recipes.settings import TrainingSettings

_CPU_ALLOCATOR = ("can't allocate memory", "not enough memory")


def peak_memory_bytes(device: str = "cpu") -> int:
    """Most memory that this process, or on a GPU its tensors, held so far."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def give_memory_back() -> None:
    """Returns what a run has freed to the system, so that a server of the student can start.

    The allocator of glibc keeps it: two steps of a student of 135 M left 2.4 GB with the process,
    0.5 GB after this.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in _CPU_ALLOCATOR
    )


@contextmanager
def memory_advice(step: int, batch: Batch, settings: TrainingSettings) -> Iterator[None]:
    """Answers a lack of memory with the setting to change.

    Args:
        step: The optimizer step, from 0.
        batch: What goes through the model.
        settings: Those of the run.

    Raises:
        TrainingError: Memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        rows, width = batch.tokens.shape
        if rows > 1:
            advice = (
                f"lower tokens_per_batch (now {settings.tokens_per_batch}) to "
                f"{max(width, settings.tokens_per_batch // 2)} and double batches_per_step (now "
                f"{settings.batches_per_step}) to keep the size of a step"
            )
        elif not settings.gradient_checkpointing:
            advice = "set gradient_checkpointing to true, which costs about a third more time"
        else:
            advice = f"lower max_tokens (now {settings.max_tokens}) below {width}"
        raise TrainingError(
            f"out of memory at step {step + 1} with {rows} x {width} tokens: {advice}"
        ) from error
