"""One student of the experiment: trained, distilled in every arm, and measured."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tutelage.training.diffusion.commit_rule import (
    CommitRule,
    ConfidenceThreshold,
    EntropyThreshold,
    TopK,
)
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.experiment_base import Told, base_student, scene_prompt
from tutelage.training.diffusion.experiment_seeds import Progress, SeedResult
from tutelage.training.diffusion.experiment_settings import (
    BASE,
    OWN_ERRORS,
    REPEATED,
    SAMPLED,
    TRAJECTORY,
    ExperimentSettings,
    certainty_arm,
)
from tutelage.training.diffusion.language import Language, Scene, drawn_scene
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.objective import (
    MaskedLoss,
    certainty_forcing,
    masked_cross_entropy,
)
from tutelage.training.diffusion.parallelism import Point
from tutelage.training.diffusion.student import DiffusionStudent
from tutelage.training.diffusion.trainer import DiffusionTraining, Pairs, train_diffusion
from tutelage.training.diffusion.trajectories import (
    OwnTrajectories,
    OwnTrajectory,
    own_trajectories,
)
from tutelage.training.diffusion.trajectory_order import (
    Curriculum,
    TrajectoryViews,
    completed_order,
)
from tutelage.training.diffusion.views import BlockViews, Views

RULES: tuple[tuple[str, CommitRule], ...] = (
    ("one-token", TopK(1)),
    *(
        (f"confidence {least:g}", ConfidenceThreshold(least))
        for least in (0.98, 0.95, 0.9, 0.8, 0.7)
    ),
    *(
        (f"entropy {most:g}", EntropyThreshold(most))
        for most in (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
    ),
)
_TEST_SEED = 1_000_003


def run_seed(
    language: Language,
    seed: int,
    settings: ExperimentSettings,
    progress: Progress,
    kept: Path | None = None,
) -> SeedResult:
    """Trains one base student, distils it in every arm, and measures all of them.

    Args:
        language: What the student speaks.
        seed: Of weights, scenes and masks.
        settings: Sizes.
        progress: Told what is done.
        kept: Folder of the base student; one that is there already is loaded.

    Raises:
        NoExamples: The base student answered nothing right: it needs more steps.
        ConfigError: The base student that is kept has other sizes.
    """
    started_s = time.monotonic()
    base, learned = base_student(language, seed, settings, partial(progress, BASE), kept)
    began_s = time.process_time()
    tests = [drawn_scene(random.Random(_TEST_SEED + number)) for number in range(settings.tests)]
    points = {BASE: measure(base, language, tests)}
    chance = random.Random(f"own {seed}")
    fresh = [drawn_scene(chance) for _ in range(settings.own)]
    greedy = _own(base, language, fresh, 0.0, seed)
    sampled = _own(base, language, fresh, 1.0, seed)
    for arm in settings.arms[1:]:
        model = DiffusionTransformer(base.shape)
        model.load_state_dict(base.model.state_dict())
        own = (sampled if arm.endswith(SAMPLED) else greedy).kept
        student = DiffusionStudent(model, base.chat)
        told = partial(progress, arm)
        if arm.endswith(REPEATED):
            _distil_in_rounds(student, arm, own, language, fresh, settings, seed, told)
        else:
            _distil(model, arm, own, settings, seed, told)
        points[arm] = measure(student, language, tests)
    return SeedResult(
        language=language.name,
        seed=seed,
        parameters=base.model.parameter_count(),
        share_kept=greedy.share_kept,
        share_kept_sampled=sampled.share_kept,
        points=points,
        wall_s=time.monotonic() - started_s,
        base_cpu_s=learned.cpu_s,
        arms_cpu_s=time.process_time() - began_s,
        loss=learned.loss,
    )


def measure(
    student: DiffusionStudent,
    language: Language,
    scenes: Sequence[Scene],
    rules: Sequence[tuple[str, CommitRule]] = RULES,
) -> list[Point]:
    """Success and forwards of a student under each rule.

    Args:
        student: Who answers.
        language: Says what is right.
        scenes: Held out.
        rules: Names and rules.
    """
    prompts = [scene_prompt(student.chat, scene) for scene in scenes]
    points = []
    for name, rule in rules:
        answers = decode(student.model, prompts, DecodingSettings(rule))
        right = [
            language.is_right(scene, student.chat.decode(answer.tokens))
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


def _own(
    student: DiffusionStudent,
    language: Language,
    scenes: Sequence[Scene],
    temperature: float,
    seed: int,
    rule: CommitRule | None = None,
) -> OwnTrajectories:
    return own_trajectories(
        student.model,
        [scene_prompt(student.chat, scene) for scene in scenes],
        lambda number, tokens: language.is_right(scenes[number], student.chat.decode(tokens)),
        DecodingSettings(rule or TopK(1)),
        temperature=temperature,
        batch=256,
        seed=seed,
    )


def _distil_in_rounds(
    student: DiffusionStudent,
    arm: str,
    first: Sequence[OwnTrajectory],
    language: Language,
    scenes: Sequence[Scene],
    settings: ExperimentSettings,
    seed: int,
    told: Told,
) -> None:
    """Learns from greedy answers first, then from those that it writes several slots at a time.

    What a student can write at once settles what a scene leaves open, so that the next round has
    less to guess.
    """
    steps = settings.distil_steps // settings.rounds
    shorter = replace(settings, distil_steps=steps)
    rule = ConfidenceThreshold(settings.repeated_confidence)
    for number in range(settings.rounds):
        own = first if number == 0 else _own(student, language, scenes, 0.0, seed, rule).kept

        def counted(done: int, of: int, before: int = number * steps) -> None:
            told(before + done, settings.rounds * of)

        _distil(student.model, arm.removesuffix(REPEATED), own, shorter, seed, counted)


def _distil(
    student: DiffusionTransformer,
    arm: str,
    own: Sequence[OwnTrajectory],
    settings: ExperimentSettings,
    seed: int,
    told: Told,
) -> None:
    shape = student.shape
    views: Views = BlockViews(shape.mask_token, settings.distil_ratio)
    loss: MaskedLoss = masked_cross_entropy
    if arm == TRAJECTORY:
        order = completed_order(torch.tensor([trajectory.order for trajectory in own]))
        # An answer on one block begins with all of it masked; one that is never seen so is lost.
        window = (shape.block_length, shape.block_length)
        curriculum = Curriculum(settings.distil_ratio, window)
        views = TrajectoryViews(order, shape.mask_token, curriculum)
        loss = certainty_forcing(settings.trajectory_beta)
    for beta in (*settings.betas, *settings.sampled_betas, *settings.repeated_betas):
        if arm in (certainty_arm(beta), certainty_arm(beta) + SAMPLED):
            loss = certainty_forcing(beta)
    training = DiffusionTraining(
        settings.distil_steps,
        settings.batch,
        settings.distil_rate,
        own_errors=0.5 if arm == OWN_ERRORS else 0.0,
        seed=seed,
    )
    train_diffusion(
        student,
        Pairs([trajectory.pair for trajectory in own], student),
        views,
        training,
        loss=loss,
        watch=lambda at: told(at.step, at.steps),
    )
