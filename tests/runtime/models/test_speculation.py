from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.models.speculation import (
    DflashSpeculation,
    DraftModelSpeculation,
    Eagle3Speculation,
    NgramSpeculation,
    Speculation,
    SuffixSpeculation,
    check_samples,
    speculative_arguments,
)
from tutelage.runtime.models.vllm import VllmServer


@pytest.mark.parametrize(
    ("speculation", "config"),
    [
        (
            NgramSpeculation(6, shortest=3, longest=4),
            {
                "method": "ngram",
                "num_speculative_tokens": 6,
                "prompt_lookup_min": 3,
                "prompt_lookup_max": 4,
            },
        ),
        (SuffixSpeculation(), {"method": "suffix", "num_speculative_tokens": 32}),
        (
            DraftModelSpeculation("small"),
            {"method": "draft_model", "model": "small", "num_speculative_tokens": 5},
        ),
        (
            Eagle3Speculation("head", 3),
            {"method": "eagle3", "model": "head", "num_speculative_tokens": 3},
        ),
        (
            DflashSpeculation("drafter"),
            {"method": "dflash", "model": "drafter", "num_speculative_tokens": 15},
        ),
    ],
)
def test_each_way_renders_what_vllm_takes(speculation: Speculation, config: Any) -> None:
    option, value = speculative_arguments(speculation)

    assert option == "--speculative-config"
    assert json.loads(value) == config


def test_without_speculation_nothing_is_said() -> None:
    assert speculative_arguments(None) == ()


def test_the_server_is_started_with_it() -> None:
    arguments = speculative_arguments(NgramSpeculation())
    server = VllmServer(Path("checkpoint"), extra_arguments=arguments)

    assert tuple(server._arguments("cpu")[-2:]) == arguments


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NgramSpeculation(0), "tokens = 0"),
        (lambda: NgramSpeculation(shortest=3, longest=2), "shortest = 3, longest = 2"),
        (lambda: SuffixSpeculation(65), "1 to 64"),
        (lambda: DraftModelSpeculation(" "), "name the folder"),
        (lambda: Eagle3Speculation(""), "name the folder"),
        (lambda: DflashSpeculation(""), "name the folder"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize(
    ("speculation", "device", "temperature"),
    [(None, "cpu", 0.7), (NgramSpeculation(), "cuda", 0.7), (NgramSpeculation(), "cpu", 0.0)],
)
def test_guessing_is_allowed_where_samples_stay_what_they_were(
    speculation: Any, device: Any, temperature: float
) -> None:
    check_samples(speculation, device, temperature)


def test_guessing_that_would_spoil_samples_names_both_keys() -> None:
    with pytest.raises(ConfigError, match=r"student.speculation .* cascade.temperature = 0.7"):
        check_samples(NgramSpeculation(), "cpu", 0.7)
