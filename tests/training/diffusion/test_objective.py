from __future__ import annotations

import pytest
import torch
from tests.training.diffusion.toys import MASK, toy_canvas, toy_model

from tutelage.training.diffusion.masking import semi_autoregressive
from tutelage.training.diffusion.objective import certainty_forcing, masked_cross_entropy

TEMPERATURE = 0.5


def logits_of(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.float64, requires_grad=True)


SCORED = torch.tensor([[True, True, True, False]])
TARGETS = torch.tensor([[0, 1, 2, 0]])
ROWS = [[2.0, 0.5, -1.0], [1.0, 0.2, 0.1], [0.3, -0.4, 0.9], [5.0, 0.0, 0.0]]
"""The first and the third are predicted right, the second wrong, the fourth is not scored."""


def entropy(row: list[float]) -> float:
    probabilities = (torch.tensor(row, dtype=torch.float64) / TEMPERATURE).softmax(-1)
    return float(-(probabilities * probabilities.log()).sum())


def test_the_cross_entropy_is_the_mean_over_the_scored_slots() -> None:
    log_probs = torch.tensor(ROWS, dtype=torch.float64).log_softmax(-1)
    expected = -sum(float(log_probs[slot, TARGETS[0, slot]]) for slot in range(3)) / 3
    assert float(masked_cross_entropy(logits_of(ROWS), TARGETS, SCORED).detach()) == pytest.approx(
        expected
    )


def test_a_beta_of_zero_is_the_cross_entropy() -> None:
    ours, theirs = logits_of(ROWS), logits_of(ROWS)
    certainty_forcing(0.0)(ours, TARGETS, SCORED).backward()
    masked_cross_entropy(theirs, TARGETS, SCORED).backward()

    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_entropy_term_is_of_right_predictions_alone() -> None:
    logits = logits_of(ROWS)
    extra = certainty_forcing(2.0)(logits, TARGETS, SCORED) - masked_cross_entropy(
        logits, TARGETS, SCORED
    )
    assert float(extra.detach()) == pytest.approx(2 * (entropy(ROWS[0]) + entropy(ROWS[2])) / 2)

    extra.backward()
    assert logits.grad is not None
    assert logits.grad[0, 1].abs().sum() < 1e-12
    assert logits.grad[0, 3].abs().sum() == 0


def test_the_gradient_of_the_entropy_term_is_what_a_difference_quotient_gives() -> None:
    def term(logits: torch.Tensor) -> torch.Tensor:
        return certainty_forcing(1.0, TEMPERATURE)(logits, TARGETS, SCORED) - masked_cross_entropy(
            logits, TARGETS, SCORED
        )

    logits = logits_of(ROWS)
    term(logits).backward()
    assert logits.grad is not None
    step = 1e-5
    for slot in range(4):
        for token in range(3):
            moved = torch.zeros_like(logits)
            moved[0, slot, token] = step
            quotient = (term(logits + moved) - term(logits - moved)) / (2 * step)
            assert float(logits.grad[0, slot, token]) == pytest.approx(
                float(quotient.detach()), abs=1e-8
            )
    # A descent step raises the token that is predicted.
    assert logits.grad[0, 0, 0] < 0


def test_where_nothing_is_right_the_term_is_zero_and_has_a_graph() -> None:
    logits = logits_of([[0.0, 1.0, 0.0]] * 4)
    wrong = torch.tensor([[0, 0, 0, 0]])
    loss = certainty_forcing(2.0)(logits, wrong, SCORED)
    loss.backward()

    assert float(loss.detach()) == pytest.approx(
        float(masked_cross_entropy(logits, wrong, SCORED).detach())
    )
    assert logits.grad is not None


def test_the_loss_of_the_prompt_is_zero() -> None:
    model, canvas = toy_model(), toy_canvas()
    halves = semi_autoregressive(canvas, torch.zeros(3), torch.ones(3, 8), 0.5, MASK)
    nothing = halves.first
    assert not nothing.scored.any()
    logits = model.score(canvas, nothing.tokens)
    assert logits.shape[1] == canvas.slots
    loss = certainty_forcing(2.0)(logits, canvas.answers, nothing.scored)
    assert float(loss.detach()) == 0
