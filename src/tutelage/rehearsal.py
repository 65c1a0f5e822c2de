"""Configuration to benchmark runs: bank collection, replays, step accuracy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tutelage.acting import acting_student, configured_student, recall_model, static_retriever
from tutelage.assembly import Assembly, price
from tutelage.policies import Choice
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.models.remembered import RememberedModel
from tutelage.runtime.protocols import Model

if TYPE_CHECKING:
    from pydantic import JsonValue

    from tutelage.benchmarks.accuracy import AccuracyArm, ExpertStep, ScoreFile
    from tutelage.benchmarks.arms import Arm
    from tutelage.benchmarks.environment import Task
    from tutelage.benchmarks.episode import World
    from tutelage.benchmarks.manifest import RunSettings
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.replay import ReplaySummary
    from tutelage.benchmarks.worker import WorldProcess
    from tutelage.runtime.models.sample_file import SampleFile
    from tutelage.runtime.pipeline import Runtime
    from tutelage.runtime.types import Answer

TeacherKind = Literal["oracle", "model"]

STUDENT = "SmolLM2-135M-Instruct"


def teacher_kind(name: str) -> TeacherKind:
    """``oracle`` or ``model``.

    Raises:
        ConfigError: The name is neither.
    """
    if name == "oracle":
        return "oracle"
    if name == "model":
        return "model"
    raise ConfigError(f"--teacher {name!r} is unknown: oracle, or model for the configured one")


def _choice(arm: Arm, seed: int | None = None) -> Choice:
    return Choice(
        policy=arm.policy,
        guards=arm.guards,
        p_teacher=arm.p_teacher,
        seed=seed,
        options=arm.options,
        routed=arm.routed,
        labels=arm.labels,
        bare=True,
    )


@dataclass(frozen=True, slots=True)
class Play:
    """What is played, where, and within which limits."""

    world: str
    split: str
    out: Path
    """Folder of the results."""
    data: Path | None = None
    """Folder of the world's games, where it has files."""
    teacher: TeacherKind = "oracle"
    seeds: int = 1
    """Repeats of every task."""
    jobs: int = 2
    """Episodes at once, each in a world process of its own."""
    max_steps: int = 30
    max_usd: float | None = None
    samples: Path | None = None
    """File of the student's samples, so that arms share them; absent: each draws its own."""
    keep_teacher: bool = False
    """Whether greedy answers of a teacher that is a model are kept in that file, too."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection added to the bank."""

    summary: ReplaySummary
    added: int
    duplicates: int
    rejected: int
    demonstrations: int
    """Demonstrations of the tenant in the bank now."""


async def replay(
    assembly: Assembly,
    play: Play,
    arms: Sequence[Arm],
    watcher: Watcher,
    stop: asyncio.Event | None = None,
) -> ReplaySummary:
    """Plays arms x tasks x seeds; what the folder holds already is not played again.

    Raises:
        ConfigError: The configuration does not fit an arm.
        TutelageError: A part cannot be made, or an episode failed; finished ones are kept.
    """
    from tutelage.benchmarks.replay import Replay
    from tutelage.benchmarks.results_folder import open_results
    from tutelage.benchmarks.worlds import manner_of

    assembly.policies.agreement()
    for arm in arms:
        # What is wrong with the configuration shows before anything is played.
        assembly.policies.policy(_choice(arm))
    tasks = await split_tasks(play)
    static = await static_retriever(assembly, arms)
    bank_tenant = assembly.config.tenant

    with ExitStack() as stack:
        file = stack.enter_context(_sample_file(play))
        student = await configured_student(assembly, arms, file)

        def build_runtime(arm: Arm, teacher: Model, seed: int) -> Runtime:
            return assembly.runtime(
                teacher=teacher,
                student=acting_student(assembly, arm, student),
                retriever=static if arm.static else None,
                choice=_choice(arm, seed),
                demonstrations=arm.demonstrations and arm.student != "recall",
            )

        settings = await _settings(assembly, play, bank=any(arm.demonstrations for arm in arms))
        folder = stack.enter_context(open_results(play.out, settings, arms))
        return await Replay(
            folder=folder,
            arms=arms,
            tasks=tasks,
            seeds=range(play.seeds),
            world=_world_factory(play),
            build_teacher=_teacher_factory(assembly, play, file),
            build_runtime=build_runtime,
            jobs=play.jobs,
            max_usd=play.max_usd,
            tenant=bank_tenant,
            watcher=watcher,
            command=_command(assembly),
            manner=manner_of(play.world),
        ).run(stop)


async def collect(
    assembly: Assembly,
    play: Play,
    watcher: Watcher,
    stop: asyncio.Event | None = None,
    *,
    detours: float = 0.0,
) -> Collected:
    """Lets the teacher play, and keeps its successful episodes as demonstrations.

    Args:
        assembly: Bank and student.
        play: What is played; the folder makes it resumable.
        watcher: Told of finished episodes.
        stop: Once set, nothing new begins; what is finished is kept.
        detours: Chance in [0, 1] that the student, without demonstrations, takes a step: the
            teacher's next steps then show how to recover. The student's steps are never imitated.

    Raises:
        TutelageError: A part cannot be made, or an episode failed; finished ones are kept.
    """
    from tutelage.benchmarks.arms import Arm

    name = "teacher-with-detours" if detours else "teacher"
    policy = "random" if detours else "always-teacher"
    p_teacher = 1 - detours if detours else None
    arm = Arm(name, "teacher, for the bank", policy, p_teacher=p_teacher)
    summary = await replay(assembly, play, [arm], watcher, stop)
    return await _harvest(assembly, play, summary, mixed=detours > 0)


async def _harvest(
    assembly: Assembly, play: Play, summary: ReplaySummary, *, mixed: bool
) -> Collected:
    from tutelage.benchmarks.results import read_results
    from tutelage.retrieval.harvest import harvest

    tenant = assembly.config.tenant
    source = f"oracle:{play.world}" if play.teacher == "oracle" else _model_name(assembly)
    trajectories = []
    for result in read_results(play.out):
        if not result.success:
            continue
        episode = await assembly.traces.episode(tenant, result.episode_id)
        if episode is None:
            raise BenchmarkError(
                f"{play.out} names episode {result.episode_id}, which is not in "
                f"{_store(assembly)}: use the store it was played with, or another folder"
            )
        traces = await assembly.traces.traces(tenant, episode_id=episode.id, limit=1000)
        found = harvest(
            traces,
            episode,
            source=source,
            category=result.category,
            mixed=mixed,
            keep_recovery=mixed,
        )
        if found is not None:
            trajectories.append(found)
    admissions = await assembly.bank.add(trajectories)
    count = {outcome: 0 for outcome in ("added", "duplicate", "rejected")}
    for admission in admissions:
        count[admission.outcome] += 1
    demonstrations = await assembly.bank.size(tenant)
    return Collected(summary, count["added"], count["duplicate"], count["rejected"], demonstrations)


async def measure_accuracy(
    assembly: Assembly,
    folder: Path,
    scores: ScoreFile,
    *,
    names: Sequence[str],
    steps: int,
    seed: int = 0,
    jobs: int = 4,
    stop: asyncio.Event | None = None,
    progress: Callable[[str, int, int], None] = lambda arm, done, planned: None,
) -> None:
    """Asks student and demonstrations at states of the teacher's own episodes.

    Args:
        assembly: Bank and student.
        folder: Results in which the arm ``teacher`` was played, with this store.
        scores: Where the scores go; steps that are there are not asked again.
        names: Arms: ``student``, ``demos``, ``recall``.
        steps: Steps drawn at random of all the teacher's.
        seed: Seed of the draw.
        jobs: Steps asked at once.
        stop: Once set, nothing more is asked; what is scored is kept.
        progress: Told the arm, and how many of its steps are done.

    Raises:
        BenchmarkError: The folder holds no teacher episode, or an arm is unknown.
    """
    from tutelage.benchmarks.accuracy import drawn, score_step

    chosen = drawn(await _teacher_steps(assembly, folder), steps, seed)
    canonicalizer = assembly.policies.canonicalizer

    def canonical(text: str) -> str | None:
        from tutelage.runtime.types import Message

        action = canonicalizer.action(Message(role="assistant", content=text))
        return action.key if action else None

    for name in names:
        arm = await _accuracy_arm(assembly, name)
        missing = [step for step in chosen if not scores.has(name, step)]
        queue = iter(missing)

        async def work(arm: AccuracyArm, queue: Iterator[ExpertStep]) -> None:
            for step in queue:
                if stop is not None and stop.is_set():
                    return
                scores.append(await score_step(arm, step, canonical))
                progress(arm.name, sum(one.arm == arm.name for one in scores.scores), len(chosen))

        progress(name, len(chosen) - len(missing), len(chosen))
        await asyncio.gather(*(work(arm, queue) for _ in range(jobs)))


async def _accuracy_arm(assembly: Assembly, name: str) -> AccuracyArm:
    from tutelage.benchmarks.accuracy import AccuracyArm
    from tutelage.retrieval.recall import RecallModel
    from tutelage.runtime.models.scripted import ScriptedModel
    from tutelage.runtime.store.memory import MemoryTraceStore

    if name not in ("student", "demos", "recall"):
        raise ConfigError(f"accuracy arm {name!r} is unknown; known: student, demos, recall")
    recall = name == "recall"
    student = recall_model(assembly) if recall else await assembly.student()

    def asking(policy: str) -> Callable[[ExpertStep], Awaitable[Answer]]:
        async def ask(step: ExpertStep) -> Answer:
            asked = student
            if isinstance(asked, RecallModel):
                # The teacher may have played this very task for the bank.
                asked = replace(asked, task_id=step.task_id)
            runtime = assembly.runtime(
                # Stands in where the student names no action, so that the step counts as wrong.
                teacher=ScriptedModel(""),
                student=asked,
                choice=Choice(policy=policy, guards=(), bare=True),
                demonstrations=name == "demos",
                traces=MemoryTraceStore(),
            )
            episode = runtime.episode(
                goal=step.goal,
                tenant=assembly.config.tenant,
                task_id=step.task_id,
                id=f"accuracy-{name}-{step.episode_id}-{step.index}",
            )
            return await runtime.complete(step.request, episode=episode, force="student")

        return ask

    return AccuracyArm(name, asking("always-student"), None if recall else asking("paper"))


def _store(assembly: Assembly) -> str:
    """The database as an error names it, without its password."""
    from tutelage.runtime.store.database import redact

    return redact(assembly.config.store.url)


async def _teacher_steps(assembly: Assembly, folder: Path) -> list[ExpertStep]:
    from tutelage.benchmarks.accuracy import expert_steps
    from tutelage.benchmarks.results import read_results

    tenant = assembly.config.tenant
    played = [result for result in read_results(folder) if result.arm == "teacher"]
    traces = [
        trace
        for result in played
        for trace in await assembly.traces.traces(tenant, episode_id=result.episode_id, limit=1000)
    ]
    if not traces:
        raise BenchmarkError(
            f"no teacher episode of {folder} is in {_store(assembly)}: play some first, "
            "tutelage replay --arms teacher"
        )
    return expert_steps(traces, {result.episode_id: result.task_id for result in played})


def _command(assembly: Assembly) -> Callable[[str], str]:
    """The canonical command of an answer, so that what was agreed on is what is done."""
    from tutelage.runtime.types import Message

    canonicalizer = assembly.policies.canonicalizer

    def command(text: str) -> str:
        action = canonicalizer.action(Message(role="assistant", content=text))
        return action.key if action is not None else text.strip()

    return command


async def split_tasks(play: Play) -> Sequence[Task]:
    """The tasks of a split; ``train:200-500`` leaves out the first 200 of ``train:500``.

    Raises:
        BenchmarkError: There is no such split.
    """
    name, _, size = play.split.partition(":")
    first, dash, last = size.partition("-")
    if dash and not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise BenchmarkError(f"split {play.split!r}: write a part of it like '{name}:200-500'")
    world = _world_factory(play)()
    try:
        if not dash:
            return await world.tasks(play.split)
        return (await world.tasks(f"{name}:{last}"))[int(first) :]
    finally:
        await world.aclose()


def _world_factory(play: Play) -> Callable[[], WorldProcess]:
    from tutelage.benchmarks.worker import WorldProcess

    return lambda: WorldProcess(play.world, data=play.data)


@contextmanager
def _sample_file(play: Play) -> Iterator[SampleFile | None]:
    if play.samples is None:
        yield None
        return
    from tutelage.runtime.models.sample_file import SampleFile

    with closing(SampleFile(play.samples)) as file:
        yield file


def _teacher_factory(
    assembly: Assembly, play: Play, file: SampleFile | None
) -> Callable[[World], Model]:
    if play.teacher == "model":
        teacher: Model = assembly.teacher()
        if file is not None and play.keep_teacher:
            teacher = RememberedModel(teacher, _model_name(assembly), file, greedy_only=True)
        return lambda world: teacher
    from tutelage.benchmarks.oracle_teacher import OracleTeacher
    from tutelage.runtime.prefix_cache import PrefixCacheMeter

    return lambda world: OracleTeacher(
        world, count_tokens=assembly.count_tokens, meter=PrefixCacheMeter()
    )


async def _settings(assembly: Assembly, play: Play, *, bank: bool) -> RunSettings:
    from tutelage.benchmarks.manifest import RunSettings
    from tutelage.benchmarks.oracles import oracle_of
    from tutelage.benchmarks.worlds import manner_of

    config = assembly.config
    prices = (price(config.teacher, "teacher"), price(config.student, "student"))
    dates = [one.as_of for one in prices if one.as_of is not None]
    trajectories = await assembly.bank.trajectories(config.tenant) if bank else ()
    more: dict[str, JsonValue] = {
        "retrieval": config.retrieval.model_dump(mode="json") if bank else None,
        "prompt": config.prompt.model_dump(mode="json"),
        "cascade": config.cascade.model_dump(mode="json"),
        "bank": await assembly.bank.version(config.tenant) if bank else None,
    }
    return RunSettings(
        world=play.world,
        # Without its size, so that a run can be widened.
        split=play.split.partition(":")[0],
        teacher=oracle_of(play.world) if play.teacher == "oracle" else _model_name(assembly),
        teacher_kind=play.teacher,
        student=_student_name(assembly),
        teacher_priced_as=config.teacher.priced_as or config.teacher.model or "given prices",
        student_priced_as=config.student.priced_as or config.student.model or "given prices",
        prices_date=min(dates).isoformat() if dates else "unknown",
        max_steps=play.max_steps,
        max_tokens=manner_of(play.world).max_tokens,
        bank_episodes=len(trajectories),
        more=more,
    )


def _model_name(assembly: Assembly) -> str:
    return assembly.config.teacher.model or "teacher"


def _student_name(assembly: Assembly) -> str:
    student = assembly.config.student
    if student.base_url is not None:
        # Without the address, so that a run goes on with a server that was started anew.
        return student.model or "student"
    return f"{Path(student.checkpoint).name if student.checkpoint else STUDENT} in this process"
