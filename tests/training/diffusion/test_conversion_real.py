"""The real SmolLM2 as a masked student: converted, saved, loaded, trained a little, decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tutelage.training.diffusion.commit_rule import EntropyThreshold
from tutelage.training.diffusion.conversion import convert_llama
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.student import load_diffusion_student
from tutelage.training.diffusion.trainer import DiffusionTraining, Pair, Pairs, train_diffusion
from tutelage.training.diffusion.views import ResponseViews

pytestmark = pytest.mark.slow

ORDER, ANSWER = "Go to shelf 3.", "go to shelf 3"


def test_smollm2_becomes_a_diffusion_student(checkpoint: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    converted = convert_llama(checkpoint, slots=8, block_length=8, max_positions=256)
    weights = {name: weight.clone() for name, weight in converted.model.state_dict().items()}

    student = load_diffusion_student(converted.save(tmp_path / "student"))

    found = student.model.state_dict()
    assert all(bool((found[name] == weight).all()) for name, weight in weights.items())
    assert {path.name for path in (tmp_path / "student").iterdir()} == {
        "model.safetensors", "tokenizer.json", "chat_template.jinja", "diffusion.json",
    }  # fmt: skip
    del weights, converted
    # A short prompt: every step of 135 M weights is paid on one core.
    prompt = student.chat.encode(f"user: {ORDER}\nassistant:")
    pair = Pair(tuple(prompt), tuple(student.chat.encode(ANSWER)))
    losses = train_diffusion(
        student.model,
        Pairs([pair], student.model),
        ResponseViews(student.shape.mask_token, ratio=(1.0, 1.0)),
        DiffusionTraining(steps=8, batch=1, learning_rate=2e-4, decays=False, warmup=0.0),
    )
    answer = decode(
        student.model, [prompt], DecodingSettings(EntropyThreshold(0.5), cache="exact")
    )[0]

    assert losses[-1] < 0.5 * losses[0]
    assert 1 <= answer.forwards <= 8
    # So few steps need not teach the number.
    assert student.chat.decode(answer.tokens).startswith("go to shelf")
