from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.training.diffusion.toys import END, PROMPTS, toy_model

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.commit_rule import (
    CommitRule,
    ConfidenceThreshold,
    EntropyThreshold,
    TopK,
    commit_rule,
)
from tutelage.training.diffusion.decoding import Decoded, DecodingSettings, decode
from tutelage.training.diffusion.drawing import Draw

INFINITE = float("inf")
VARIANTS: list[dict[str, Any]] = [
    {},
    {"shifted": True},
    {"attention": "block-causal"},
    {"attention": "block-causal", "shifted": True},
]


def whole(rule: CommitRule, **more: Any) -> DecodingSettings:
    """Settings that fill the canvas whatever is in it."""
    return DecodingSettings(rule, stops_at_end=False, **more)


def written(decoded: Sequence[Decoded]) -> list[tuple[Any, ...]]:
    return [(one.tokens, one.finish_reason, one.forwards, one.order) for one in decoded]


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_entropy_of_zero_writes_one_token_a_forward(variant: dict[str, Any]) -> None:
    model = toy_model(**variant)
    strict = decode(model, PROMPTS, whole(EntropyThreshold(0.0)))

    for one in strict:
        assert one.forwards == model.shape.slots
        assert sorted(one.order) == list(range(model.shape.slots))


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_infinite_entropy_writes_one_block_a_forward(variant: dict[str, Any]) -> None:
    decoded = decode(toy_model(**variant), PROMPTS, whole(EntropyThreshold(INFINITE)))

    assert [one.forwards for one in decoded] == [2, 2, 2]
    assert decoded[0].order == (0, 0, 0, 0, 1, 1, 1, 1)


@pytest.mark.parametrize(
    "rule",
    [TopK(1), TopK(3), ConfidenceThreshold(0.9), ConfidenceThreshold(0.3), EntropyThreshold(1.0)],
)
@pytest.mark.parametrize("seed", range(3))
def test_decoding_ends_within_blocks_and_slots(rule: CommitRule, seed: int) -> None:
    for one in decode(toy_model(seed), PROMPTS, whole(rule)):
        assert 2 <= one.forwards <= 8
        assert min(one.order) == 0
        assert max(one.order) == one.forwards - 1


def test_top_k_writes_k_a_forward() -> None:
    decoded = decode(toy_model(), PROMPTS, whole(TopK(3)))

    assert [one.forwards for one in decoded] == [4, 4, 4]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cache", ["none", "approximate"])
def test_a_batch_of_three_is_decoded_as_three_batches_of_one(
    variant: dict[str, Any], cache: Any
) -> None:
    model = toy_model(3, **variant)
    settings = DecodingSettings(EntropyThreshold(1.8), cache=cache)
    alone = [decode(model, [prompt], settings)[0] for prompt in PROMPTS]

    assert written(decode(model, PROMPTS, settings)) == written(alone)
    assert len({one.forwards for one in alone}) > 1, "the rows should not all go in step"


def test_samples_do_not_depend_on_who_shares_the_batch() -> None:
    model = toy_model()
    settings = DecodingSettings(EntropyThreshold(1.8))

    def draw(seed: int) -> Draw:
        return Draw(1.0, 0.9, torch.Generator().manual_seed(seed))

    together = decode(model, PROMPTS, settings, draws=[draw(seed) for seed in range(3)])
    alone = [
        decode(model, [prompt], settings, draws=[draw(seed)])[0]
        for seed, prompt in enumerate(PROMPTS)
    ]
    assert written(together) == written(alone)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("rule", [TopK(1), EntropyThreshold(1.8), EntropyThreshold(INFINITE)])
@pytest.mark.parametrize("seed", range(3))
def test_the_exact_cache_changes_nothing(shifted: bool, rule: CommitRule, seed: int) -> None:
    model = toy_model(seed, attention="block-causal", shifted=shifted)
    for stops in (True, False):
        with_cache = DecodingSettings(rule, stops_at_end=stops, cache="exact")
        without = DecodingSettings(rule, stops_at_end=stops)
        ours, theirs = decode(model, PROMPTS, with_cache), decode(model, PROMPTS, without)
        assert written(ours) == written(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)


def test_the_exact_cache_computes_a_block_once_its_past_is_kept() -> None:
    model = toy_model(attention="block-causal")
    widths: list[int] = []
    model.register_forward_pre_hook(lambda _, given: widths.append(given[0].shape[1]))
    decode(model, [PROMPTS[0]], whole(TopK(2), cache="exact"))

    prompt, block = 3, 4
    assert widths == [prompt + block, block, 2 * block, block]


def test_the_approximate_cache_keeps_the_prefix_within_a_block() -> None:
    model = toy_model()
    widths: list[int] = []
    model.register_forward_pre_hook(lambda _, given: widths.append(given[0].shape[1]))
    decoded = decode(model, [PROMPTS[0]], whole(TopK(2), cache="approximate"))

    assert widths == [11, 8, 11, 4]
    assert decoded[0].forwards == 4


def test_the_exact_cache_is_refused_where_it_would_not_be_exact() -> None:
    with pytest.raises(ConfigError, match="needs a block-causal student"):
        decode(toy_model(), PROMPTS, DecodingSettings(cache="exact"))


def test_a_block_causal_student_keeps_the_blocks_it_was_trained_with() -> None:
    model = toy_model(attention="block-causal")
    with pytest.raises(ConfigError, match="block_length = 2"):
        decode(model, PROMPTS, DecodingSettings(block_length=2))
    assert (
        decode(toy_model(), PROMPTS, whole(EntropyThreshold(INFINITE), block_length=2))[0].forwards
        == 4
    )


def test_an_answer_ends_at_its_end_token() -> None:
    model = toy_model()
    with torch.no_grad():
        # Whatever the student sees, it predicts the end.
        model.head.weight = torch.nn.Parameter(torch.zeros_like(model.head.weight))
        model.head.weight[END] = 0.0
        model.norm.weight.zero_()
    early = decode(model, PROMPTS, DecodingSettings(TopK(1)))[0]
    filled = decode(model, PROMPTS, whole(TopK(1)))[0]

    # All logits are equal: the first token that is not the mask is written everywhere.
    assert early.tokens == filled.tokens == (0,) * 8
    assert (early.finish_reason, filled.finish_reason) == ("length", "length")


class Scripted(torch.nn.Module):  # type: ignore[misc]
    """Predicts one text, surer the further to the left, or to the right."""

    def __init__(self, text: Sequence[int], *, rising: bool = False) -> None:
        super().__init__()
        inner = toy_model()
        self.shape, self.device, self._text = inner.shape, torch.device("cpu"), list(text)
        self._slope = 1 if rising else -1

    def forward(self, tokens: Any, positions: Any, seen: Any, past: Any = None) -> Any:
        from tutelage.training.diffusion.model import Pass

        hidden = torch.zeros((*tokens.shape, self.shape.vocabulary))
        start = tokens.shape[1] - self.shape.slots
        for place, token in enumerate(self._text):
            hidden[:, start + place, token] = 20.0 + self._slope * place
        return Pass(hidden, [])

    def logits(self, hidden: Any) -> Any:
        return hidden


def test_a_row_is_done_when_all_before_its_end_is_written() -> None:
    text = [7, 8, END, END, END, END, END, END]
    early = decode(Scripted(text), [[5]], DecodingSettings(TopK(1)))[0]
    filled = decode(Scripted(text), [[5]], whole(TopK(1)))[0]

    assert (early.tokens, early.forwards, early.finish_reason) == ((7, 8), 3, "stop")
    assert (filled.tokens, filled.forwards, filled.finish_reason) == ((7, 8), 8, "stop")
    assert early.order == (0, 1, 2, 2, 2, 2, 2, 2)
    assert early.tokens_a_forward == pytest.approx(2 / 3)
    assert early.log_probs[0] == pytest.approx(0.0, abs=1e-6)


def test_what_follows_the_end_costs_no_forward() -> None:
    # The student is surest of the last slots, as it is of filler after training.
    filler = Scripted([7, 8, END, END, END, END, END, END], rising=True)
    early = decode(filler, [[5]], DecodingSettings(TopK(1)))[0]
    filled = decode(filler, [[5]], whole(TopK(1)))[0]

    assert (early.tokens, early.forwards) == ((7, 8), 3)
    assert filled.forwards == 8


def test_a_limit_ends_a_row_early() -> None:
    text = [7, 8, 9, 10, 11, 12, 13, END]
    cut, free = decode(Scripted(text), [[5], [5]], DecodingSettings(TopK(1)), limits=[3, 100])

    assert (cut.tokens, cut.forwards, cut.finish_reason) == ((7, 8, 9), 3, "length")
    assert (free.tokens, free.finish_reason) == ((7, 8, 9, 10, 11, 12, 13), "stop")


def test_what_is_written_without_a_gap_is_told_and_may_end_a_row() -> None:
    told: list[tuple[int, list[int]]] = []

    def tell(row: int, tokens: Sequence[int]) -> bool:
        told.append((row, list(tokens)))
        return not (row == 1 and len(tokens) == 2)

    text = [7, 8, 9, END, END, END, END, END]
    decoded = decode(Scripted(text), [[5], [5]], DecodingSettings(TopK(1)), on_commit=tell)

    assert [tokens for row, tokens in told if row == 0] == [[7], [7, 8], [7, 8, 9]]
    assert [tokens for row, tokens in told if row == 1] == [[7], [7, 8]]
    assert [one.forwards for one in decoded] == [4, 2]


def test_latency_is_counted_until_a_row_is_done() -> None:
    ticks = itertools.count()
    text = [7, END, END, END, END, END, END, END]
    first, second = decode(
        Scripted(text),
        [[5], [5]],
        DecodingSettings(TopK(1)),
        limits=[1, 8],
        clock=lambda: float(next(ticks)),
    )
    assert 0 < first.latency_s < second.latency_s


def test_a_temperature_samples_and_a_seed_repeats_it() -> None:
    model, settings = toy_model(), DecodingSettings(EntropyThreshold(1.0))

    def sample(seed: int, top_p: float = 1.0) -> tuple[int, ...]:
        random = torch.Generator().manual_seed(seed)
        return decode(model, [[5]], settings, draws=[Draw(3.0, top_p, random)])[0].tokens

    drawn = {sample(seed) for seed in range(8)}
    assert len(drawn) > 4
    assert sample(3) == sample(3)
    greedy = decode(model, [[5]], settings)[0].tokens
    assert sample(3, top_p=1e-9) == greedy


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("one-token", None, TopK(1)),
        ("top-k", 4, TopK(4)),
        ("top-k", None, TopK(2)),
        ("confidence", None, ConfidenceThreshold(0.9)),
        ("confidence", 0.5, ConfidenceThreshold(0.5)),
        ("entropy", None, EntropyThreshold(0.5)),
        ("entropy", 0, EntropyThreshold(0)),
    ],
)
def test_rules_are_found_by_name(name: str, value: float | None, rule: CommitRule) -> None:
    assert commit_rule(name, value) == rule


@pytest.mark.parametrize(
    ("name", "value"),
    [("top-k", 0), ("top-k", 1.5), ("confidence", 1.1), ("entropy", -1), ("best", None)],
)
def test_unusable_rules_are_refused(name: str, value: float | None) -> None:
    with pytest.raises(ConfigError, match=name):
        commit_rule(name, value)
