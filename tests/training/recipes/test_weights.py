from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tutelage.runtime.errors import MissingExtra
from tutelage.training.recipes.tokenized import load_tokenizer
from tutelage.training.recipes.weights import load_weights, resolve_device


@pytest.mark.parametrize(("found", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_used_where_there_is_one(
    found: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert resolve_device("auto") == device
    assert resolve_device("cpu") == "cpu"


def test_missing_packages_name_the_extra(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="train"):
        load_weights(tiny_llama, dtype="float32", device="cpu")
    with pytest.raises(MissingExtra, match="train"):
        load_tokenizer(tiny_llama)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="train"):
        resolve_device("auto")
