from __future__ import annotations

import json
from typing import Any

import pytest

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.launch import (
    KNOWN,
    LmdeployDiffusion,
    SglangDiffusion,
    VllmDiffusion,
    check_served,
)


def test_vllm_is_told_canvas_and_steps() -> None:
    command = VllmDiffusion("gemma", canvas_length=128, max_denoising_steps=8).command()

    assert command[:3] == ["vllm", "serve", "gemma"]
    assert json.loads(command[command.index("--diffusion-config") + 1]) == {
        "canvas_length": 128,
        "max_denoising_steps": 8,
    }


def test_sglang_is_told_the_algorithm_and_its_file() -> None:
    made = SglangDiffusion("llada2", "LLaDA2MoeModelLM", threshold=0.9, block_size=32)

    assert made.config() == "threshold: 0.9\nblock_size: 32\n"
    command = made.command("/etc/dllm.yaml")
    assert command[command.index("--dllm-algorithm") + 1] == "LowConfidence"
    assert command[command.index("--dllm-algorithm-config") + 1] == "/etc/dllm.yaml"
    assert "block_size" not in SglangDiffusion("sdar", "SDARForCausalLM").config()


def test_lmdeploy_is_told_blocks_and_threshold() -> None:
    command = LmdeployDiffusion("sdar", block_length=8).command()

    assert command[command.index("--dllm-block-length") + 1] == "8"
    assert command[command.index("--dllm-denoising-steps") + 1] == "8"
    assert command[command.index("--dllm-unmasking-strategy") + 1] == "low_confidence_dynamic"


@pytest.mark.parametrize(
    ("server", "architecture", "words"),
    [
        ("vllm", "SDARForCausalLM", "use sglang or lmdeploy"),
        ("lmdeploy", "LLaDA2MoeModelLM", "use sglang"),
        ("vllm", "LLaDAModelLM", "tutelage student serve --diffusion"),
        ("sglang", "DreamModel", "choose one of LLaDA2MoeModelLM"),
    ],
)
def test_a_model_that_the_server_does_not_know_is_refused(
    server: Any, architecture: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check_served(server, architecture)


def test_what_a_server_knows_passes() -> None:
    for server, known in KNOWN.items():
        for architecture in known:
            check_served(server, architecture)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VllmDiffusion("m", architecture="LlamaForCausalLM"), "vllm does not decode"),
        (lambda: VllmDiffusion("m", canvas_length=0), "canvas_length = 0"),
        (lambda: SglangDiffusion("m", "SDARForCausalLM", threshold=0), "threshold = 0"),
        (lambda: SglangDiffusion("m", "SDARForCausalLM", block_size=0), "block_size = 0"),
        (lambda: SglangDiffusion("m", "SDARForCausalLM", "Gemma4Renoise"), "does not fit"),
        (
            lambda: SglangDiffusion("m", "DiffusionGemmaForBlockDiffusion"),
            "use Gemma4Renoise",
        ),
        (lambda: LmdeployDiffusion("m", denoising_steps=0), "denoising_steps = 0"),
        (lambda: LmdeployDiffusion("m", confidence_threshold=1.5), "confidence_threshold = 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
