"""A masked-diffusion student as an agent: trained on expert steps, played beside a causal one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.assembly import Assembly, open_assembly
from tutelage.overhead.drafted_calls import tree_cpu_s
from tutelage.overhead.episodes import requests
from tutelage.overhead.noted_prompts import noted_prompts
from tutelage.runtime.config import Config
from tutelage.runtime.errors import BenchmarkError, NoExamples
from tutelage.runtime.models.draft_counters import read_draft_counters
from tutelage.runtime.models.vllm import VllmServer

if TYPE_CHECKING:
    from tutelage.benchmarks.arms import Arm
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.results import EpisodeResult
    from tutelage.rehearsal import Play
    from tutelage.training.recipes.recipe import Watch

COLUMNS = (
    "student",
    "games won",
    "teacher's share of steps",
    "forwards a step",
    "tokens a forward",
    "ms a step",
    "CPU ms a step",
)


@dataclass(frozen=True, slots=True)
class AgentStep:
    """What a student is sent at a step of the expert's, and what the expert did."""

    episode: str
    messages: tuple[dict[str, str], ...]
    action: str


async def expert_steps(assembly: Assembly, instructions: str) -> list[AgentStep]:
    """Every step of the bank's trajectories, as a cascade without demonstrations shows it.

    Args:
        assembly: Bank, and layout of the prompt.
        instructions: The world's system message.

    Raises:
        NoExamples: The bank is empty.
    """
    tenant = assembly.config.tenant
    known = await assembly.bank.trajectories(tenant)
    if not known:
        raise NoExamples(
            f"the bank of {tenant} is empty: `tutelage collect` lets the teacher play some episodes"
        )
    asked = [(one.task_id, list(requests(one, instructions))) for one in known]
    prompts = iter(await noted_prompts(assembly, tenant, asked, demonstrations=False))
    found = []
    for one in known:
        for turn in one.turns:
            messages = tuple(
                {"role": message.role, "content": message.text}
                for message in next(prompts).messages
                # The student knows no other task than these.
                if message.role != "system"
            )
            found.append(AgentStep(one.id, messages, turn.action))
    return found


@dataclass(frozen=True, slots=True)
class AgentTraining:
    """How a student is made of expert steps, from scratch."""

    steps: int = 2000
    distil_steps: int = 200
    """Of certainty forcing on its own right answers; 0: none."""
    distilled: int = 512
    """Expert steps that it answers for that."""
    batch: int = 16
    learning_rate: float = 2e-3
    width: int = 96
    layers: int = 3
    max_positions: int = 640
    held_out: float = 0.05
    """Share of the episodes, the newest, whose steps it is graded on."""


def train_agent(
    steps: Sequence[AgentStep], out: Path, training: AgentTraining, watch: Watch | None = None
) -> dict[str, Any]:
    """Trains, distils, grades and saves a student; the grades as JSON values.

    Args:
        steps: Of the expert's, episode by episode.
        out: Folder of the student.
        training: How.
        watch: Called after each optimizer step.

    Raises:
        NoExamples: There are too few steps, or no own answer was right.
        TrainingError: The loss is no number any more.
    """
    from tutelage.training.diffusion.commit_rule import CommitRule, EntropyThreshold, TopK
    from tutelage.training.diffusion.lessons import Lesson, distil, graded, scratch_student, teach
    from tutelage.training.diffusion.trainer import DiffusionTraining

    episodes = list(dict.fromkeys(one.episode for one in steps))
    kept = max(1, round(training.held_out * len(episodes)))
    held = set(episodes[-kept:]) if len(episodes) > kept else set()
    learnt = [Lesson(one.messages, one.action) for one in steps if one.episode not in held]
    asked = [Lesson(one.messages, one.action) for one in steps if one.episode in held]
    if not learnt or not asked:
        raise NoExamples(f"{len(episodes)} episodes are too few to train on and to grade with")
    student = scratch_student(
        learnt,
        width=training.width,
        layers=training.layers,
        max_positions=training.max_positions,
    )

    def optimizer(count: int, rate: float) -> DiffusionTraining:
        return DiffusionTraining(steps=count, batch=training.batch, learning_rate=rate)

    def grades() -> dict[str, Any]:
        rules: dict[str, CommitRule] = {"one-token": TopK(1), "entropy 0.5": EntropyThreshold(0.5)}
        return {name: asdict(graded(student, asked, rule)) for name, rule in rules.items()}

    losses = teach(student, learnt, optimizer(training.steps, training.learning_rate), watch)
    told: dict[str, Any] = {
        "weights": student.model.parameter_count(),
        "episodes": len(episodes),
        "lessons": len(learnt),
        "last_loss": losses[-1],
        "taught": grades(),
    }
    if training.distil_steps:
        share = distil(
            student,
            learnt[:: max(1, len(learnt) // training.distilled)],
            optimizer(training.distil_steps, training.learning_rate / 4),
            watch=watch,
        )
        told |= {"own_right": share, "distilled": grades()}
    student.save(out)
    return told


@dataclass(frozen=True, slots=True)
class Standing:
    """How a student did over the games."""

    student: str
    results: tuple[EpisodeResult, ...]
    forwards: int
    """Passes of the model; those of a batch count once."""
    tokens: int
    """That all samples have."""
    sample_forwards: int | None
    """Passes that each sample took part in, summed; ``None`` where the server does not tell."""
    cpu_s: float | None

    @property
    def steps(self) -> int:
        """Of all games."""
        return sum(one.steps for one in self.results)

    @property
    def won(self) -> int:
        """Games."""
        return sum(one.success for one in self.results)

    @property
    def student_s(self) -> float:
        """Wall seconds of the student's calls."""
        return sum(one.latency_s.get("student", 0.0) for one in self.results)

    def document(self) -> Mapping[str, Any]:
        """The figures as JSON values."""
        steps = max(1, self.steps)
        passes = self.sample_forwards
        return {
            "student": self.student,
            "games": len(self.results),
            "won": self.won,
            "steps": self.steps,
            "teacher_steps": sum(one.teacher_steps for one in self.results),
            "refused_steps": sum(one.refused_steps.get("student", 0) for one in self.results),
            "forwards_a_step": self.forwards / steps,
            "tokens_a_forward": self.tokens / (passes or self.forwards or 1),
            "ms_a_step": 1000 * self.student_s / steps,
            "cpu_ms_a_step": None if self.cpu_s is None else 1000 * self.cpu_s / steps,
        }


async def play_student(
    name: str,
    config: Config,
    play: Play,
    arm: Arm,
    base_url: str,
    model: str,
    pid: int | None,
    watcher: Watcher,
) -> Standing:
    """Plays the games of ``play`` in the cascade of ``arm`` with the student of a server.

    Args:
        name: Of the student.
        config: Bank, cascade and teacher.
        play: Games; its folder must be new, so that every game is counted.
        arm: Who decides, and whether demonstrations are shown.
        base_url: The server's, which nobody else uses meanwhile.
        model: Its name there.
        pid: The server's first process.
        watcher: Told of finished games.

    Raises:
        BenchmarkError: The folder holds games already, or a game failed.
        ModelError: The server does not answer.
    """
    from tutelage.benchmarks.results import read_results
    from tutelage.rehearsal import replay

    if read_results(play.out):
        raise BenchmarkError(f"{play.out} holds games already: name a new folder")
    student = config.student.model_copy(update={"base_url": base_url, "model": model})
    before, spent_s = await _counts(base_url), tree_cpu_s(pid)
    async with open_assembly(config.model_copy(update={"student": student})) as assembly:
        await replay(assembly, play, [arm], watcher)
    after, ended_s = await _counts(base_url), tree_cpu_s(pid)
    return Standing(
        name,
        tuple(read_results(play.out)),
        after["forwards"] - before["forwards"],
        after["tokens"] - before["tokens"],
        after["sample_forwards"] - before["sample_forwards"] or None,
        None if spent_s is None or ended_s is None else ended_s - spent_s,
    )


_DIFFUSION = {
    "tutelage_diffusion_passes_total": "forwards",
    "tutelage_diffusion_generation_tokens_total": "tokens",
    "tutelage_diffusion_forwards_total": "sample_forwards",
}


async def _counts(base_url: str) -> dict[str, int]:
    """Forwards and tokens of either kind of server."""
    from urllib.request import ProxyHandler, build_opener

    counted = await read_draft_counters(base_url)
    found = {"forwards": counted.forwards, "tokens": counted.generated_tokens, "sample_forwards": 0}
    direct = build_opener(ProxyHandler({}))

    def page() -> str:
        with direct.open(base_url.removesuffix("/v1") + "/metrics", timeout=10.0) as answer:
            return str(answer.read().decode())

    for line in (await asyncio.to_thread(page)).splitlines():
        series, _, value = line.rpartition(" ")
        name = _DIFFUSION.get(series)
        if name is not None:
            found[name] += int(float(value))
    return found


def rows(standings: Sequence[Standing]) -> list[list[str]]:
    """The table, a row a student."""
    found = []
    for one in standings:
        told = one.document()
        cpu_ms = told["cpu_ms_a_step"]
        found.append(
            [
                one.student,
                f"{one.won} of {told['games']}",
                f"{told['teacher_steps'] / max(1, one.steps):.2f} of {one.steps}",
                f"{told['forwards_a_step']:.1f}",
                f"{told['tokens_a_forward']:.2f}",
                f"{told['ms_a_step']:.0f}",
                "-" if cpu_ms is None else f"{cpu_ms:.0f}",
            ]
        )
    return found


async def play_served(
    name: str,
    config: Config,
    play: Play,
    arm: Arm,
    server: VllmServer,
    watcher: Watcher,
) -> Standing:
    """As ``play_student``, with a server that lives as long as the games."""
    async with server:
        return await play_student(
            name, config, play, arm, server.base_url, server.served_name, server.pid, watcher
        )
