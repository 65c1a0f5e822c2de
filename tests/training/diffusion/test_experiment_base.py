from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.commit_rule import TopK
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.experiment_base import LEARNED_FILE, base_student, scene_prompt
from tutelage.training.diffusion.experiment_settings import ExperimentSettings
from tutelage.training.diffusion.language import ACTIONS, REASONED, drawn_scene

SIZES = ExperimentSettings(width=16, layers=1, bare_steps=2, base_steps=10, examples=20, batch=4)


def test_a_base_student_is_trained_once_and_loaded_after(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = tmp_path / "base"
    made, learned = base_student(
        ACTIONS, 3, SIZES, lambda done, of: told.append((done, of)), folder
    )
    again, read = base_student(ACTIONS, 3, SIZES, lambda done, of: told.append((0, 0)), folder)

    # Two bare steps, and 0.4 of ten in the language.
    assert told == [(step, 6) for step in range(1, 7)]
    assert read == learned
    assert learned.sizes["base_steps"] == 4
    for ours, theirs in zip(made.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    prompt = scene_prompt(made.chat, drawn_scene(random.Random(0)))
    assert len(decode(again.model, [prompt], DecodingSettings(TopK(1)))) == 1


def test_a_seed_makes_the_same_student_and_another_seed_another() -> None:
    def first(seed: int) -> torch.Tensor:
        student, _ = base_student(REASONED, seed, SIZES, lambda done, of: None)
        return student.model.embedding.weight

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_a_kept_student_of_other_sizes_is_refused(tmp_path: Path) -> None:
    base_student(ACTIONS, 0, SIZES, lambda done, of: None, tmp_path)

    with pytest.raises(ConfigError, match="student of other sizes"):
        base_student(ACTIONS, 0, replace(SIZES, batch=5), lambda done, of: None, tmp_path)
    # What follows the base changes nothing about it.
    base_student(ACTIONS, 0, replace(SIZES, distil_steps=7), lambda done, of: None, tmp_path)
    (tmp_path / LEARNED_FILE).write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        base_student(ACTIONS, 0, SIZES, lambda done, of: None, tmp_path)
