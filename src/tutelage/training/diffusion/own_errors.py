"""Training on the student's own wrong predictions, so that it can mend them; an experiment."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.training.diffusion.canvas import Canvas
from tutelage.training.diffusion.masking import Masked
from tutelage.training.diffusion.model import DiffusionTransformer


def with_own_predictions(
    model: DiffusionTransformer,
    canvas: Canvas,
    view: Masked,
    share: float,
    random: torch.Generator,
) -> Masked:
    """Puts what the student predicts, right or wrong, where some of the masks are.

    DMax's on-policy uniform training (arXiv 2604.08302): the loss stays on all of these slots, so
    that a slot filled wrongly is learned as a slot to be corrected. The predictions are drawn at
    temperature 1, without gradient.

    Args:
        model: The student.
        canvas: Prompts and answers.
        view: Masks.
        share: Of the scored slots that get a prediction instead of the mask, from 0 to 1.
        random: Chance; on the CPU.
    """
    with torch.no_grad():
        probabilities = model.score(canvas, view.tokens).float().softmax(-1).cpu()
    drawn = torch.multinomial(probabilities.flatten(0, 1), 1, generator=random)
    predicted = drawn.view(canvas.answers.shape).to(view.tokens.device)
    chosen = torch.rand(canvas.answers.shape, generator=random).to(view.tokens.device) < share
    return Masked(_placed(canvas, view, predicted, view.scored & chosen), view.scored)


def _placed(canvas: Canvas, view: Masked, predicted: Tensor, chosen: Tensor) -> Tensor:
    tokens = view.tokens.clone()
    start = canvas.prompt_columns
    tokens[:, start:] = torch.where(chosen, predicted, tokens[:, start:])
    return tokens
