from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.recipes.toys import example, settings

from tutelage.runtime.errors import TrainingError
from tutelage.training.recipes.memory import (
    give_memory_back,
    is_out_of_memory,
    memory_advice,
    peak_memory_bytes,
)
from tutelage.training.recipes.packing import Batch, collate
from tutelage.training.recipes.tokenized import load_tokenizer


def batch(tiny_llama: Path, rows: int) -> Batch:
    chats = load_tokenizer(tiny_llama).encode_all([example(n) for n in range(rows)], 120)
    return collate(tuple((n,) for n in range(rows)), chats)


@pytest.mark.parametrize(
    ("rows", "changed", "advice"),
    [
        (2, {"tokens_per_batch": 400}, "lower tokens_per_batch .now 400. to 200 and double"),
        (1, {}, "set gradient_checkpointing to true"),
        (1, {"gradient_checkpointing": True}, "lower max_tokens .now 120. below"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["gpu", "python", "cpu"],
)
def test_a_lack_of_memory_names_the_setting(
    tiny_llama: Path, rows: int, changed: dict[str, Any], advice: str, error: Exception
) -> None:
    with (
        pytest.raises(TrainingError, match=f"out of memory at step 4 .*: {advice}") as raised,
        memory_advice(3, batch(tiny_llama, rows), settings(**changed)),
    ):
        raise error
    assert "\n" not in str(raised.value)


def test_other_errors_pass(tiny_llama: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="shapes differ"),
        memory_advice(0, batch(tiny_llama, 1), settings()),
    ):
        raise RuntimeError("shapes differ")
    assert not is_out_of_memory(ValueError("not enough memory"))


def test_the_peak_of_this_process_is_counted_in_bytes() -> None:
    assert peak_memory_bytes() > 50_000_000


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another allocator than glibc's"
)
def test_what_a_run_has_freed_goes_back_to_the_system() -> None:
    # Small blocks between ones that live: the allocator keeps them until it is told.
    blocks = [bytes(60_000) for _ in range(4000)]
    kept = blocks[::100]
    del blocks
    before = _resident_bytes()
    give_memory_back()
    assert _resident_bytes() < before - 100_000_000
    assert len(kept) == 40


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_on_a_gpu_its_own_counter_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)
    assert peak_memory_bytes("cuda:0") == 7
