"""How a vLLM server of a causal student guesses ahead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tutelage.runtime.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.runtime.models.vllm_environment import Device

OPTION = "--speculative-config"
MOST_TOKENS = 64


class Speculation(Protocol):
    """One way of guessing ahead."""

    def config(self) -> dict[str, Any]:
        """The object that vLLM takes."""
        ...


@dataclass(frozen=True, slots=True)
class NgramSpeculation:
    """Guesses what followed the same words earlier in the prompt: retrieved demonstrations, too."""

    tokens: int = 4
    """Guessed at a time."""
    shortest: int = 2
    longest: int = 5
    """Tokens that must match, at least and at most."""

    def __post_init__(self) -> None:
        _check_tokens(self.tokens)
        if not 1 <= self.shortest <= self.longest:
            raise ConfigError(
                f"shortest = {self.shortest}, longest = {self.longest}: use 1 <= shortest, and no "
                "shorter longest"
            )

    def config(self) -> dict[str, Any]:
        """Method ``ngram``."""
        return {
            "method": "ngram",
            "num_speculative_tokens": self.tokens,
            "prompt_lookup_min": self.shortest,
            "prompt_lookup_max": self.longest,
        }


@dataclass(frozen=True, slots=True)
class SuffixSpeculation:
    """Guesses from suffix trees of the prompt and of earlier answers (needs ``arctic-inference``
    in releases that do not bring it).
    """

    tokens: int = 32

    def __post_init__(self) -> None:
        _check_tokens(self.tokens)

    def config(self) -> dict[str, Any]:
        """Method ``suffix``."""
        return {"method": "suffix", "num_speculative_tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class _Drafter:
    """A model of its own guesses."""

    model: str
    """Folder or name."""
    tokens: int = 5
    method: ClassVar[str]

    def __post_init__(self) -> None:
        _check_model(self.model)
        _check_tokens(self.tokens)

    def config(self) -> dict[str, Any]:
        """The method, its model and how many tokens it guesses."""
        return {
            "method": self.method,
            "model": self.model,
            "num_speculative_tokens": self.tokens,
        }


@dataclass(frozen=True, slots=True)
class DraftModelSpeculation(_Drafter):
    """A smaller model of the same tokenizer guesses."""

    method: ClassVar[str] = "draft_model"


@dataclass(frozen=True, slots=True)
class Eagle3Speculation(_Drafter):
    """A trained head guesses; it must be trained again when the student is."""

    method: ClassVar[str] = "eagle3"


@dataclass(frozen=True, slots=True)
class DflashSpeculation(_Drafter):
    """A trained block-diffusion drafter guesses a block in one pass (arXiv 2602.06036)."""

    tokens: int = 15
    method: ClassVar[str] = "dflash"


def speculative_arguments(speculation: Speculation | None) -> Sequence[str]:
    """Arguments of ``vllm serve``, for ``VllmServer(extra_arguments=...)``; empty for ``None``."""
    if speculation is None:
        return ()
    return (OPTION, json.dumps(speculation.config(), separators=(",", ":")))


def check_samples(speculation: Speculation | None, device: Device, temperature: float) -> None:
    """Refuses to guess ahead where that would spoil the samples of the cascade.

    The CPU build of vLLM (seen with 0.32.0) draws noise at every place where it rejects a guess,
    at any temperature above 0; greedy answers stay what they were.

    Args:
        speculation: How the server is to guess.
        device: Of the server.
        temperature: Of the samples.

    Raises:
        ConfigError: It would.
    """
    if speculation is None or device != "cpu" or temperature == 0:
        return
    raise ConfigError(
        f"student.speculation is set and cascade.temperature = {temperature:g}: the CPU build of "
        "vLLM draws noise where it rejects a guess, so samples would never agree; leave "
        "student.speculation unset, or set cascade.temperature = 0"
    )


def _check_tokens(tokens: int) -> None:
    if not 1 <= tokens <= MOST_TOKENS:
        raise ConfigError(f"tokens = {tokens}: guess 1 to {MOST_TOKENS} at a time")


def _check_model(model: str) -> None:
    if not model.strip():
        raise ConfigError("model = '': name the folder of the drafter")
