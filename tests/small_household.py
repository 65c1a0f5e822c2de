"""A household with a small bank, for tests of what is built on replays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tutelage.assembly import Assembly, open_assembly
from tutelage.benchmarks.progress import Unwatched
from tutelage.rehearsal import Play, collect
from tutelage.runtime.config import Config, load_config


def household(**changes: Any) -> Config:
    """A configuration that needs neither weights nor endpoints."""
    given = {
        "retrieval.embedder": "hash",
        "cascade.grammar": "household",
        "teacher.priced_as": "claude-sonnet-4-5",
        "student.priced_as": "gpt-4.1-mini",
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return load_config(environment={}, overrides=given)


def a_play(folder: Path, split: str, **changes: Any) -> Play:
    made: dict[str, Any] = {"jobs": 2, "max_steps": 30, **changes}
    return Play(world="household", split=split, out=folder, **made)


@asynccontextmanager
async def with_bank(
    folder: Path, bank: str = "train:12", **changes: Any
) -> AsyncIterator[Assembly]:
    """The parts of a household, in whose bank the oracle's episodes of a split are."""
    async with open_assembly(household(**changes)) as assembly:
        await collect(assembly, a_play(folder / "bank", bank, max_steps=50), Unwatched())
        yield assembly
