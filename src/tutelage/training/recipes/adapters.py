"""LoRA adapters: put into a model, saved by themselves, merged into its weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.runtime.errors import MissingExtra, TrainingError

LINEAR_LAYERS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank additions to linear layers. Source: Hu et al., LoRA, arXiv 2106.09685."""

    rank: int = 16
    alpha: int = 32
    """The addition is scaled by ``alpha / rank``."""
    dropout: float = 0.0
    layers: tuple[str, ...] = LINEAR_LAYERS


def add_adapter(model: Any, lora: Lora) -> Any:
    """The model with float32 adapters that alone can be trained; the rest is frozen.

    Raises:
        MissingExtra: peft is not installed.
        TrainingError: The model has none of the layers.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtra("peft", "train") from error
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.layers),
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # peft asks transformers by a name that transformers has since deprecated.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            return get_peft_model(model, settings)
    except ValueError as error:
        raise TrainingError(
            f"lora.layers names no layer of this student: {', '.join(lora.layers)}; give the names "
            "of its linear layers"
        ) from error


def save_adapter(model: Any, folder: Path) -> None:
    """Writes the adapter alone, in the layout that peft and vLLM load."""
    model.save_pretrained(folder, safe_serialization=True)


def merged(model: Any) -> Any:
    """The plain model, the adapters added to its weights; ``model`` is used up."""
    return model.merge_and_unload()
