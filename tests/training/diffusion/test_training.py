from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.training.diffusion.toys import ANSWERS, END, MASK, PROMPTS, toy_canvas, toy_model

from tutelage.runtime.errors import NoExamples, TrainingError
from tutelage.training.diffusion.commit_rule import EntropyThreshold, TopK
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.masking import whole_response
from tutelage.training.diffusion.objective import certainty_forcing
from tutelage.training.diffusion.own_errors import with_own_predictions
from tutelage.training.diffusion.trainer import DiffusionTraining, Pair, Pairs, train_diffusion
from tutelage.training.diffusion.trajectories import own_trajectories
from tutelage.training.diffusion.trajectory_order import (
    Curriculum,
    TrajectoryViews,
    completed_order,
)
from tutelage.training.diffusion.views import BlockViews, MixedViews, ResponseViews
from tutelage.training.recipes.recipe import TrainingProgress

PAIRS = [Pair(tuple(p), tuple(a)) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
ONCE = DecodingSettings(EntropyThreshold(float("inf")))


def random_of(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("attention", ["full", "block-causal"])
def test_a_student_learns_a_few_answers_by_heart(attention: Any) -> None:
    model = toy_model(attention=attention)
    seen: list[TrainingProgress] = []
    losses = train_diffusion(
        model,
        Pairs(PAIRS, model),
        MixedViews(ResponseViews(MASK), BlockViews(MASK, ratio=(0.5, 1.0))),
        DiffusionTraining(steps=300, batch=6, learning_rate=5e-3),
        watch=seen.append,
    )
    assert losses[-1] < 0.2 * losses[0]
    assert [at.step for at in seen] == list(range(1, 301))
    assert seen[-1].remaining_s == 0
    decoded = decode(model, PROMPTS, DecodingSettings(TopK(1)))
    assert [list(one.tokens) for one in decoded] == list(ANSWERS)
    assert not model.training


def test_certainty_forcing_lowers_the_entropy_of_what_is_right() -> None:
    def entropy_after(beta: float) -> float:
        model = toy_model(1)
        rough = DiffusionTraining(steps=40, batch=6, learning_rate=5e-3, seed=1)
        train_diffusion(
            model, Pairs(PAIRS, model), BlockViews(MASK), rough, loss=certainty_forcing(beta)
        )
        canvas = toy_canvas()
        hidden = whole_response(canvas, torch.zeros(3, 8), 1.0, MASK).first
        with torch.no_grad():
            log_probs = model.score(canvas, hidden.tokens).log_softmax(-1)
        right = log_probs.argmax(-1) == canvas.answers
        entropies = -(log_probs.exp() * log_probs).nan_to_num(nan=0.0).sum(-1)
        return float(entropies[right].mean())

    assert entropy_after(4.0) < entropy_after(0.0)


def test_the_rate_rises_and_falls() -> None:
    training = DiffusionTraining(steps=100, learning_rate=1.0, warmup=0.1)
    rates = [training.rate_at(step) for step in range(100)]

    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.01
    steady = DiffusionTraining(steps=100, learning_rate=1.0, warmup=0.0, decays=False)
    assert steady.rate_at(50) == 1.0


def test_a_loss_that_explodes_names_the_setting() -> None:
    model = toy_model()
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train_diffusion(model, Pairs(PAIRS, model), BlockViews(MASK), DiffusionTraining(steps=2))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}])
def test_unusable_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        DiffusionTraining(**wrong)


def test_nothing_to_learn_is_said() -> None:
    with pytest.raises(NoExamples, match="nothing to train on"):
        Pairs([], toy_model())


def test_short_answers_are_laid_out_on_a_short_canvas_of_one_block() -> None:
    model = toy_model()
    short = [Pair(tuple(PROMPTS[1]), tuple(ANSWERS[1]))]
    canvas, numbers = Pairs(short, model, slots=3).batch(2, random_of())

    assert (canvas.slots, canvas.blocks) == (3, 1)
    assert canvas.answers.tolist() == [[*ANSWERS[1], END]] * 2
    assert numbers.tolist() == [0, 0]


def trained() -> Any:
    model = toy_model()
    train_diffusion(
        model,
        Pairs(PAIRS, model),
        MixedViews(ResponseViews(MASK), BlockViews(MASK, ratio=(0.5, 1.0))),
        DiffusionTraining(steps=300, batch=6, learning_rate=5e-3),
    )
    return model


def test_own_trajectories_are_the_students_answers_in_their_order() -> None:
    model = trained()
    found = own_trajectories(
        model, PROMPTS, lambda number, tokens: number != 1, DecodingSettings(TopK(1)), batch=2
    )

    assert [trajectory.pair for trajectory in found.kept] == [PAIRS[0], PAIRS[2]]
    assert found.share_kept == pytest.approx(2 / 3)
    assert len(found.kept[0].order) == model.shape.slots
    more = own_trajectories(
        model,
        PROMPTS[:1],
        lambda number, tokens: True,
        DecodingSettings(TopK(1)),
        temperature=0.5,
        samples=3,
    )
    assert more.written == 3


def test_an_empty_kept_set_says_what_to_do() -> None:
    with pytest.raises(NoExamples, match="train the student longer"):
        own_trajectories(toy_model(), PROMPTS, lambda number, tokens: False, ONCE)


def test_the_curriculum_grows_share_and_window() -> None:
    curriculum = Curriculum(ratio=(0.0, 0.8), window=(16, 32))

    assert [curriculum.ratio_at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.4, 0.8])
    assert [curriculum.window_at(p) for p in (0.0, 0.5, 1.0)] == [16, 24, 32]


def test_trajectory_views_are_of_the_batchs_rows() -> None:
    model = trained()
    found = own_trajectories(model, PROMPTS, lambda number, tokens: True, DecodingSettings(TopK(1)))
    order = completed_order(torch.tensor([one.order for one in found.kept]))
    views = TrajectoryViews(order, MASK, Curriculum(window=(2, 4)))
    rows = torch.tensor([2, 0])
    canvas = toy_canvas([PROMPTS[2], PROMPTS[0]], [ANSWERS[2], ANSWERS[0]])

    early = views.of(rows).views(canvas, 0.0, random_of())
    late = views.of(rows).views(canvas, 0.99, random_of())

    assert [int(view.scored.sum()) for view in early] == [2, 2]
    assert all(int(view.scored.sum()) == 8 for view in late)
    with pytest.raises(TrainingError, match="take the views of the batch's rows"):
        views.views(canvas, 0.0, random_of())
    losses = train_diffusion(
        model,
        Pairs([one.pair for one in found.kept], model),
        views,
        DiffusionTraining(steps=3, batch=2),
        loss=certainty_forcing(2.0),
    )
    assert len(losses) == 3


def test_slots_that_were_never_written_come_last() -> None:
    order = torch.tensor([[0, 2, 1, -1], [0, 0, -1, -1]])

    assert completed_order(order).tolist() == [[0, 2, 1, 3], [0, 0, 1, 1]]


def test_own_predictions_take_the_place_of_masks_and_stay_scored() -> None:
    model, canvas = toy_model(), toy_canvas()
    view = whole_response(canvas, torch.zeros(3, 8), 1.0, MASK).first
    some = with_own_predictions(model, canvas, view, 0.5, random_of())
    none = with_own_predictions(model, canvas, view, 0.0, random_of())
    every = with_own_predictions(model, canvas, view, 1.0, random_of())

    start = canvas.prompt_columns
    assert torch.equal(none.tokens, view.tokens)
    assert not (every.tokens[:, start:] == MASK).any()
    assert 0 < int((some.tokens[:, start:] == MASK).sum()) < 24
    assert torch.equal(some.scored, view.scored)
    assert torch.equal(some.tokens[:, :start], canvas.tokens[:, :start])


@pytest.mark.parametrize("seed", [0, 1])
def test_training_on_own_errors_makes_right_words_likelier_where_wrong_ones_stand(
    seed: int,
) -> None:
    canvas = toy_canvas()
    view = whole_response(canvas, torch.zeros(3, 8), 1.0, MASK).first
    # An untrained student writes wrong words into every slot.
    shown = with_own_predictions(toy_model(9), canvas, view, 1.0, random_of(3))

    def error_nats(own_errors: float) -> float:
        model = toy_model(seed)
        training = DiffusionTraining(
            steps=150, batch=6, learning_rate=5e-3, own_errors=own_errors, seed=seed
        )
        train_diffusion(model, Pairs(PAIRS, model), BlockViews(MASK, ratio=(1.0, 1.0)), training)
        with torch.no_grad():
            log_probs = model.score(canvas, shown.tokens).log_softmax(-1)
        return -float(log_probs.gather(-1, canvas.answers[..., None]).mean())

    assert error_nats(0.7) < error_nats(0.0) - 0.5


def test_two_ways_of_masking_are_mixed_by_chance() -> None:
    canvas, random = toy_canvas(), random_of()
    views = MixedViews(ResponseViews(MASK), ResponseViews(MASK, complement=True))
    counts = [len(views.views(canvas, 0.0, random)) for _ in range(60)]

    assert {1, 2} == set(counts)
    assert 15 < counts.count(1) < 45
