"""How a vLLM server of a causal student guesses ahead; the answers stay what they were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tutelage.runtime.errors import ConfigError

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
class DraftModelSpeculation:
    """A smaller model of the same tokenizer guesses."""

    model: str
    """Folder or name."""
    tokens: int = 5

    def __post_init__(self) -> None:
        _check_model(self.model)
        _check_tokens(self.tokens)

    def config(self) -> dict[str, Any]:
        """Method ``draft_model``."""
        return _with_model("draft_model", self.model, self.tokens)


@dataclass(frozen=True, slots=True)
class Eagle3Speculation:
    """A trained head guesses; it must be trained again when the student is."""

    model: str
    tokens: int = 5

    def __post_init__(self) -> None:
        _check_model(self.model)
        _check_tokens(self.tokens)

    def config(self) -> dict[str, Any]:
        """Method ``eagle3``."""
        return _with_model("eagle3", self.model, self.tokens)


@dataclass(frozen=True, slots=True)
class DflashSpeculation:
    """A trained block-diffusion drafter guesses a block in one pass (arXiv 2602.06036)."""

    model: str
    tokens: int = 15

    def __post_init__(self) -> None:
        _check_model(self.model)
        _check_tokens(self.tokens)

    def config(self) -> dict[str, Any]:
        """Method ``dflash``."""
        return _with_model("dflash", self.model, self.tokens)


def speculative_arguments(speculation: Speculation | None) -> Sequence[str]:
    """Arguments of ``vllm serve``, for ``VllmServer(extra_arguments=...)``; empty for ``None``."""
    if speculation is None:
        return ()
    return (OPTION, json.dumps(speculation.config(), separators=(",", ":")))


def _with_model(method: str, model: str, tokens: int) -> dict[str, Any]:
    return {"method": method, "model": model, "num_speculative_tokens": tokens}


def _check_tokens(tokens: int) -> None:
    if not 1 <= tokens <= MOST_TOKENS:
        raise ConfigError(f"tokens = {tokens}: guess 1 to {MOST_TOKENS} at a time")


def _check_model(model: str) -> None:
    if not model.strip():
        raise ConfigError("model = '': name the folder of the drafter")
