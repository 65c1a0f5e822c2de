"""A large bank, filled once and kept: embedding its texts takes minutes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from tutelage.overhead.setting import minilm, open_setting
from tutelage.retrieval.embedding import HashEmbedder
from tutelage.runtime.cache_dir import build_lock
from tutelage.version import __version__

DATABASE = "overhead.sqlite"
_SIZE = "size"


async def filled_bank(
    folder: Path, cache: Path, demonstrations: int, *, hash_embedder: bool = False
) -> int:
    """Puts a database with a bank into a folder, and returns how many demonstrations it holds.

    Args:
        folder: There already.
        cache: Keeps the bank for the next time; 0.9 kB a demonstration.
        demonstrations: How many at least; episodes are kept whole.
        hash_embedder: Instead of MiniLM.

    Raises:
        RetrievalError: The embedder's weights are missing.
    """
    embedder = "hash" if hash_embedder else "minilm"
    kept = cache / "overhead" / f"bank-{__version__}-{embedder}-{demonstrations}"
    with build_lock(kept.with_name(kept.name + ".lock")):
        if not await asyncio.to_thread(kept.exists):
            await _fill(kept, demonstrations, hash_embedder=hash_embedder)
    await asyncio.to_thread(shutil.copy, kept / DATABASE, folder / DATABASE)
    return int((kept / _SIZE).read_text())


async def _fill(kept: Path, demonstrations: int, *, hash_embedder: bool) -> None:
    make_embedder = HashEmbedder if hash_embedder else minilm
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        fresh = Path(name) / "bank"
        fresh.mkdir()
        async with open_setting(
            fresh, demonstrations=demonstrations, make_embedder=make_embedder
        ) as setting:
            size = setting.demonstrations
        (fresh / _SIZE).write_text(str(size))
        fresh.rename(kept)
