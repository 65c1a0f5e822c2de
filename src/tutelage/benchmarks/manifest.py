"""``run.json``: the settings that all episodes of a results folder share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tutelage.benchmarks.arms import Arm
from tutelage.runtime.errors import BenchmarkError

MANIFEST_FILE = "run.json"


class RunSettings(BaseModel):
    """What the episodes of one folder have in common; a change of any of it makes another run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    world: str
    split: str
    teacher: str
    """A model name; for an oracle, a few words that say what it is."""
    teacher_kind: Literal["oracle", "model"]
    student: str
    teacher_priced_as: str
    """Model whose prices the teacher's tokens are counted with."""
    student_priced_as: str
    prices_date: str
    max_steps: int = Field(gt=0)
    max_tokens: int = Field(gt=0)
    """Limit of generated tokens a step."""
    temperature: float = Field(default=0.0, ge=0)
    """Of requests; a policy that samples several times sets its own."""
    bank_episodes: int = Field(default=0, ge=0)
    """Teacher episodes that were played to fill the bank of demonstrations."""
    more: dict[str, JsonValue] = Field(default_factory=dict)
    """Any other setting that the results depend on, e.g. the bank's checksum or a layout."""


class Manifest(BaseModel):
    """The content of ``run.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    settings: RunSettings
    arms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Definitions of the arms that were played, by name."""
    mix: dict[str, float] = Field(default_factory=dict)
    """Chance of the teacher in arms that mix at random, once it was measured; by arm."""
    abandoned_cost_usd: float = 0.0
    """Spent on episodes that a stop cut off; they are not among the results."""

    def fingerprint(self, arm: str) -> str:
        """Short hash of the settings and of what an arm of this run does."""
        shared = {"settings": self.settings.model_dump(mode="json"), "arm": self.arms[arm]}
        content = json.dumps(shared, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def continued(self, settings: RunSettings, arms: Sequence[Arm], source: str) -> Manifest:
        """This manifest with further arms, if settings and known arms are what they were.

        Raises:
            BenchmarkError: Something differs; the text names the first key that does.
        """
        before: dict[str, Any] = self.settings.model_dump(mode="json")
        now: dict[str, Any] = settings.model_dump(mode="json")
        definitions = {arm.name: arm.definition() for arm in arms}
        known = {name: self.arms[name] for name in definitions if name in self.arms}
        before["arms"], now["arms"] = known, {name: definitions[name] for name in known}
        for key, old, new in _differences(before, now):
            raise BenchmarkError(
                f"{source} was written with {key} = {old}, now it is {new}; "
                "set it back, or replay into another folder"
            )
        return self.model_copy(update={"arms": {**self.arms, **definitions}})


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif key not in before or key not in now or old != new:
            yield (
                f"{prefix}{key}",
                json.dumps(old) if key in before else "not set",
                json.dumps(new) if key in now else "not set",
            )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; ``None`` if nothing was replayed there.

    Raises:
        BenchmarkError: The file cannot be read or was written by something else.
    """
    path = folder / MANIFEST_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise BenchmarkError(
            f"{path} is not a replay's manifest ({where}: {first['msg']}); use another folder"
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes ``run.json`` so that a kill at any moment leaves the old or the new one.

    Raises:
        OSError: The folder cannot be written.
    """
    path = folder / MANIFEST_FILE
    draft = path.with_suffix(".json.new")
    with draft.open("wb") as file:
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
