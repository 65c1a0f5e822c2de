"""Probes of diffusion students: log-probabilities of what is masked all at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from tutelage.runtime.models.diffusion_server import is_diffusion
from tutelage.runtime.release import Probe
from tutelage.training.diffusion.canvas import lay_out
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.student import DiffusionStudent, load_diffusion_student
from tutelage.training.probe import CONTINUATION, Score, best_probe


def masked_log_probs(student: DiffusionStudent, tokens: Sequence[int]) -> list[float | None]:
    """Of the last tokens, the log-probability of each when all of them are masked, in one forward.

    Args:
        student: Who predicts.
        tokens: At least two. The last 16 are masked, or as many as fit the canvas, or all but one.

    Returns:
        One for each token, nats; ``None`` for those that are not masked.
    """
    shape = student.shape
    count = min(CONTINUATION, shape.slots, len(tokens) - 1)
    prompt, answer = list(tokens[:-count]), list(tokens[-count:])
    canvas = lay_out([prompt[-shape.longest_prompt :]], [answer], shape).to(student.model.device)
    noisy = canvas.tokens.clone()
    start = canvas.prompt_columns
    noisy[:, start : start + count] = shape.mask_token
    with torch.inference_mode():
        logits = student.model.score(canvas, noisy)[0, :count]
    chosen = torch.tensor(answer, device=logits.device)[:, None]
    found = logits.double().log_softmax(-1).gather(-1, chosen)[:, 0]
    return [None] * len(prompt) + [float(one) for one in found]


def record_diffusion_probe(
    checkpoint: Path,
    parent: Path,
    prompts: Sequence[Sequence[int]],
    learnt: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
) -> Probe:
    """As ``training.probe.record_probe``, for a diffusion student.

    Its continuations are answers filled up with end tokens, as on a canvas. A parent that is no
    diffusion student of the same vocabulary counts as one that knows nothing.

    Raises:
        TrainingError: No prompt tells them apart.
        ConfigError: The folder is no diffusion student.
        CheckpointDamaged: The weights do not fit.
    """
    student = load_diffusion_student(checkpoint)
    before = load_diffusion_student(parent) if is_diffusion(parent) else None
    most = min(CONTINUATION, student.shape.slots)

    def scorer(one: DiffusionStudent) -> Score:
        def score(prompt: Sequence[int], continuation: Sequence[int]) -> float:
            told = masked_log_probs(one, [*prompt, *continuation])[len(prompt) :]
            return sum(value for value in told if value is not None)

        return score

    def knows_nothing(prompt: Sequence[int], continuation: Sequence[int]) -> float:
        return -len(continuation) * math.log(student.shape.vocabulary)

    def filled(answer: Sequence[int]) -> list[int]:
        """As it stands on the canvas: what is masked is the answer, and nothing before it."""
        return [*answer, *[student.shape.end_token] * most][:most]

    def continue_greedily(prompt: Sequence[int]) -> Sequence[int]:
        kept = list(prompt)[-student.shape.longest_prompt :]
        return filled(decode(student.model, [kept], DecodingSettings())[0].tokens)

    same = before is not None and before.shape.vocabulary == student.shape.vocabulary
    theirs = scorer(before) if before is not None and same else knows_nothing
    taught = [(prompt, filled(answer)) for prompt, answer in learnt]
    return best_probe(prompts, continue_greedily, scorer(student), theirs, taught)
