"""Embedding time: ONNX int8 against the torch reference."""

from __future__ import annotations

import importlib.util
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tutelage.overhead.episodes import oracle_episodes
from tutelage.overhead.figure import Figure, median_ms
from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.keys import StateKey
from tutelage.retrieval.minilm import MiniLmEmbedder, MiniLmFiles, find_minilm

BATCH = 64
SINGLES = 8
TOKENS = 40
EPISODES_A_ROUND = 120

Encode = Callable[[Sequence[str]], Awaitable[Vectors]]


async def measure_embedding(rounds: int) -> list[Figure]:
    """Milliseconds a text, single and in batches of 64, wall and CPU.

    Both embedders compute the same texts of about 40 tokens on one thread, in turn, and who is
    first changes each round.

    Args:
        rounds: Batches of each; 8 other texts are timed one by one in every round.

    Raises:
        RetrievalError: The ONNX weights are missing.
    """
    files = find_minilm()
    texts, tokens = _texts(files, rounds * (BATCH + SINGLES))
    # Texts that are remembered would cost nothing.
    embedder = MiniLmEmbedder(files, cache_texts=0, threads=1)
    encoders: dict[str, Encode] = {"onnx": embedder.embed}
    try:
        with _reference(files) as reference:
            if reference is not None:
                encoders["torch"] = reference
            figures = await _compare(encoders, texts, rounds)
    finally:
        embedder.close()
    material = (
        f"texts of {min(tokens)} to {max(tokens)} tokens, mean {statistics.fmean(tokens):.0f}"
    )
    figures.append(Figure("embedding", "texts", float(len(texts)), "", material))
    if reference is None:
        missing = "skipped: sentence-transformers is not installed"
        figures.append(Figure("embedding", "torch", None, "ms", missing))
    return figures


async def _compare(
    encoders: Mapping[str, Encode], texts: Sequence[str], rounds: int
) -> list[Figure]:
    wall_s: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    cpu_s: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    vectors: defaultdict[str, list[Vectors]] = defaultdict(list)
    for encode in encoders.values():
        await encode(["The model is loaded at its first text."])
    names = list(encoders)
    for number in range(rounds):
        mine = texts[number * (BATCH + SINGLES) :][: BATCH + SINGLES]
        pieces = [*([text] for text in mine[:SINGLES]), mine[SINGLES:]]
        for name in names if number % 2 else reversed(names):
            for piece in pieces:
                key = (name, "single" if len(piece) == 1 else "batched")
                wall, cpu = time.perf_counter(), time.process_time()
                vectors[name].append(await encoders[name](piece))
                wall_s[key].append((time.perf_counter() - wall) / len(piece))
                cpu_s[key].append((time.process_time() - cpu) / len(piece))
    figures = []
    for name in names:
        for kind in ("single", "batched"):
            note = f"median; {f'batch of {BATCH}' if kind == 'batched' else 'one text a call'}"
            wall_ms, cpu_ms = median_ms(wall_s[name, kind]), median_ms(cpu_s[name, kind])
            figures += [
                Figure("embedding", f"{name} {kind}, wall", wall_ms, "ms a text", note),
                Figure("embedding", f"{name} {kind}, CPU", cpu_ms, "ms a text", note),
            ]
    if "torch" in encoders:
        for kind in ("single", "batched"):
            for unit, spent in (("wall", wall_s), ("CPU", cpu_s)):
                ratio = median_ms(spent["torch", kind]) / median_ms(spent["onnx", kind])
                figures.append(Figure("embedding", f"torch over onnx, {kind}, {unit}", ratio, "x"))
        cosine = np.sum(np.vstack(vectors["onnx"]) * np.vstack(vectors["torch"]), axis=1)
        figures += [
            Figure("embedding", "cosine, least", float(cosine.min()), "", f"{cosine.min():.5f}"),
            Figure("embedding", "cosine, mean", float(cosine.mean()), "", f"{cosine.mean():.5f}"),
        ]
    return figures


def _texts(files: MiniLmFiles, count: int) -> tuple[list[str], list[int]]:
    """Distinct states of episodes nearest to 40 tokens, and the tokens of each."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(files.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    key = StateKey()
    found: dict[str, int] = {}
    rounds = -(-count // (BATCH + SINGLES))
    for episode in oracle_episodes(f"train:{EPISODES_A_ROUND * rounds}", "overhead"):
        for index in range(len(episode.turns)):
            text = key.of_turn(episode, index)
            if text not in found:
                found[text] = len(tokenizer.encode(text).ids)
    near = set(sorted(found, key=lambda text: abs(found[text] - TOKENS))[:count])
    # In the order they were played, so that long and short ones are mixed.
    texts = [text for text in found if text in near]
    return texts, [found[text] for text in texts]


@contextmanager
def _reference(files: MiniLmFiles) -> Iterator[Encode | None]:
    """The torch model beside the tokenizer, on one thread; ``None`` if its library is missing."""
    if importlib.util.find_spec("sentence_transformers") is None:
        yield None
        return
    import torch
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = SentenceTransformer(
            str(files.tokenizer.parent), device="cpu", local_files_only=True
        )

    async def encode(texts: Sequence[str]) -> Vectors:
        found = model.encode(
            list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(found, dtype=np.float32)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield encode
    finally:
        torch.set_num_threads(threads)
