"""A diffusion student: weights, tokenizer and shape, in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tutelage.runtime.errors import CheckpointDamaged, ConfigError, ContextTooLong
from tutelage.training.diffusion.chat import ChatTokens, read_chat_tokens
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.shape import StudentShape

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class DiffusionStudent:
    """A student that is loaded."""

    model: DiffusionTransformer
    chat: ChatTokens

    @property
    def shape(self) -> StudentShape:
        """Of the model."""
        shape: StudentShape = self.model.shape
        return shape

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens of a chat up to where the answer begins.

        Raises:
            ContextTooLong: They leave no room for the answer.
            Refused: The chat template does not take these messages.
        """
        tokens = self.chat.prompt(messages)
        if not 0 < len(tokens) <= self.shape.longest_prompt:
            raise ContextTooLong(
                f"the prompt has {len(tokens)} tokens, the student takes 1 to "
                f"{self.shape.longest_prompt}: shorten it, or show fewer demonstrations"
            )
        return tokens

    def save(self, folder: Path) -> Path:
        """Writes safetensors, tokenizer, chat template and shape into a folder; returns it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.shape.write(folder)
        self.chat.write(folder)
        weights = self.model.state_dict()
        if self.shape.tied:
            weights.pop("head.weight")
        save_file(
            {name: weight.cpu().contiguous() for name, weight in weights.items()},
            folder / WEIGHTS_FILE,
        )
        return folder


def load_diffusion_student(
    folder: Path, *, device: str = "cpu", dtype: torch.dtype | None = None
) -> DiffusionStudent:
    """Loads the student of a folder, ready to decode.

    Args:
        folder: What ``DiffusionStudent.save`` or a conversion wrote.
        device: torch device.
        dtype: Of the weights; as they are stored if ``None``.

    Raises:
        ConfigError: The folder is no diffusion student.
        CheckpointDamaged: The weights do not fit the shape.
    """
    shape = StudentShape.read(folder)
    chat = read_chat_tokens(folder)
    path = folder / WEIGHTS_FILE
    try:
        weights = load_file(path)
    except OSError:
        raise ConfigError(f"{folder} has no {WEIGHTS_FILE}: name a complete student") from None
    except SafetensorError as error:
        raise CheckpointDamaged(
            f"{path} cannot be read ({error}): convert or train again"
        ) from None
    with torch.device("meta"):
        model = DiffusionTransformer(shape)
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1].strip()
        raise CheckpointDamaged(f"{path} does not fit the shape beside it: {line}") from None
    if shape.tied:
        missing = [name for name in missing if name != "head.weight"]
        model.head.weight = model.embedding.weight
    if missing or unexpected:
        raise CheckpointDamaged(
            f"{path} does not fit the shape beside it: missing {missing}, unexpected {unexpected}"
        )
    model.to(device=device, dtype=dtype or next(iter(weights.values())).dtype)
    model.eval()
    return DiffusionStudent(model, chat)
