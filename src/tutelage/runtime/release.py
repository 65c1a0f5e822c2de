"""Releases of a student, and who of them serves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tutelage.runtime.errors import ConfigError

Stage = Literal["candidate", "shadow", "canary", "current", "retired", "rolled_back"]
"""Made; asked beside traffic; serves a share of episodes; serves the rest; was current once; was
taken back."""
Kind = Literal["full", "adapter"]
"""Merged weights, for a server of their own; or a LoRA adapter, which a running one loads."""

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,62})@([1-9][0-9]{0,8})", re.ASCII)


class Lineage(BaseModel):
    """What a release was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    traces_sha256: str
    """Digest of the sorted ids of the traces that it learnt from."""
    traces: int
    """How many they are."""
    bank: str = ""
    """Version of the demonstrations at that time; empty: none were used."""
    recipe: str
    settings: dict[str, Any] = Field(default_factory=dict)
    """What the recipe was run with, as JSON values."""
    parent: str = ""
    """Name of the release that it was trained from; empty: of the base checkpoint."""
    parent_sha256: str = ""
    """Digest of the weights that it was trained from."""
    code: str
    """Version of tutelage."""


class Probe(BaseModel):
    """Token ids whose log-probability tells one set of weights from another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: tuple[int, ...]
    continuation: tuple[int, ...]
    logprob: float
    """Sum over the continuation by the weights of the release, in nats."""
    parent_logprob: float
    """The same by the weights that it was trained from."""


class Release(BaseModel):
    """One immutable set of weights with all that is known of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: str
    number: int
    tenant: str
    """Whose traces it learnt from, and whom alone it serves."""
    stage: Stage = "candidate"
    created_at_s: float
    kind: Kind
    folder: str
    """Where the weights are, as the servers of the student see them."""
    files: dict[str, str]
    """SHA-256 of every file, by its path in the folder."""
    weights_sha256: str
    """Digest over all of ``files``."""
    lineage: Lineage
    evidence: dict[str, Any] | None = None
    """What the gates found, as JSON values."""
    probe: Probe | None = None
    base_url: str | None = None
    """Endpoint of its own; absent: that of the student."""
    policy: dict[str, Any] | None = None
    """The policy file that was calibrated for it, as JSON values."""

    @property
    def name(self) -> str:
        """The immutable name under which it is served, such as ``student@7``."""
        return f"{self.student}@{self.number}"

    @property
    def passed(self) -> bool:
        """Whether its gates let it through."""
        return bool(self.evidence and self.evidence.get("passed"))


@dataclass(frozen=True, slots=True)
class Served:
    """What the runtime must know of a release to let it act."""

    name: str
    weights_sha256: str
    base_url: str | None = None
    policy: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who serves one tenant."""

    student: str
    tenant: str
    current: Served | None = None
    """``None``: the student as it is configured."""
    previous: str | None = None
    """What a rollback goes back to; ``None``: the student as it is configured."""
    canary: Served | None = None
    canary_share: float = 0.0
    """Share of episodes that the canary serves."""
    changed_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReleaseEvent:
    """One thing that happened to a release."""

    at_s: float
    """Unix time."""
    release: str
    event: str
    detail: str


def split_name(name: str) -> tuple[str, int]:
    """``student@7`` as student and number.

    Raises:
        ConfigError: It is no name of a release.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ConfigError(f"{name[:80]!r} is no release: give a name such as student@7")
    return found[1], int(found[2])
