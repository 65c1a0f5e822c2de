from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.training.recipes.toys import example

from tutelage.training.recipes.packing import Batching, Packing, collate, step_totals
from tutelage.training.recipes.tokenized import TokenizedChat, load_tokenizer
from tutelage.training.recipes.weights import load_weights, logits_at


def packing(**changed: object) -> Packing:
    chosen: dict[str, object] = {"tokens_per_batch": 64, "row_tokens": 32, **changed}
    return Packing(**chosen)  # type: ignore[arg-type]


@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=40),
    batching=st.sampled_from(["packed", "sorted"]),
    order=st.sampled_from(["shuffled", "given"]),
    per_step=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_every_chat_is_seen_once_an_epoch_within_the_limits(
    lengths: list[int], batching: str, order: str, per_step: int, seed: int
) -> None:
    chosen = packing(batching=batching, order=order, batches_per_step=per_step, seed=seed)
    plan = chosen.plan(lengths, 2)
    seen = [index for step in plan for rows in step for row in rows for index in row]
    assert sorted(seen) == sorted([*range(len(lengths))] * 2)
    assert plan == chosen.plan(lengths, 2)
    for step in plan:
        assert 1 <= len(step) <= per_step
        for rows in step:
            widths = [sum(lengths[index] for index in row) for row in rows]
            assert len(rows) == 1 or max(widths) * len(rows) <= 64
            assert all(len(row) == 1 or sum(lengths[i] for i in row) <= 32 for row in rows)


def test_a_given_order_is_kept() -> None:
    plan = packing(order="given").plan([9, 3, 30, 5], 1)
    assert [index for step in plan for rows in step for row in rows for index in row] == [
        0,
        1,
        2,
        3,
    ]


def test_epochs_differ_and_seeds_differ() -> None:
    lengths = [8] * 32
    plan = packing().plan(lengths, 2)
    assert plan[: len(plan) // 2] != plan[len(plan) // 2 :]
    assert plan != packing(seed=1).plan(lengths, 2)


def test_a_plan_can_end_early() -> None:
    assert len(packing().plan([8] * 64, 3, steps=5)) == 5


def test_chats_of_like_length_share_a_batch() -> None:
    lengths = [4] * 16 + [32] * 4
    for step in packing().plan(lengths, 1):
        for rows in step:
            assert len({lengths[row[0]] for row in rows}) == 1


def test_totals_count_each_chat_of_a_step() -> None:
    assert step_totals([[((0, 1), (2,))], [((2,),)]], [1, 10, 100]) == [111, 100]


@pytest.fixture(scope="module")
def chats(tiny_llama: Path) -> list[TokenizedChat]:
    turns = [example(n, turns=1 + n % 2, weight=1.0 + n) for n in range(4)]
    return load_tokenizer(tiny_llama).encode_all(turns, 120)


@pytest.mark.parametrize("batching", ["packed", "sorted"])
def test_neighbours_and_padding_change_no_logit(
    tiny_llama: Path, chats: list[TokenizedChat], batching: Batching
) -> None:
    model = load_weights(tiny_llama, dtype="float32", device="cpu").eval()
    rows = ((0, 1), (2, 3)) if batching == "packed" else ((0,), (1,), (2,), (3,))
    with torch.no_grad():
        together = logits_at(model, collate(rows, chats))
        alone = torch.cat([logits_at(model, collate(((n,),), chats)) for n in range(4)])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-4)


def test_targets_are_the_supervised_tokens_in_order(chats: list[TokenizedChat]) -> None:
    batch = collate(((2, 0), (1,)), chats)
    wanted = [
        token
        for index in (2, 0, 1)
        for token, on in zip(chats[index].tokens, chats[index].supervised, strict=True)
        if on
    ]
    assert batch.targets.tolist() == wanted
    counts = [chats[index].supervised_tokens for index in (2, 0, 1)]
    assert batch.chats.bincount().tolist() == counts
    assert batch.weights.tolist() == [3.0] * counts[0] + [1.0] * counts[1] + [2.0] * counts[2]
    assert int(batch.predicting.sum()) == len(wanted)
    assert batch.to("cpu").attention is not None


def test_a_head_that_changes_logits_is_asked_whole(
    tiny_llama: Path, chats: list[TokenizedChat], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_weights(tiny_llama, dtype="float32", device="cpu").eval()
    batch = collate(((0,), (1,)), chats)
    with torch.no_grad():
        picked = logits_at(model, batch)
        monkeypatch.setattr(model.config, "logit_scale", 1.0, raising=False)
        whole = logits_at(model, batch)
    torch.testing.assert_close(picked, whole)
