"""What a replay leaves on disk: one line an episode in ``results.jsonl``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tutelage.runtime.errors import BenchmarkError
from tutelage.runtime.types import Reason, Served, Usage

EpisodeKey = tuple[str, str, int]
"""Arm, task id, seed."""

RESULTS_FILE = "results.jsonl"


class EpisodeResult(BaseModel):
    """One finished episode of a replay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    task_id: str
    category: str
    seed: int
    episode_id: str
    """Where the store keeps the traces of the episode."""
    success: bool
    steps: int
    teacher_steps: int
    student_steps: int
    expert_steps: int = 0
    """Teacher steps that an oracle found by searching as an agent would."""
    planner_steps: int = 0
    """Teacher steps that an oracle computed from the hidden state."""
    refused_steps: dict[Served, int] = Field(default_factory=dict)
    """Actions that the world did not accept, by who chose them."""
    reasons: dict[str, int] = Field(default_factory=dict)
    """Steps by reason of their decision."""
    demonstrations: int = 0
    """Demonstrations shown to the student, all steps together."""
    usage: dict[Served, Usage] = Field(default_factory=dict)
    """Tokens by component, losing samples included."""
    prompt_parts: dict[str, int] = Field(default_factory=dict)
    """Tokens of the student's prompts by part, as they were assembled; empty in older results."""
    cost_usd: dict[Served, float] = Field(default_factory=dict)
    """Cost by component with cached tokens at their own price."""
    uncached_cost_usd: dict[Served, float] = Field(default_factory=dict)
    """The same tokens with every prompt token at the full input price."""
    latency_s: dict[str, float] = Field(default_factory=dict)
    """Seconds by hop of the runtime, all steps together; ``world`` is the time in the world."""
    wall_s: float
    """Seconds from reset to the last outcome, whatever else ran on the machine."""
    finished_at_s: float
    """Unix time."""
    run: str
    """Fingerprint of the settings and of the arm that the episode was played with."""

    @property
    def key(self) -> EpisodeKey:
        """What must be unique in a results folder."""
        return (self.arm, self.task_id, self.seed)

    @property
    def total_cost_usd(self) -> float:
        """Cost of all components, cached tokens at their own price."""
        return sum(self.cost_usd.values())

    @property
    def total_uncached_cost_usd(self) -> float:
        """Cost of all components, every prompt token at the full input price."""
        return sum(self.uncached_cost_usd.values())

    def line(self) -> bytes:
        """The result as one line of ``results.jsonl``."""
        return self.model_dump_json().encode() + b"\n"


def whole_lines(content: bytes) -> bytes:
    """The lines that were written to their end; a kill may leave a torn last one."""
    return content[: content.rfind(b"\n") + 1]


def parse_results(content: bytes, source: str) -> list[EpisodeResult]:
    """Reads whole lines of a results file.

    Raises:
        BenchmarkError: A line is not an episode, or an episode stands there twice.
    """
    found: dict[EpisodeKey, EpisodeResult] = {}
    # Not splitlines: JSON may hold U+2028 and such unescaped.
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            result = EpisodeResult.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "line"
            raise BenchmarkError(
                f"{source}, line {number}: not an episode result ({where}: {first['msg']}); "
                "remove that line or use another folder"
            ) from error
        if result.key in found:
            arm, task_id, seed = result.key
            raise BenchmarkError(
                f"{source}, line {number}: arm {arm}, task {task_id}, seed {seed} is there twice; "
                "remove one of the lines"
            )
        found[result.key] = result
    return list(found.values())


def read_results(folder: Path) -> list[EpisodeResult]:
    """The finished episodes of a folder, also while a replay still writes there; may be empty.

    Raises:
        BenchmarkError: The file cannot be read or holds something else.
    """
    path = folder / RESULTS_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read: {error.strerror}") from error
    return parse_results(whole_lines(content), str(path))


def deferral_share(results: Iterable[EpisodeResult]) -> float | None:
    """Share of the policy's own decisions that went to the teacher, in [0, 1].

    Steps that a guard took before the policy was asked do not count; one that a guard took from
    the student counts as the policy decided it. So a random policy with this chance and the same
    guards hands over as often. ``None`` without a decision.
    """
    reasons: Counter[str] = Counter()
    for result in results:
        reasons.update(result.reasons)
    deferred = reasons[Reason.DISAGREED] + reasons[Reason.UNUSABLE]
    kept = reasons[Reason.AGREED] + reasons[Reason.LOOP]
    return deferred / (deferred + kept) if deferred + kept else None


def teacher_share(results: Iterable[EpisodeResult]) -> float | None:
    """Share of steps that the teacher took, in [0, 1]; ``None`` without a step."""
    listed: Sequence[EpisodeResult] = list(results)
    steps = sum(result.steps for result in listed)
    return sum(result.teacher_steps for result in listed) / steps if steps else None
