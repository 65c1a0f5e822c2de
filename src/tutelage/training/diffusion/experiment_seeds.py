"""What finished seeds of the experiment left behind, so that a run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.experiment_settings import ExperimentSettings
from tutelage.training.diffusion.parallelism import Point


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one student of one language came to."""

    language: str
    seed: int
    parameters: int
    share_kept: float
    """Of its own greedy answers."""
    share_kept_sampled: float
    """Of its own answers at temperature 1."""
    points: dict[str, list[Point]]
    """By arm."""
    wall_s: float
    base_cpu_s: float
    """Of training the base student, in whichever run that was."""
    arms_cpu_s: float
    """Of all that came after it."""
    loss: float
    """Of the last steps of the base's training, nats a token."""


Progress = Callable[[str, int, int], None]
"""Told an arm, and how much of it is done of how much."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A seed's file: the result, and the sizes that it was made with."""

    settings: ExperimentSettings
    result: SeedResult


class SeedFolder:
    """Keeps one file a language and seed.

    Args:
        folder: Made when the first seed is written.
        settings: Results of other sizes are refused.
    """

    def __init__(self, folder: Path, settings: ExperimentSettings) -> None:
        self._folder = folder
        # How many seeds there are changes none of them.
        self._settings = replace(settings, seeds=1)

    def read(self, language: str, seed: int) -> SeedResult | None:
        """A finished seed, or ``None``.

        Raises:
            ConfigError: The file is of other sizes, or cannot be read.
        """
        path = self._path(language, seed)
        if not path.exists():
            return None
        try:
            written = TypeAdapter(_Written).validate_json(path.read_bytes())
        except ValidationError as error:
            wrong = f"{path} is no result ({error.error_count()} errors): delete it"
            raise ConfigError(wrong) from None
        if written.settings != self._settings:
            raise ConfigError(f"{path} was made with other sizes: delete it, or give another --out")
        return written.result

    def write(self, result: SeedResult) -> None:
        """Keeps a finished seed."""
        import orjson

        self._folder.mkdir(parents=True, exist_ok=True)
        made = orjson.dumps(asdict(_Written(self._settings, result)), option=orjson.OPT_INDENT_2)
        path = self._path(result.language, result.seed)
        beside = path.with_suffix(".part")
        beside.write_bytes(made)
        beside.replace(path)

    def base(self, language: str, seed: int) -> Path:
        """Where the base student of a seed is kept."""
        return self._folder / f"{language}-{seed}-base"

    def _path(self, language: str, seed: int) -> Path:
        return self._folder / f"{language}-{seed}.json"
