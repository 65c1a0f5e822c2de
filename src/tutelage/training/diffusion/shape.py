"""How a diffusion student is built, as its folder says it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tutelage.runtime.errors import ConfigError

SHAPE_FILE = "diffusion.json"

Attention = Literal["full", "block-causal"]
"""Everything sees everything; or a block of the answer sees the prompt and the blocks up to it."""


class StudentShape(BaseModel):
    """Sizes, special tokens and the canvas of a masked-diffusion student."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: int = Field(gt=1)
    """Tokens, the mask token included."""
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    key_value_heads: int = Field(gt=0)
    head_width: int = Field(gt=0)
    """Even: rotary positions turn pairs."""
    feed_forward: int = Field(gt=0)
    mask_token: int = Field(ge=0)
    end_token: int = Field(ge=0)
    """Ends an answer, and fills the rest of its canvas."""
    attention: Attention = "full"
    shifted: bool = False
    """Whether the logits of a token are read at the token before it, as in causal models."""
    slots: int = Field(default=32, gt=0)
    """Length of the canvas that answers are written on, tokens."""
    block_length: int = Field(default=16, gt=0)
    max_positions: int = Field(default=2048, gt=0)
    """Longest prompt plus canvas, tokens."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    norm_epsilon: float = Field(default=1e-5, gt=0)
    tied: bool = True
    """Whether tokens are read and written with one matrix."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.heads % self.key_value_heads:
            raise ValueError(
                f"heads = {self.heads} must be a multiple of key_value_heads = "
                f"{self.key_value_heads}"
            )
        if self.head_width % 2:
            raise ValueError(f"head_width = {self.head_width} must be even")
        for name in ("mask_token", "end_token"):
            if getattr(self, name) >= self.vocabulary:
                raise ValueError(f"{name} = {getattr(self, name)} must be below vocabulary")
        if self.mask_token == self.end_token:
            raise ValueError("mask_token and end_token must differ")
        if self.slots >= self.max_positions:
            raise ValueError(f"slots = {self.slots} must be below max_positions")
        return self

    @property
    def longest_prompt(self) -> int:
        """Tokens of a prompt that leave room for the canvas."""
        return self.max_positions - self.slots

    def write(self, folder: Path) -> None:
        """Writes the shape's file into a folder."""
        (folder / SHAPE_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> StudentShape:
        """Reads the shape's file of a folder.

        Raises:
            ConfigError: There is none, or it is no shape.
        """
        path = folder / SHAPE_FILE
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError:
            raise ConfigError(
                f"{folder} is no diffusion student: it has no {SHAPE_FILE}; name the folder that "
                "training or conversion wrote"
            ) from None
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "the file"
            raise ConfigError(f"{path}: {key}: {first['msg']}") from None


def small_shape(
    vocabulary: int,
    mask_token: int,
    end_token: int,
    *,
    width: int = 96,
    layers: int = 2,
    heads: int = 4,
    attention: Attention = "full",
    slots: int = 32,
    block_length: int = 16,
    max_positions: int = 256,
) -> StudentShape:
    """The shape of a student trained from scratch; about ``12 layers width^2`` weights."""
    return StudentShape(
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        heads=heads,
        key_value_heads=heads,
        head_width=max(2, width // heads // 2 * 2),
        feed_forward=width * 8 // 3,
        mask_token=mask_token,
        end_token=end_token,
        attention=attention,
        slots=slots,
        block_length=block_length,
        max_positions=max_positions,
    )
