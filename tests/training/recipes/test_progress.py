from __future__ import annotations

from tutelage.training.recipes.progress import ProgressMeter


def test_speed_and_end_are_those_of_this_sitting() -> None:
    now = [100.0]
    meter = ProgressMeter(10, 1000, 4, 400, lambda: now[0])
    now[0] += 2.0
    progress = meter.stepped(0.7, 100)
    assert (progress.step, progress.steps, progress.loss) == (5, 10, 0.7)
    assert (progress.tokens, progress.tokens_per_s, progress.remaining_s) == (500, 50.0, 10.0)
    assert meter.elapsed_s == 2.0


def test_a_clock_that_stands_still_gives_no_speed() -> None:
    progress = ProgressMeter(2, 20, 0, 0, lambda: 5.0).stepped(1.0, 10)
    assert (progress.tokens_per_s, progress.remaining_s) == (0.0, 0.0)
