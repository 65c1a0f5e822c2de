"""Train tiny, distil, serve: a cascade with that student answers through the gateway."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.isolation import isolate
from tests.served_gateway import World
from tests.training.diffusion.served_student import NAME, serving

from tutelage.training.diffusion.chat import END, MASK, word_tokens
from tutelage.training.diffusion.commit_rule import EntropyThreshold, TopK
from tutelage.training.diffusion.decoding import DecodingSettings
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.objective import certainty_forcing
from tutelage.training.diffusion.shape import small_shape
from tutelage.training.diffusion.student import DiffusionStudent, load_diffusion_student
from tutelage.training.diffusion.trainer import DiffusionTraining, Pair, Pairs, train_diffusion
from tutelage.training.diffusion.trajectories import own_trajectories
from tutelage.training.diffusion.views import BlockViews, MixedViews, ResponseViews

pytestmark = pytest.mark.slow

DESKS = range(1, 5)


def order(desk: int) -> str:
    return f"Your task is to: go to desk {desk} ."


def answer(desk: int, chance: random.Random) -> str:
    return chance.choice(("go to desk {0}", "> go to desk {0}")).format(desk)


def trained(chat: Any) -> DiffusionStudent:
    """A student that learned by heart to obey, and then to obey in few forwards."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chance = random.Random(0)
    token = chat.tokenizer.token_to_id
    shape = small_shape(
        chat.tokenizer.get_vocab_size(), token(MASK), token(END), width=32, heads=2, slots=8,
        block_length=8, attention="block-causal",
    )  # fmt: skip
    model = DiffusionTransformer(shape)
    prompts = [chat.prompt([{"role": "user", "content": order(desk)}]) for desk in DESKS]
    pairs = [
        Pair(tuple(prompts[desk - 1]), tuple(chat.encode(answer(desk, chance))))
        for desk in DESKS
        for _ in range(8)
    ]
    train_diffusion(
        model,
        Pairs(pairs, model),
        MixedViews(ResponseViews(shape.mask_token), BlockViews(shape.mask_token)),
        DiffusionTraining(steps=150, batch=16, learning_rate=5e-3),
    )
    own = own_trajectories(
        model,
        prompts,
        lambda number, tokens: chat.decode(tokens).endswith(f"go to desk {number + 1}"),
        DecodingSettings(TopK(1)),
    )
    assert own.share_kept == 1
    train_diffusion(
        model,
        Pairs([one.pair for one in own.kept], model),
        BlockViews(shape.mask_token),
        DiffusionTraining(steps=40, batch=8, learning_rate=1e-3, decays=False),
        loss=certainty_forcing(2.0),
    )
    return DiffusionStudent(model, chat)


async def test_a_distilled_student_serves_the_cascade_through_the_gateway(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolate(monkeypatch, tmp_path)
    chat = word_tokens([*map(order, DESKS), "> go to desk"])
    student = load_diffusion_student(trained(chat).save(tmp_path / "student"))
    settings = DecodingSettings(EntropyThreshold(0.5), cache="exact")
    async with serving(student, settings) as endpoint, World({}) as world:
        chosen = {
            "student.base_url": endpoint.base_url,
            "student.model": NAME,
            "retrieval.enabled": False,
        }
        async with world.serve(chosen) as gateway:
            for desk in DESKS:
                got = await gateway.ask(
                    "chat",
                    {"model": "cascade", "messages": [{"role": "user", "content": order(desk)}]},
                )
                assert got.status == 200
                assert got.headers["x-tutelage-served"].startswith("student")
                text = got.json["choices"][0]["message"]["content"]
                assert text.endswith(f"go to desk {desk}")
        _, page = await endpoint.page("/metrics")
    counts = {
        line.split()[0]: float(line.split()[1])
        for line in page.splitlines()
        if line and not line.startswith("#")
    }
    written = counts["tutelage_diffusion_generation_tokens_total"]
    assert written / counts["tutelage_diffusion_forwards_total"] > 3
