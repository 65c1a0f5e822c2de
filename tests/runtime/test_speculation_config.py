from __future__ import annotations

import pytest

from tutelage.runtime.config import load_config
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.models.speculation import (
    DflashSpeculation,
    DraftModelSpeculation,
    Eagle3Speculation,
    NgramSpeculation,
    Speculation,
    SuffixSpeculation,
)
from tutelage.runtime.speculation_config import SpeculationConfig


@pytest.mark.parametrize(
    ("chosen", "made"),
    [
        (SpeculationConfig(), NgramSpeculation()),
        (
            SpeculationConfig(method="ngram", tokens=6, shortest=3, longest=3),
            NgramSpeculation(6, 3, 3),
        ),
        (SpeculationConfig(method="suffix"), SuffixSpeculation()),
        (SpeculationConfig(method="draft_model", model="d"), DraftModelSpeculation("d")),
        (SpeculationConfig(method="eagle3", model="e", tokens=3), Eagle3Speculation("e", 3)),
        (SpeculationConfig(method="dflash", model="f"), DflashSpeculation("f")),
    ],
)
def test_settings_make_what_vllm_is_started_with(
    chosen: SpeculationConfig, made: Speculation
) -> None:
    assert chosen.speculation() == made


def test_nothing_is_guessed_unless_it_is_set() -> None:
    assert load_config(None).student.speculation is None


def test_one_key_is_enough() -> None:
    config = load_config(None, overrides={"student.speculation.method": "suffix"})

    assert config.student.speculation == SpeculationConfig(method="suffix")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"method": "eagle3"}, "guesses with a model: set model"),
        ({"method": "ngram", "model": "m"}, "takes no model: leave it out"),
        ({"shortest": 4, "longest": 3}, "shortest = 4 must not exceed longest = 3"),
        ({"tokens": 65}, "tokens"),
        ({"method": "medusa"}, "method"),
    ],
)
def test_what_does_not_fit_is_named(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(None, overrides={"student.speculation": wrong})
