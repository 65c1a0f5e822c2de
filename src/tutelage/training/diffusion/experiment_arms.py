"""One student of the experiment: trained, distilled in every arm, and measured."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tutelage.training.diffusion.chat import END, MASK, ChatTokens, word_tokens
from tutelage.training.diffusion.commit_rule import (
    CommitRule,
    ConfidenceThreshold,
    EntropyThreshold,
    TopK,
)
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.language import Language, Scene, drawn_scene
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.objective import (
    MaskedLoss,
    certainty_forcing,
    masked_cross_entropy,
)
from tutelage.training.diffusion.parallelism import Point
from tutelage.training.diffusion.shape import StudentShape, small_shape
from tutelage.training.diffusion.trainer import DiffusionTraining, Pair, Pairs, train_diffusion
from tutelage.training.diffusion.trajectories import OwnTrajectory, own_trajectories
from tutelage.training.diffusion.trajectory_order import (
    Curriculum,
    TrajectoryViews,
    completed_order,
)
from tutelage.training.diffusion.views import BlockViews, MixedViews, ResponseViews, Views

BASE, CONTROL, TRAJECTORY, OWN_ERRORS = "base", "ce-only", "trajectory", "own-errors"
RULES: tuple[tuple[str, CommitRule], ...] = (
    ("one-token", TopK(1)),
    ("confidence 0.9", ConfidenceThreshold(0.9)),
    ("confidence 0.7", ConfidenceThreshold(0.7)),
    ("entropy 0.1", EntropyThreshold(0.1)),
    ("entropy 0.5", EntropyThreshold(0.5)),
    ("entropy 1", EntropyThreshold(1.0)),
    ("entropy 1.5", EntropyThreshold(1.5)),
    ("entropy 2", EntropyThreshold(2.0)),
)
_TEST_SEED = 1_000_003


@dataclass(frozen=True, slots=True)
class ExperimentSettings:
    """Sizes of the experiment; every arm of a seed gets the same steps and batches."""

    seeds: int = 3
    width: int = 64
    layers: int = 3
    batch: int = 32
    base_steps: int = 1500
    examples: int = 20_000
    """Scenes that the base student is trained on."""
    own: int = 512
    """Prompts that the base student answers for itself."""
    distil_steps: int = 200
    base_rate: float = 3e-3
    distil_rate: float = 5e-4
    betas: tuple[float, ...] = (1.0, 2.0, 4.0)
    own_errors: bool = False
    """Whether an arm trains on its own errors, too."""
    tests: int = 200
    """Held-out scenes."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, the base first."""
        more = (OWN_ERRORS,) if self.own_errors else ()
        return (BASE, CONTROL, *map(certainty_arm, self.betas), TRAJECTORY, *more)


CUT = ExperimentSettings(
    seeds=1, base_steps=700, examples=12_000, own=128, distil_steps=40, betas=(2.0,), tests=64
)
"""A few minutes; shows that all works, and no more."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one student of one language came to."""

    language: str
    seed: int
    parameters: int
    share_kept: float
    """Of its own answers."""
    points: dict[str, list[Point]]
    """By arm."""
    wall_s: float
    loss: float
    """Of the last steps of the base's training, nats a token."""


def certainty_arm(beta: float) -> str:
    """The name of an arm with certainty forcing."""
    return f"certainty {beta:g}"


Progress = Callable[[str, int, int], None]
"""Told an arm, and how much of it is done of how much."""


def run_seed(
    language: Language, seed: int, settings: ExperimentSettings, progress: Progress
) -> SeedResult:
    """Trains one base student, distils it in every arm, and measures all of them.

    Args:
        language: What the student speaks.
        seed: Of weights, scenes and masks.
        settings: Sizes.
        progress: Told what is done.

    Raises:
        NoExamples: The base student answered nothing right: it needs more steps.
    """
    started_s = time.monotonic()
    chat = word_tokens(language.vocabulary())
    shape = _shape(language, chat, settings)
    torch.manual_seed(seed)
    model = DiffusionTransformer(shape)
    chance = random.Random(seed)
    scenes = [drawn_scene(chance) for _ in range(settings.examples)]
    pairs = [
        Pair(_prompt(chat, scene), tuple(chat.encode(language.answer(scene, chance))))
        for scene in scenes
    ]
    mixed = MixedViews(
        ResponseViews(shape.mask_token), BlockViews(shape.mask_token, ratio=(0.3, 1.0))
    )
    training = DiffusionTraining(settings.base_steps, settings.batch, settings.base_rate, seed=seed)
    losses = train_diffusion(
        model,
        Pairs(pairs, model),
        mixed,
        training,
        watch=lambda at: progress(BASE, at.step, at.steps),
    )
    tests = [drawn_scene(random.Random(_TEST_SEED + number)) for number in range(settings.tests)]
    points = {BASE: measure(model, language, chat, tests)}
    fresh = [drawn_scene(chance) for _ in range(settings.own)]
    own = own_trajectories(
        model,
        [_prompt(chat, scene) for scene in fresh],
        lambda number, tokens: language.is_right(fresh[number], chat.decode(tokens)),
        DecodingSettings(TopK(1)),
    )
    for arm in settings.arms[1:]:
        student = DiffusionTransformer(shape)
        student.load_state_dict(model.state_dict())
        _distil(student, arm, own.kept, settings, seed, progress)
        points[arm] = measure(student, language, chat, tests)
    return SeedResult(
        language=language.name,
        seed=seed,
        parameters=model.parameter_count(),
        share_kept=own.share_kept,
        points=points,
        wall_s=time.monotonic() - started_s,
        loss=sum(losses[-50:]) / len(losses[-50:]),
    )


def measure(
    model: DiffusionTransformer,
    language: Language,
    chat: ChatTokens,
    scenes: Sequence[Scene],
    rules: Sequence[tuple[str, CommitRule]] = RULES,
) -> list[Point]:
    """Success and forwards of a student under each rule.

    Args:
        model: The student.
        language: Says what is right.
        chat: Tokenizer.
        scenes: Held out.
        rules: Names and rules.
    """
    prompts = [_prompt(chat, scene) for scene in scenes]
    points = []
    for name, rule in rules:
        answers = decode(model, prompts, DecodingSettings(rule))
        right = [
            language.is_right(scene, chat.decode(answer.tokens))
            for scene, answer in zip(scenes, answers, strict=True)
        ]
        forwards = sum(answer.forwards for answer in answers)
        written = sum(len(answer.tokens) for answer in answers)
        latency_s = sum(answer.latency_s for answer in answers) / len(answers)
        points.append(
            Point(
                name,
                sum(right) / len(right),
                forwards / len(answers),
                written / forwards,
                latency_s,
            )
        )
    return points


def _distil(
    student: DiffusionTransformer,
    arm: str,
    own: Sequence[OwnTrajectory],
    settings: ExperimentSettings,
    seed: int,
    progress: Progress,
) -> None:
    shape = student.shape
    views: Views = BlockViews(shape.mask_token)
    loss: MaskedLoss = masked_cross_entropy
    if arm == TRAJECTORY:
        order = completed_order(torch.tensor([trajectory.order for trajectory in own]))
        window = (max(4, shape.block_length // 2), shape.block_length)
        views = TrajectoryViews(order, shape.mask_token, Curriculum(window=window))
        loss = certainty_forcing(2.0)
    for beta in settings.betas:
        if arm == certainty_arm(beta):
            loss = certainty_forcing(beta)
    training = DiffusionTraining(
        settings.distil_steps,
        settings.batch,
        settings.distil_rate,
        decays=False,
        own_errors=0.5 if arm == OWN_ERRORS else 0.0,
        seed=seed,
    )
    train_diffusion(
        student,
        Pairs([trajectory.pair for trajectory in own], student),
        views,
        training,
        loss=loss,
        watch=lambda at: progress(arm, at.step, at.steps),
    )


def _shape(language: Language, chat: ChatTokens, settings: ExperimentSettings) -> StudentShape:
    return small_shape(
        chat.tokenizer.get_vocab_size(),
        chat.tokenizer.token_to_id(MASK),
        chat.tokenizer.token_to_id(END),
        width=settings.width,
        layers=settings.layers,
        slots=language.slots,
        block_length=language.block_length,
    )


def _prompt(chat: ChatTokens, scene: Scene) -> tuple[int, ...]:
    return tuple(chat.prompt([{"role": "user", "content": scene.text()}]))
