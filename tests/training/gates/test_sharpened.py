"""Certainty forcing of a causal student, and the gate that refuses what comes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.gates.planted import Student, planted

from tutelage.training.gates.agreement_quality import AgreementQuality
from tutelage.training.gates.defaults import default_gates, is_sharpened
from tutelage.training.gates.evaluation import Evaluation, PairedEpisode, PlayedEpisode, StepRow
from tutelage.training.gates.verdict import judge
from tutelage.training.objectives.certainty import certainty_loss
from tutelage.training.objectives.given import Scored

PLACES, ACTIONS, SAMPLES, STEPS_A_TASK = 480, 4, 5, 3


def wanted(random: np.random.Generator) -> torch.Tensor:
    """The teacher's action in each place; in every other place it is another one in two of five."""
    settled = np.arange(PLACES) % 2 == 0
    other = random.random(PLACES) < np.where(settled, 0.02, 0.4)
    return torch.tensor(other.astype(int))[None]


def trained(beta: float, seed: int = 0) -> torch.Tensor:
    """Logits (1, places, actions) of a causal student after many drawn labels."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    logits = torch.nn.Parameter(0.01 * torch.randn(1, PLACES, ACTIONS))
    optimizer = torch.optim.Adam([logits], lr=0.05)
    mask = torch.ones(1, PLACES, dtype=torch.bool)
    for _ in range(300):
        loss = certainty_loss(Scored(logits, wanted(random), mask), beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach()


def played(logits: torch.Tensor, right: torch.Tensor, seed: int) -> list[PlayedEpisode]:
    """Its samples in every place, a few places a task."""
    chance = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(logits[0].softmax(-1), SAMPLES, replacement=True, generator=chance)
    rows = []
    for samples, action in zip(drawn.tolist(), right[0].tolist(), strict=True):
        votes = np.bincount(samples)
        rows.append(StepRow(int(votes.max()) / SAMPLES, int(votes.argmax()) == action))
    tasks = [rows[at : at + STEPS_A_TASK] for at in range(0, PLACES, STEPS_A_TASK)]
    return [
        PlayedEpisode(True, 0.01, 0.01, len(task), output_tokens=len(task), rows=tuple(task))
        for task in tasks
    ]


def compared(beta: float) -> Evaluation:
    """A student trained with ``beta`` beside one trained without."""
    right = wanted(np.random.default_rng(7))
    before, after = played(trained(0.0), right, 1), played(trained(beta, seed=3), right, 2)
    pairs = zip(before, after, strict=True)
    return Evaluation(
        tuple(PairedEpisode(f"task-{n}", *pair) for n, pair in enumerate(pairs)),
        training_tasks=frozenset({"another"}),
    )


def test_a_student_that_certainty_forcing_made_overconfident_is_refused() -> None:
    evaluation = compared(beta=4.0)

    judgement = judge(evaluation, default_gates(sharpened=True))

    agreement = [
        float(np.mean([row.agreement for row in evaluation.rows(candidate=candidate)]))
        for candidate in (False, True)
    ]
    assert agreement[1] > agreement[0] + 0.05
    # It solves as much as before: nothing but its agreement speaks against it.
    assert [one.gate for one in judgement.blocked_by] == ["agreement quality"]
    assert "AUROC" in judgement.refusal


def test_the_control_without_the_entropy_term_passes() -> None:
    assert judge(compared(beta=0.0), default_gates(sharpened=True)).passed


@pytest.mark.parametrize(("required", "blocks"), [(False, False), (True, True)])
def test_agreement_that_was_not_measured_blocks_where_it_is_required(
    required: bool, blocks: bool
) -> None:
    verdict = AgreementQuality(required=required).check(planted(Student(right=1.0), 3, tasks=30))

    assert (verdict.passed, verdict.blocking) == (False, blocks)
    assert not AgreementQuality(required=True, blocking=False).check(Evaluation(())).blocking


def test_recipes_that_sharpen_are_known_by_their_names() -> None:
    diffusion = "tutelage.training.diffusion.recipe:DiffusionRecipe"

    assert is_sharpened(diffusion, {})
    assert is_sharpened("supervised", {"objective": "certainty"})
    assert not is_sharpened("supervised", {"objective": "sft"})
