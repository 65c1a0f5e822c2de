"""Configuration of the models between the student and the teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from tutelage.runtime.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.runtime.config import Config


class ChainConfig(BaseModel):
    """Who is asked between the student and the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tiers: tuple[str, ...] = ()
    """Names in ``upstreams``, cheap to dear: other students, then other teachers. Each is asked
    where the samples of the one before it, at first the student, do not agree; the teacher where
    those of the last do not."""
    samples: int | None = Field(None, ge=2, le=64)
    """Answers that vote in a tier; absent: ``cascade.samples``, at least 2."""
    gate: str | None = None
    """File of an instance gate, which says for each step who is asked first."""


def check_chain(config: Config) -> None:
    """Finds out whether a chain can be made.

    Raises:
        ConfigError: A tier is unknown or named twice, or samples are drawn in several calls.
    """
    chain, cascade = config.chain, config.cascade
    if not chain.tiers:
        if chain.gate is not None:
            raise ConfigError(f"chain.gate = {chain.gate!r} has no tiers to choose: name some")
        return
    for place, name in enumerate(chain.tiers):
        if name not in config.upstreams:
            known = ", ".join(config.upstreams) or "none"
            raise ConfigError(f"chain.tiers: {name!r} is no upstream; there are {known}")
        if name in chain.tiers[:place]:
            raise ConfigError(f"chain.tiers names {name!r} twice: name each tier once")
    if cascade.draw != "together" or cascade.greedy_first:
        raise ConfigError(
            "chain.tiers needs all samples of a tier at once: set cascade.draw = 'together' and "
            "cascade.greedy_first = false"
        )
