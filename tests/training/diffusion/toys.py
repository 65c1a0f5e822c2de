"""Diffusion students of a few thousand weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tutelage.training.diffusion.canvas import Canvas, lay_out
from tutelage.training.diffusion.chat import ChatTokens, word_tokens
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.shape import StudentShape, small_shape
from tutelage.training.diffusion.student import DiffusionStudent

MASK, END = 1, 2
PROMPTS = ([5, 6, 7], [8], [9, 10, 11, 12, 13])
ANSWERS = ([3, 4, 5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17])


def toy_shape(**changes: Any) -> StudentShape:
    made = small_shape(20, MASK, END, width=16, layers=2, heads=2, slots=8, block_length=4)
    return StudentShape.model_validate({**made.model_dump(), **changes})


def toy_model(seed: int = 0, **changes: Any) -> DiffusionTransformer:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = DiffusionTransformer(toy_shape(**changes))
    with torch.no_grad():
        for weight in model.parameters():
            # Wide enough apart that no two tokens are equally likely.
            weight.mul_(2 if weight.dim() > 1 else 1)
    model.eval()
    return model


def toy_canvas(
    prompts: Sequence[Sequence[int]] = PROMPTS,
    answers: Sequence[Sequence[int]] | None = ANSWERS,
    **changes: Any,
) -> Canvas:
    return lay_out(prompts, answers, toy_shape(**changes))


def toy_student(chat: ChatTokens | None = None, seed: int = 0, **changes: Any) -> DiffusionStudent:
    """A student with random weights that reads and writes a few words."""
    tokens = chat or word_tokens(["go to desk 1 look take mug from"])
    special = {
        "vocabulary": tokens.tokenizer.get_vocab_size(),
        "mask_token": tokens.tokenizer.token_to_id("<mask>"),
        "end_token": tokens.tokenizer.token_to_id("<end>"),
    }
    return DiffusionStudent(toy_model(seed, **{**special, **changes}), tokens)
