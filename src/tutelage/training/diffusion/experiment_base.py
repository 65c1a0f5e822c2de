"""The base student of one language and seed: trained once, kept in a folder."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.chat import END, MASK, ChatTokens, word_tokens
from tutelage.training.diffusion.experiment_settings import ExperimentSettings
from tutelage.training.diffusion.language import (
    BARE_SLOTS,
    Language,
    Scene,
    bare_action,
    drawn_scene,
)
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.shape import small_shape
from tutelage.training.diffusion.student import DiffusionStudent, load_diffusion_student
from tutelage.training.diffusion.trainer import DiffusionTraining, Pair, Pairs, train_diffusion
from tutelage.training.diffusion.views import ResponseViews
from tutelage.training.recipes.recipe import TrainingProgress

LEARNED_FILE = "learned.json"
Told = Callable[[int, int], None]
"""Told how many steps are done of how many."""


@dataclass(frozen=True, slots=True)
class Learned:
    """How a base student was trained, and what that took."""

    sizes: dict[str, float]
    loss: float
    """Of the last steps, nats a token."""
    cpu_s: float


def scene_prompt(chat: ChatTokens, scene: Scene) -> tuple[int, ...]:
    """The tokens of a scene, up to where the answer begins."""
    return tuple(chat.prompt([{"role": "user", "content": scene.text()}]))


def base_student(
    language: Language,
    seed: int,
    settings: ExperimentSettings,
    told: Told,
    folder: Path | None = None,
) -> tuple[DiffusionStudent, Learned]:
    """Trains a student that has no special skill in parallel decoding.

    It learns bare actions on a short canvas first, then the language: to read the scene is learned
    several times faster where the answer is the action alone.

    Args:
        language: What it speaks.
        seed: Of weights, scenes and masks.
        settings: Sizes.
        told: Told what is done.
        folder: Where it is kept; one that is there already is loaded.

    Raises:
        ConfigError: What is kept was made with other sizes.
    """
    sizes = settings.of_the_base(language.base_share)
    if folder is not None and (folder / LEARNED_FILE).exists():
        return load_diffusion_student(folder), _learned(folder / LEARNED_FILE, sizes)
    began_s = time.process_time()
    chat = word_tokens(language.vocabulary())
    shape = small_shape(
        chat.tokenizer.get_vocab_size(),
        chat.tokenizer.token_to_id(MASK),
        chat.tokenizer.token_to_id(END),
        width=settings.width,
        layers=settings.layers,
        slots=language.slots,
        block_length=language.slots,
    )
    torch.manual_seed(seed)
    model = DiffusionTransformer(shape)
    chance = random.Random(seed)
    scenes = [drawn_scene(chance) for _ in range(settings.examples)]
    prompts = [scene_prompt(chat, scene) for scene in scenes]
    bare_steps, steps = int(sizes["bare_steps"]), int(sizes["base_steps"])
    losses: list[float] = []
    stages = (
        (bare_action, BARE_SLOTS, bare_steps, 0),
        (language.answer, None, steps, bare_steps),
    )
    for answer, slots, stage_steps, before in stages:
        pairs = [
            Pair(prompt, tuple(chat.encode(answer(scene, chance))))
            for prompt, scene in zip(prompts, scenes, strict=True)
        ]
        losses = train_diffusion(
            model,
            Pairs(pairs, model, slots=slots),
            ResponseViews(shape.mask_token),
            DiffusionTraining(stage_steps, settings.batch, settings.base_rate, seed=seed),
            watch=partial(_tell, told, before, bare_steps + steps),
        )
    student = DiffusionStudent(model, chat)
    loss = sum(losses[-50:]) / len(losses[-50:])
    learned = Learned(sizes, loss, time.process_time() - began_s)
    if folder is not None:
        student.save(folder)
        (folder / LEARNED_FILE).write_bytes(TypeAdapter(Learned).dump_json(learned))
    return student, learned


def _tell(told: Told, before: int, steps: int, at: TrainingProgress) -> None:
    told(before + at.step, steps)


def _learned(path: Path, sizes: dict[str, float]) -> Learned:
    try:
        learned = TypeAdapter(Learned).validate_json(path.read_bytes())
    except ValidationError as error:
        wrong = f"{path} cannot be read ({error.error_count()} errors): delete its folder"
        raise ConfigError(wrong) from None
    if learned.sizes != sizes:
        raise ConfigError(
            f"{path.parent} holds a student of other sizes: delete it, or give another --out"
        )
    return learned
