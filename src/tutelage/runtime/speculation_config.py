"""Configuration of how the student's own vLLM server guesses ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from tutelage.runtime.models.speculation import Speculation

Method = Literal["ngram", "suffix", "draft_model", "eagle3", "dflash"]


class SpeculationConfig(BaseModel):
    """How a server that is started here guesses ahead.

    Refused for samples at a temperature above 0 in the CPU build of vLLM, which spoils them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "ngram"
    """``ngram`` and ``suffix`` guess from the prompt and need no training; the others take a
    ``model``."""
    tokens: int | None = Field(None, ge=1, le=64)
    """Guessed at a time; absent: the method's own, 4 for ``ngram``."""
    shortest: int = Field(2, ge=1)
    """Tokens that must match, at least (``ngram``)."""
    longest: int = Field(5, ge=1)
    """Tokens that must match, at most (``ngram``)."""
    model: str | None = None
    """Folder or name of the drafter (``draft_model``, ``eagle3``, ``dflash``)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest = {self.shortest} must not exceed longest = {self.longest}")
        trained = self.method in ("draft_model", "eagle3", "dflash")
        if trained and not (self.model or "").strip():
            raise ValueError(f"method = {self.method!r} guesses with a model: set model")
        if not trained and self.model is not None:
            raise ValueError(f"method = {self.method!r} takes no model: leave it out")
        return self

    def speculation(self) -> Speculation:
        """The settings that vLLM is started with."""
        from tutelage.runtime.models import speculation as known

        tokens = {} if self.tokens is None else {"tokens": self.tokens}
        if self.method == "ngram":
            return known.NgramSpeculation(**tokens, shortest=self.shortest, longest=self.longest)
        if self.method == "suffix":
            return known.SuffixSpeculation(**tokens)
        trained = {
            "draft_model": known.DraftModelSpeculation,
            "eagle3": known.Eagle3Speculation,
            "dflash": known.DflashSpeculation,
        }
        return trained[self.method](self.model or "", **tokens)
