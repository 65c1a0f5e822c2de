"""A causal Llama checkpoint as the beginning of a diffusion student (A2D)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.chat import MASK, read_chat_tokens
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.shape import Attention, StudentShape
from tutelage.training.diffusion.student import WEIGHTS_FILE, DiffusionStudent

ARCHITECTURE = "LlamaForCausalLM"
_LAYER = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "query",
    "self_attn.k_proj": "key",
    "self_attn.v_proj": "value",
    "self_attn.o_proj": "output",
    "post_attention_layernorm": "feed_norm",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}


def convert_llama(
    checkpoint: Path,
    *,
    attention: Attention = "block-causal",
    shifted: bool = True,
    slots: int = 64,
    block_length: int = 32,
    max_positions: int | None = None,
    end: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> DiffusionStudent:
    """The same weights with a mask token and without the causal mask; it must be trained then.

    The causal mask becomes padding-only (``full``) or block-causal; the mask's embedding starts as
    the mean of all others.

    Args:
        checkpoint: Folder of a Llama model in the Hugging Face layout, safetensors.
        attention: Of the student.
        shifted: Whether logits stay where the causal model has them, one token to the left.
        slots: Length of the canvas.
        block_length: Of the blocks.
        max_positions: Longest prompt plus canvas; the checkpoint's if ``None``.
        end: The token that ends an answer; the checkpoint's end of sequence if ``None``.
        dtype: Of the weights.

    Raises:
        ConfigError: The checkpoint is incomplete, or no Llama model that fits.
    """
    settings = _settings(checkpoint)
    chat = read_chat_tokens(checkpoint)
    chat.tokenizer.add_special_tokens([MASK])
    mask_token = int(chat.tokenizer.token_to_id(MASK))
    end_token = settings.get("eos_token_id") if end is None else chat.tokenizer.token_to_id(end)
    if isinstance(end_token, list):
        end_token = end_token[0]
    if end_token is None:
        raise ConfigError(f"end = {end!r} is no token of {checkpoint}: name one of its vocabulary")
    weights = _weights(checkpoint)
    embedding = weights["model.embed_tokens.weight"]
    tied = bool(settings.get("tie_word_embeddings", "lm_head.weight" not in weights))
    width, heads = int(settings["hidden_size"]), int(settings["num_attention_heads"])
    shape = StudentShape(
        vocabulary=max(mask_token + 1, embedding.shape[0]),
        width=width,
        layers=int(settings["num_hidden_layers"]),
        heads=heads,
        key_value_heads=int(settings.get("num_key_value_heads") or heads),
        head_width=int(settings.get("head_dim") or width // heads),
        feed_forward=int(settings["intermediate_size"]),
        mask_token=mask_token,
        end_token=int(end_token),
        attention=attention,
        shifted=shifted,
        slots=slots,
        block_length=block_length,
        max_positions=max_positions or int(settings["max_position_embeddings"]),
        rope_theta=_rope_theta(settings),
        norm_epsilon=float(settings["rms_norm_eps"]),
        tied=tied,
    )
    with torch.device("meta"):
        model = DiffusionTransformer(shape)
    renamed = _renamed(weights, shape)
    model.load_state_dict(
        {name: weight.to(dtype) for name, weight in renamed.items()}, strict=False, assign=True
    )
    if tied:
        model.head.weight = model.embedding.weight
    absent = [name for name, weight in model.named_parameters() if weight.is_meta]
    if absent:
        raise ConfigError(f"{checkpoint} lacks the weights of {absent[0]}: name a complete one")
    return DiffusionStudent(model, chat)


def _settings(checkpoint: Path) -> Mapping[str, Any]:
    try:
        found: dict[str, Any] = json.loads((checkpoint / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{checkpoint} has no readable config.json: name a checkpoint") from None
    architectures = found.get("architectures") or ["none"]
    if architectures != [ARCHITECTURE]:
        raise ConfigError(
            f"{checkpoint} is a {architectures[0]}: only {ARCHITECTURE} can be converted"
        )
    for name in ("attention_bias", "mlp_bias"):
        if found.get(name):
            raise ConfigError(f"{checkpoint}: {name} is set, and the student has no biases")
    return found


def _rope_theta(settings: Mapping[str, Any]) -> float:
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise ConfigError(f"rope_type = {kind!r}: only checkpoints with default rotary positions")
    return float(rope.get("rope_theta") or settings.get("rope_theta") or 10_000.0)


def _weights(checkpoint: Path) -> dict[str, Tensor]:
    files = [checkpoint / WEIGHTS_FILE]
    if not files[0].exists():
        files = sorted(checkpoint.glob("model-*.safetensors"))
    if not files:
        raise ConfigError(f"{checkpoint} has no safetensors: convert its weights to them first")
    found: dict[str, Tensor] = {}
    for file in files:
        found |= load_file(file)
    return found


def _renamed(weights: Mapping[str, Tensor], shape: StudentShape) -> dict[str, Tensor]:
    renamed = {
        "embedding.weight": _with_mask_row(weights["model.embed_tokens.weight"], shape),
        "norm.weight": weights["model.norm.weight"],
    }
    if not shape.tied:
        renamed["head.weight"] = _with_mask_row(weights["lm_head.weight"], shape)
    for layer in range(shape.layers):
        for theirs, ours in _LAYER.items():
            found = weights.get(f"model.layers.{layer}.{theirs}.weight")
            if found is not None:
                renamed[f"layers.{layer}.{ours}.weight"] = found
    return renamed


def _with_mask_row(matrix: Tensor, shape: StudentShape) -> Tensor:
    mean = matrix.float().mean(0).to(matrix.dtype)
    rows = shape.vocabulary - matrix.shape[0]
    grown = torch.cat([matrix, mean.expand(rows, -1)]) if rows else matrix.clone()
    grown[shape.mask_token] = mean
    return grown
