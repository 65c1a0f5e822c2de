from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.diffusion.toys import ANSWERS, MASK, PROMPTS, toy_canvas

from tutelage.training.diffusion.masking import (
    drawn_blocks,
    drawn_noise,
    drawn_ratio,
    from_order,
    semi_autoregressive,
    whole_response,
)


def random_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), ratio=st.floats(0.0, 1.0))
def test_the_halves_are_disjoint_and_cover_the_active_block(seed: int, ratio: float) -> None:
    canvas = toy_canvas()
    random = random_of(seed)
    chosen = drawn_blocks(canvas, random)
    halves = semi_autoregressive(canvas, chosen, drawn_noise(canvas, random), ratio, MASK)

    active = (canvas.block_numbers()[canvas.prompt_columns :] - 1)[None] == chosen[:, None]
    assert not (halves.first.scored & halves.second.scored).any()
    assert ((halves.first.scored | halves.second.scored) == active).all()


@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_before_the_block_all_is_clean_and_after_it_all_masked(seed: int) -> None:
    canvas = toy_canvas()
    random = random_of(seed)
    chosen = drawn_blocks(canvas, random)
    halves = semi_autoregressive(canvas, chosen, drawn_noise(canvas, random), 0.5, MASK)

    blocks = canvas.block_numbers()[canvas.prompt_columns :] - 1
    for half in (halves.first, halves.second):
        answers = half.tokens[:, canvas.prompt_columns :]
        for row, block in enumerate(chosen.tolist()):
            assert (answers[row][blocks < block] == canvas.answers[row][blocks < block]).all()
            assert (answers[row][blocks > block] == MASK).all()
            hidden = answers[row] == MASK
            assert (hidden[blocks == block] == half.scored[row][blocks == block]).all()


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), ratio=st.floats(0.0, 1.0))
def test_the_prompt_is_never_masked(seed: int, ratio: float) -> None:
    canvas = toy_canvas()
    random = random_of(seed)
    noise = drawn_noise(canvas, random)
    blocks = semi_autoregressive(canvas, drawn_blocks(canvas, random), noise, ratio, MASK)
    whole = whole_response(canvas, noise, ratio, MASK)

    start = canvas.prompt_columns
    for half in (blocks.first, blocks.second, whole.first, whole.second):
        assert (half.tokens[:, :start] == canvas.tokens[:, :start]).all()
        assert half.scored.shape == canvas.answers.shape


@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_batch_of_three_is_masked_as_three_batches_of_one(seed: int) -> None:
    canvas = toy_canvas()
    random = random_of(seed)
    chosen, noise = drawn_blocks(canvas, random), drawn_noise(canvas, random)
    ratio = drawn_ratio(canvas, 0.2, 0.9, random)
    together = semi_autoregressive(canvas, chosen, noise, ratio, MASK)
    whole = whole_response(canvas, noise, ratio, MASK)
    for row in range(3):
        alone = toy_canvas([PROMPTS[row]], [ANSWERS[row]])
        one = slice(row, row + 1)
        masked = semi_autoregressive(alone, chosen[one], noise[one], ratio[one], MASK)
        response = whole_response(alone, noise[one], ratio[one], MASK)
        padding = canvas.prompt_columns - len(PROMPTS[row])
        for ours, theirs in (
            (together.first, masked.first),
            (together.second, masked.second),
            (whole.first, response.first),
            (whole.second, response.second),
        ):
            assert (ours.tokens[row, padding:] == theirs.tokens[0]).all()
            assert (ours.scored[row] == theirs.scored[0]).all()


def test_the_whole_response_is_covered_by_both_halves() -> None:
    canvas = toy_canvas()
    halves = whole_response(canvas, drawn_noise(canvas, random_of(0)), 0.5, MASK)

    assert (halves.first.scored ^ halves.second.scored).all()


def test_a_ratio_is_fixed_or_drawn_within_its_bounds() -> None:
    canvas = toy_canvas([[5]] * 500, [[3]] * 500)
    fixed = drawn_ratio(canvas, 0.5, 0.5, random_of(0))
    drawn = drawn_ratio(canvas, 0.2, 0.6, random_of(0))

    assert (fixed == 0.5).all()
    assert 0.2 <= float(drawn.min()) < 0.25
    assert 0.55 < float(drawn.max()) <= 0.6
    noise = drawn_noise(canvas, random_of(1))
    share = whole_response(canvas, noise, fixed, MASK).first.scored.float().mean()
    assert float(share) == pytest.approx(0.5, abs=0.03)


def test_a_state_of_the_trajectory_masks_what_was_written_last() -> None:
    canvas = toy_canvas([[5]], [[3, 4, 5, 6, 7, 8]])
    order = torch.tensor([[0, 3, 1, 2, 4, 4, 4, 4]])

    view = from_order(canvas, order, torch.tensor([0]), 4, 0.5, MASK)
    late = from_order(canvas, order, torch.tensor([4]), 4, 0.0, MASK)

    assert view.tokens.tolist() == [[5, 3, MASK, 5, MASK, MASK, MASK, MASK, MASK]]
    assert view.scored.tolist() == [[False, True, False, True] + [False] * 4]
    assert late.tokens.tolist() == [[5, 3, 4, 5, 6, 7, 8, 2, MASK]]


def test_a_ratio_of_one_masks_the_whole_window() -> None:
    canvas = toy_canvas()
    order = torch.zeros_like(canvas.answers)
    view = from_order(canvas, order, torch.tensor([0, 4, 2]), 4, 1.0, MASK)

    assert [row.nonzero().flatten().tolist() for row in view.scored] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [2, 3, 4, 5],
    ]
