"""A student's weights: loaded, asked at supervised positions, saved as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.runtime.errors import MissingExtra, TrainingError
from tutelage.runtime.models.quiet import quiet_transformers
from tutelage.training.recipes.adapters import add_adapter
from tutelage.training.recipes.packing import Batch
from tutelage.training.recipes.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor

# Settings of models that change the logits after the head.
_CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def resolve_device(device: str) -> str:
    """``auto`` is the first GPU, else the CPU.

    Raises:
        MissingExtra: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "train") from error
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_weights(checkpoint: Path, *, dtype: str, device: str) -> Any:
    """A causal language model.

    Args:
        checkpoint: Folder in the Hugging Face layout, weights in safetensors.
        dtype: ``bfloat16`` or ``float32``.
        device: torch device.

    Raises:
        MissingExtra: torch or transformers is not installed.
        TrainingError: The folder is no usable checkpoint.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtra("torch or transformers", "train") from error
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(
                checkpoint,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                use_safetensors=True,
                # It takes masks of booleans, which packed rows need.
                attn_implementation="sdpa",
            )
    except (OSError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise TrainingError(f"{checkpoint} is no usable checkpoint: {line}") from error
    return model.to(device)


def load_student(checkpoint: Path, settings: TrainingSettings, device: str) -> Any:
    """The model to train: bf16 weights under float32 adapters, or all weights in float32.

    Raises:
        MissingExtra: A package of the extra ``train`` is missing.
        TrainingError: The folder is no usable checkpoint, or has none of the adapters' layers.
    """
    frozen = settings.lora is not None
    dtype = "bfloat16" if frozen and settings.precision == "bf16" else "float32"
    model = load_weights(checkpoint, dtype=dtype, device=device)
    if settings.gradient_checkpointing:
        # transformers 5 renamed it, and warns of the old name.
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    if settings.lora is not None:
        model = add_adapter(model, settings.lora)
    return model.train()


def save_weights(model: Any, tokenizer: Any, folder: Path, *, dtype: str) -> None:
    """Writes safetensors and the tokenizer with its chat template."""
    import torch

    with quiet_transformers():
        model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def plain_model(model: Any) -> Any:
    """The causal language model inside an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def logits_at(model: Any, batch: Batch) -> Tensor:
    """Logits where the next token is supervised, and nowhere else: (n, vocab).

    The head is the costliest layer of a small model and most tokens of a chat carry no loss.
    """
    inner = plain_model(model)
    inputs = {
        "input_ids": batch.tokens,
        "position_ids": batch.positions,
        "attention_mask": batch.attention,
        "use_cache": False,
    }
    logits: Tensor
    if any(getattr(inner.config, name, None) for name in _CHANGED_LOGITS):
        logits = inner(**inputs).logits[batch.predicting]
    else:
        hidden = inner.get_decoder()(**inputs).last_hidden_state
        logits = inner.get_output_embeddings()(hidden[batch.predicting])
    return logits


def trainable(model: Any) -> dict[str, Tensor]:
    """The parameters that learn, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
