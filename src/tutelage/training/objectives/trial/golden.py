"""What a student is worth, told by the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.training.objectives.trial.student import ToyStudent
from tutelage.training.objectives.trial.wording import PROMPT, answer, prompt, spelled
from tutelage.training.objectives.trial.world import LONGEST, State, ToyWorld


@dataclass(frozen=True, slots=True)
class Golden:
    """What a student is worth on held-out tasks, by the oracle."""

    success: float
    """Share of the tasks that its likeliest acts solve."""
    accuracy: float
    """Share of the held-out states in which its likeliest act is right."""
    auroc: float
    """Of the likeliest act's probability for "it is right": what sample agreement estimates."""
    kl: float
    """KL(oracle || student) of an act, mean over held-out states, nats."""


def golden(
    student: ToyStudent, world: ToyWorld, tasks: Sequence[State], known: set[State]
) -> Golden:
    """Measures a student.

    Args:
        student: Trained.
        world: Says what is right.
        tasks: Held out.
        known: States that were trained on; the measures of steps leave them out.
    """
    everywhere = {
        State(task.item, task.destination, task.room, holding)
        for task in world.tasks()
        for holding in (False, True)
    }
    fresh = sorted(everywhere - known)
    with torch.no_grad():
        likeliest = student.answers(_prompts(fresh))
        scores = _likelihoods(student, _prompts(fresh), likeliest).tolist()
        right = [
            spelled(tokens) in world.right(state)
            for state, tokens in zip(fresh, likeliest.tolist(), strict=True)
        ]
        return Golden(
            success=_success(student, world, tasks),
            accuracy=sum(right) / len(right),
            auroc=auroc(scores, right),
            kl=_distance(student, world, fresh),
        )


def _success(student: ToyStudent, world: ToyWorld, tasks: Sequence[State]) -> float:
    running, solved = list(tasks), 0
    for _ in range(LONGEST):
        if not running:
            break
        said = student.answers(_prompts(running)).tolist()
        following = []
        for state, tokens in zip(running, said, strict=True):
            act = spelled(tokens)
            after = state if act is None else world.after(state, act)
            if after is None:
                solved += 1
            else:
                following.append(after)
        running = following
    return solved / len(tasks)


def _distance(student: ToyStudent, world: ToyWorld, states: Sequence[State]) -> float:
    rows = [(state, act, share) for state in states for act, share in world.right(state).items()]
    acts = torch.tensor([answer(act) for _, act, _ in rows])
    logs = _likelihoods(student, _prompts([state for state, _, _ in rows]), acts)
    shares = torch.tensor([share for _, _, share in rows])
    return float((shares * (shares.log() - logs)).sum()) / len(states)


def _prompts(states: Sequence[State]) -> Tensor:
    return torch.tensor([prompt(state) for state in states])


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Chance that a right one scores above a wrong one, ties half; 0.5 without both."""
    good = torch.tensor([score for score, fits in zip(scores, right, strict=True) if fits])
    bad = torch.tensor([score for score, fits in zip(scores, right, strict=True) if not fits])
    if not len(good) or not len(bad):
        return 0.5
    above = good.unsqueeze(1) - bad.unsqueeze(0)
    return float(((above > 0).float() + (above == 0).float() / 2).mean())


def _likelihoods(student: ToyStudent, prompts: Tensor, answers: Tensor) -> Tensor:
    """(batch,): log-probability of each answer."""
    tokens = torch.cat([prompts, answers], 1)
    logs = student.logits(student.hidden(tokens[:, :-1])).log_softmax(-1)[:, PROMPT - 1 :]
    return logs.gather(-1, answers.unsqueeze(-1)).squeeze(-1).sum(-1)
