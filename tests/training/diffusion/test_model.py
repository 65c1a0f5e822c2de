from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.training.diffusion.toys import (
    ANSWERS,
    END,
    MASK,
    PROMPTS,
    toy_canvas,
    toy_model,
    toy_shape,
)

from tutelage.training.diffusion.attention import allowed, noisy_and_clean
from tutelage.training.diffusion.masking import drawn_noise, semi_autoregressive, whole_response
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.shape import small_shape

VARIANTS: list[dict[str, Any]] = [
    {},
    {"shifted": True},
    {"attention": "block-causal"},
    {"attention": "block-causal", "shifted": True},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_of_three_is_scored_as_three_batches_of_one(variant: dict[str, Any]) -> None:
    model, canvas = toy_model(**variant), toy_canvas()
    noise = drawn_noise(canvas, torch.Generator().manual_seed(1))
    together = model.score(canvas, whole_response(canvas, noise, 0.5, MASK).first.tokens)
    for row in range(3):
        alone = toy_canvas([PROMPTS[row]], [ANSWERS[row]])
        view = whole_response(alone, noise[row : row + 1], 0.5, MASK).first
        assert together[row].isneginf().sum() == canvas.slots
        torch.testing.assert_close(together[row], model.score(alone, view.tokens)[0])


@pytest.mark.parametrize("shifted", [False, True])
def test_both_halves_in_one_pass_score_each_block_as_it_will_be_decoded(shifted: bool) -> None:
    model = toy_model(attention="block-causal", shifted=shifted)
    canvas = toy_canvas()
    noise = drawn_noise(canvas, torch.Generator().manual_seed(2))
    noisy = whole_response(canvas, noise, 0.5, MASK).first.tokens
    at_once = model.score(canvas, noisy)
    start, length = canvas.prompt_columns, canvas.block_length
    for block in range(canvas.blocks):
        # The clean tokens before the block, and its own noisy ones; what follows is not seen.
        begin, end = start + block * length, start + (block + 1) * length
        tokens = torch.cat([canvas.tokens[:, :begin], noisy[:, begin:end]], 1)
        seen = allowed(canvas, "block-causal")[:, :end, :end]
        hidden = model(tokens, canvas.positions()[:, :end], seen).hidden
        read = hidden[:, begin - shifted : end - shifted]
        expected = model.logits(read)
        torch.testing.assert_close(at_once[:, block * length : (block + 1) * length], expected)


def test_the_mask_of_both_halves_has_its_three_parts() -> None:
    canvas = toy_canvas([[5]], [[3] * 8])
    seen = noisy_and_clean(canvas, canvas.tokens).allowed[0]
    columns = canvas.tokens.shape[1]
    numbers = canvas.block_numbers().tolist()
    for query in range(columns):
        for key in range(columns):
            assert bool(seen[query, key]) == (numbers[key] == numbers[query])
            assert bool(seen[query, columns + key]) == (numbers[key] < numbers[query])
            assert not seen[columns + query, key]
            assert bool(seen[columns + query, columns + key]) == (numbers[key] <= numbers[query])


def test_a_block_causal_student_sees_nothing_of_later_blocks() -> None:
    model, canvas = toy_model(attention="block-causal"), toy_canvas()
    changed = canvas.tokens.clone()
    changed[:, -canvas.block_length :] = 9
    seen = allowed(canvas, "block-causal")
    before = model(canvas.tokens, canvas.positions(), seen).hidden
    after = model(changed, canvas.positions(), seen).hidden
    first = slice(canvas.prompt_columns, -canvas.block_length)
    torch.testing.assert_close(before[:, first], after[:, first])
    full = allowed(canvas, "full")
    assert not torch.allclose(
        model(canvas.tokens, canvas.positions(), full).hidden[:, first],
        model(changed, canvas.positions(), full).hidden[:, first],
    )


def test_the_mask_is_never_predicted() -> None:
    model, canvas = toy_model(), toy_canvas()
    logits = model.score(canvas, canvas.tokens)

    assert logits[..., MASK].isneginf().all()
    assert logits[..., END].isfinite().all()


def test_loss_reaches_every_weight() -> None:
    model, canvas = toy_model(tied=False, key_value_heads=1), toy_canvas()
    halves = semi_autoregressive(canvas, torch.tensor([0, 1, 1]), torch.rand(3, 8), 0.5, MASK)
    model.score(canvas, halves.first.tokens).softmax(-1).square().sum().backward()

    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


@pytest.mark.parametrize(
    ("width", "layers", "low", "high"), [(96, 2, 0.2e6, 0.4e6), (640, 12, 55e6, 70e6)]
)
def test_students_from_scratch_come_in_many_sizes(
    width: int, layers: int, low: float, high: float
) -> None:
    shape = small_shape(8000 if width > 100 else 100, MASK, END, width=width, layers=layers)
    with torch.device("meta"):
        assert low < DiffusionTransformer(shape).parameter_count() < high


def test_a_shape_that_cannot_be_built_is_refused() -> None:
    for wrong, words in (
        ({"key_value_heads": 3}, "key_value_heads = 3"),
        ({"head_width": 3}, "must be even"),
        ({"mask_token": 20}, "below vocabulary"),
        ({"mask_token": END}, "must differ"),
        ({"slots": 256}, "below max_positions"),
    ):
        with pytest.raises(ValueError, match=words):
            toy_shape(**wrong)
