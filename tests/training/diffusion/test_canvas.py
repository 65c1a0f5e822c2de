from __future__ import annotations

import pytest
from tests.training.diffusion.toys import END, MASK, toy_canvas, toy_shape

from tutelage.runtime.errors import TrainingError
from tutelage.training.diffusion.canvas import lay_out


def test_answers_begin_at_one_column_and_are_filled_with_the_end_token() -> None:
    canvas = toy_canvas()

    assert canvas.tokens[0].tolist() == [END, END, 5, 6, 7, 3, 4, 5, 6, 7, 8, END, END]
    assert canvas.positions()[0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert canvas.valid()[0].tolist() == [False] * 2 + [True] * 11
    assert canvas.block_numbers().tolist() == [0] * 5 + [1] * 4 + [2] * 4


def test_without_answers_every_slot_is_masked() -> None:
    assert (toy_canvas(answers=None).answers == MASK).all()


def test_the_last_block_may_be_shorter() -> None:
    canvas = lay_out([[5]], [[3]], toy_shape(), block_length=3)

    assert canvas.blocks == 3
    assert canvas.block_numbers().tolist() == [0, 1, 1, 1, 2, 2, 2, 3, 3]


@pytest.mark.parametrize("prompt", [[], [5] * 249])
def test_a_prompt_that_does_not_fit_is_refused(prompt: list[int]) -> None:
    with pytest.raises(TrainingError, match="prompts take 1 to 248"):
        lay_out([prompt], None, toy_shape())


def test_an_answer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TrainingError, match="9 tokens and the canvas 8 slots"):
        lay_out([[5]], [[3] * 9], toy_shape())
