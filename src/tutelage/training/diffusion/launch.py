"""Command lines for the big public diffusion models in vLLM, SGLang and LMDeploy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tutelage.runtime.errors import ConfigError

Server = Literal["vllm", "sglang", "lmdeploy"]
SglangAlgorithm = Literal["LowConfidence", "JointThreshold", "Gemma4Renoise"]

KNOWN: Final[Mapping[Server, tuple[str, ...]]] = {
    "vllm": ("DiffusionGemmaForBlockDiffusion",),
    "sglang": (
        "LLaDA2MoeModelLM",
        "SDARForCausalLM",
        "SDARMoeForCausalLM",
        "DiffusionGemmaForBlockDiffusion",
    ),
    "lmdeploy": ("SDARForCausalLM", "SDARMoeForCausalLM"),
}
"""Architectures, as a checkpoint's ``config.json`` has them, that a server decodes by diffusion."""


def check_served(server: Server, architecture: str) -> None:
    """Asks whether a server knows a diffusion model.

    Raises:
        ConfigError: It does not; the text names servers that do.
    """
    if architecture in KNOWN[server]:
        return
    others = [name for name, known in KNOWN.items() if architecture in known]
    advice = (
        f"use {' or '.join(others)}"
        if others
        else "serve it with `tutelage student serve --diffusion` after a conversion, or choose "
        f"one of {', '.join(KNOWN[server])}"
    )
    raise ConfigError(f"{server} does not decode {architecture} as a diffusion model: {advice}")


@dataclass(frozen=True, slots=True)
class VllmDiffusion:
    """DiffusionGemma in vLLM."""

    model: str
    architecture: str = "DiffusionGemmaForBlockDiffusion"
    canvas_length: int = 256
    """Tokens that are written together."""
    max_denoising_steps: int = 16
    """Most passes a canvas."""
    max_num_seqs: int = 8
    """Sequences at a time: the sampler's memory grows with it, the canvas and the vocabulary."""

    def __post_init__(self) -> None:
        check_served("vllm", self.architecture)
        _check_positive(self, "canvas_length", "max_denoising_steps", "max_num_seqs")

    def config(self) -> str:
        """The value of ``--diffusion-config``."""
        return json.dumps(
            {
                "canvas_length": self.canvas_length,
                "max_denoising_steps": self.max_denoising_steps,
            },
            separators=(",", ":"),
        )

    def command(self) -> list[str]:
        """The command line."""
        return [
            *("vllm", "serve", self.model),
            *("--max-num-seqs", str(self.max_num_seqs)),
            *("--diffusion-config", self.config()),
        ]


@dataclass(frozen=True, slots=True)
class SglangDiffusion:
    """LLaDA2, SDAR or DiffusionGemma in SGLang."""

    model: str
    architecture: str
    algorithm: SglangAlgorithm = "LowConfidence"
    threshold: float = 0.95
    """Least probability of a token that is written with others."""
    block_size: int | None = None
    """``None``: what the model was trained with."""
    max_running_requests: int = 8
    """SGLang's own default for diffusion models is 1."""

    def __post_init__(self) -> None:
        check_served("sglang", self.architecture)
        is_gemma = self.architecture.startswith("DiffusionGemma")
        if is_gemma != (self.algorithm == "Gemma4Renoise"):
            right = "Gemma4Renoise" if is_gemma else "LowConfidence or JointThreshold"
            raise ConfigError(
                f"algorithm = {self.algorithm!r} does not fit {self.architecture}: use {right}"
            )
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold = {self.threshold:g}: use a probability above 0, up to 1")
        _check_positive(self, "max_running_requests")
        if self.block_size is not None:
            _check_positive(self, "block_size")

    def config(self) -> str:
        """The text of the YAML file that ``--dllm-algorithm-config`` names."""
        lines = [f"threshold: {self.threshold:g}"]
        if self.block_size is not None:
            lines.append(f"block_size: {self.block_size}")
        return "\n".join(lines) + "\n"

    def command(self, config_path: str) -> list[str]:
        """The command line.

        Args:
            config_path: Where the text of ``config`` was written.
        """
        return [
            *("python", "-m", "sglang.launch_server", "--model-path", self.model),
            *("--dllm-algorithm", self.algorithm),
            *("--dllm-algorithm-config", config_path),
            *("--max-running-requests", str(self.max_running_requests)),
        ]


@dataclass(frozen=True, slots=True)
class LmdeployDiffusion:
    """SDAR in LMDeploy."""

    model: str
    architecture: str = "SDARForCausalLM"
    block_length: int = 4
    denoising_steps: int | None = None
    """Most passes a block; ``None``: as many as it has tokens."""
    confidence_threshold: float = 0.85

    def __post_init__(self) -> None:
        check_served("lmdeploy", self.architecture)
        _check_positive(self, "block_length")
        if self.denoising_steps is not None:
            _check_positive(self, "denoising_steps")
        if not 0 < self.confidence_threshold <= 1:
            raise ConfigError(
                f"confidence_threshold = {self.confidence_threshold:g}: use a probability above 0, "
                "up to 1"
            )

    def command(self) -> list[str]:
        """The command line; only the PyTorch backend knows these options."""
        steps = self.denoising_steps or self.block_length
        return [
            *("lmdeploy", "serve", "api_server", self.model, "--backend", "pytorch"),
            *("--dllm-block-length", str(self.block_length)),
            *("--dllm-unmasking-strategy", "low_confidence_dynamic"),
            *("--dllm-denoising-steps", str(steps)),
            *("--dllm-confidence-threshold", f"{self.confidence_threshold:g}"),
        ]


def _check_positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value < 1:
            raise ConfigError(f"{name} = {value}: use at least 1")
