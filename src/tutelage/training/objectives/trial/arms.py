"""The arms of the trial: objectives with the settings that they are tried in."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch

from tutelage.training.objectives.given import Given
from tutelage.training.objectives.objective import Objective
from tutelage.training.objectives.registry import objective
from tutelage.training.objectives.trial.feed import BATCH, ToyFeed
from tutelage.training.objectives.trial.golden import Golden, golden
from tutelage.training.objectives.trial.student import ToyStudent
from tutelage.training.objectives.trial.traces import gate
from tutelage.training.objectives.trial.wording import ANSWER, PROMPT
from tutelage.training.objectives.trial.world import ToyTeacher, ToyWorld

CONTROL: Final = "sft"
LEARNING_RATE: Final = 3e-3
EPISODES: Final = 40
"""Tasks of 256 that the teacher plays."""
STEPS: Final = 200
"""Optimizer steps of the control; every arm gets the tokens of these."""
BUDGET: Final = STEPS * BATCH * (PROMPT + ANSWER - 1)
"""Tokens through the student."""


@dataclass(frozen=True, slots=True)
class Arm:
    """An objective as it is tried."""

    name: str
    objective: str
    options: Mapping[str, object] = field(default_factory=dict)
    sft_share: float = 0.0
    """Share of the tokens that plain fine-tuning gets first."""
    slower: float = 1.0
    """The learning rate after that is divided by it."""
    revised: bool = False
    shuffled: bool = False
    other_seed: bool = False
    control: bool = False
    """Shows how far the measure can be trusted; not a candidate."""


ARMS: Final = (
    Arm("sft", "sft", control=True),
    Arm("sft, other first weights", "sft", other_seed=True, control=True),
    Arm("sft-normalised", "sft-normalised"),
    Arm("step-by-step", "step-by-step"),
    Arm("redi", "redi", sft_share=0.6, slower=10),
    Arm("certainty", "certainty"),
    Arm("context", "context", sft_share=0.6),
    Arm("alm", "alm"),
    Arm("alm, likelihoods shuffled", "alm", shuffled=True, control=True),
    Arm("dpo", "dpo", sft_share=0.6, slower=10),
    Arm("kto-pair", "kto-pair", sft_share=0.6, slower=10),
    Arm("top-k-kl", "top-k-kl"),
    Arm("fkl", "fkl"),
    Arm("rkl", "rkl"),
    Arm("jsd", "jsd"),
    Arm("skew-fkl", "skew-fkl"),
    Arm("skew-rkl", "skew-rkl"),
    Arm("tvd", "tvd"),
    Arm("adaptive-kl", "adaptive-kl"),
    Arm("taid", "taid", {"steps": STEPS}),
    Arm("clipped-kl", "clipped-kl"),
    Arm("clipped-kl, revised answers", "clipped-kl", sft_share=0.6, revised=True),
    Arm("mi-alpha", "mi-alpha"),
)


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One arm with one seed."""

    golden: Golden
    tokens: int
    figures: Mapping[str, float]
    """Of the last batch."""


def run_arm(arm: Arm, seed: int, budget: int = BUDGET) -> ArmRun:
    """Trains a student and measures it; same seed, same world, traces and first weights.

    Args:
        arm: What to train with.
        seed: Of everything.
        budget: Tokens through the student.
    """
    draw = random.Random(seed)
    world = ToyWorld.drawn(draw)
    teacher = ToyTeacher(world, seed)
    gated = gate(world, teacher, draw, EPISODES)
    student = ToyStudent.drawn(seed + 1000 if arm.other_seed else seed)
    feed = ToyFeed(gated, teacher, random.Random(seed))
    plain, aim = objective(CONTROL), objective(arm.objective, arm.options)
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    figures: Mapping[str, float] = {}
    while feed.tokens < budget:
        first = feed.tokens < arm.sft_share * budget
        if not first:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE / arm.slower
        current = plain if first else aim
        loss, figures = current.loss(_batch(arm, feed, student, current, first))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        current.stepped(float(loss.detach()))
    known = {state for state, _ in gated.steps}
    return ArmRun(golden(student, world, gated.held_out, known), feed.tokens, figures)


def _batch(arm: Arm, feed: ToyFeed, student: ToyStudent, current: Objective, first: bool) -> Given:
    if first and arm.objective == "context" and feed.generator.random() < 0.5:
        return feed.with_demonstrations(student)
    return feed.batch(
        student, current.needs, revised=arm.revised and not first, shuffled=arm.shuffled
    )
