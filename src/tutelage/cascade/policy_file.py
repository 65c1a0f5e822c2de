"""A policy on disk: what it decides by, what it was calibrated on, and what is certified of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from tutelage.cascade.certificate import Certificate, certificate_from_json
from tutelage.cascade.step_scores import StepScores
from tutelage.runtime.errors import ConfigError

FORMAT: Literal[1] = 1


class Conditions(BaseModel):
    """Under which a policy was calibrated; it holds for no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: str
    """Model and release of the student."""
    teacher: str
    """Model of the teacher, or the oracle that stood for it."""
    bank: str
    """Version of the demonstrations; empty: none are shown."""
    samples: int
    temperature: float
    draw: str
    greedy_first: bool
    rule: str
    """Agreement rule with its threshold."""
    form: str
    """Canonical form of actions."""
    guards: tuple[str, ...]
    prompt: str
    """Layout of the student's prompt."""
    routing: str
    """What is decided from the demonstrations alone, and when escalation sticks."""

    def differences(self, now: Conditions) -> list[str]:
        """What is different now, one phrase a field; empty if nothing is."""
        return [
            f"{name} was {before!r} and is {after!r}"
            for name, before in self
            if (after := getattr(now, name)) != before
        ]


class PolicyFile(BaseModel):
    """What ``tutelage calibrate`` writes and the policies ``calibrated`` and ``benefit`` read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    scores: dict[str, Any]
    """The scores as JSON values."""
    threshold: FiniteFloat
    """Least score that is served; above 1 nothing is certified."""
    floor: FiniteFloat = 0.0
    """Least prior with which the student is asked at all."""
    sure: FiniteFloat | None = None
    """Least prior with which one sample is drawn instead of all; absent: always all."""
    p_teacher: float = Field(1.0, ge=0, le=1)
    """P(the teacher's action is right) where the student was compared with it."""
    disagreement: float | None = Field(None, ge=0, le=1)
    """Share of served steps that the teacher would have taken otherwise, in labelled episodes."""
    certificate: dict[str, Any] | None = None
    """What is certified of the threshold; absent: nothing."""
    conditions: Conditions
    source: str
    """What the calibration episodes were."""
    created_at_s: float
    """Unix time."""

    def step_scores(self) -> StepScores:
        """The scores that it decides by.

        Raises:
            ConfigError: They cannot be read.
        """
        return StepScores.from_json(self.scores)

    def certified(self) -> Certificate | None:
        """The certificate, if there is one.

        Raises:
            ConfigError: It cannot be read.
        """
        return None if self.certificate is None else certificate_from_json(self.certificate)

    def check(self, now: Conditions, path: Path) -> None:
        """Refuses a policy that was calibrated for something else.

        Raises:
            ConfigError: A condition differs; all that do are named.
        """
        changed = self.conditions.differences(now)
        if changed:
            raise ConfigError(
                f"cascade.policy_file = {str(path)!r} was calibrated for something else: "
                f"{'; '.join(changed)}; run `tutelage calibrate` again"
            )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a policy file.

        Raises:
            ConfigError: It is missing or damaged, or written by a newer version.
        """
        try:
            file = cls.model_validate_json(path.read_bytes())
            file.step_scores()
            file.certified()
            return file
        except FileNotFoundError:
            raise ConfigError(
                f"cascade.policy_file = {str(path)!r} does not exist: run `tutelage calibrate`"
            ) from None
        except OSError as error:
            raise ConfigError(f"cascade.policy_file = {str(path)!r}: {error}") from None
        except ValidationError as error:
            raise ConfigError(f"cascade.policy_file = {str(path)!r} {_fault(error)}") from None
        except ConfigError as error:
            raise ConfigError(f"cascade.policy_file = {str(path)!r}: {error}") from None

    def write(self, path: Path) -> None:
        """Writes the file in one piece, so that a reader never sees half of it.

        Raises:
            ConfigError: It cannot be written.
        """
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error}") from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


def _fault(error: ValidationError) -> str:
    """What is wrong with a file, in a few words."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["loc"] == ("format",):
        return (
            f"has the format {first['input']!r}, and this version of tutelage reads {FORMAT}: "
            "upgrade tutelage, or run `tutelage calibrate` again"
        )
    place = "".join(f"{part}: " for part in first["loc"])
    return f"is no policy file: {place}{first['msg']}; run `tutelage calibrate` again"
