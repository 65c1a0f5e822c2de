from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tutelage.training.recipes.loss_curve import (
    LOSSES_FILE,
    append_loss,
    keep_losses,
    smoothed,
    write_curve,
)
from tutelage.training.recipes.recipe import TrainingProgress


def test_the_picture_is_a_png_and_equal_losses_draw_equal_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = write_curve(tmp_path, [1.5, 0.7, 0.4], "supervised")
    assert path is not None
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    write_curve(tmp_path, [1.5, 0.7, 0.4], "supervised")
    assert path.read_bytes() == first


def test_without_matplotlib_there_is_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert write_curve(tmp_path, [1.0], "supervised") is None
    assert not list(tmp_path.iterdir())


def test_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    keep_losses(tmp_path, 3)
    for step in range(1, 6):
        append_loss(tmp_path, TrainingProgress(step, 9, 1 / step, 10 * step, 5.0, 1.0), 0.1)
    keep_losses(tmp_path, 2)
    lines = [json.loads(line) for line in (tmp_path / LOSSES_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[1] == {
        "step": 2,
        "loss": 0.5,
        "learning_rate": 0.1,
        "tokens": 20,
        "tokens_per_s": 5.0,
    }


def test_smoothing_starts_at_the_first_loss() -> None:
    assert smoothed([2.0, 1.0]) == pytest.approx([2.0, 1.9])
