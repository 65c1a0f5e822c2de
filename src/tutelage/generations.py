"""Generations of a student in a world: traffic, training, and the same held-out tasks each time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.assembly import open_assembly
from tutelage.evaluating import student_from
from tutelage.rehearsal import Play, collect, replay, split_tasks
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.benchmarks.arms import Arm
    from tutelage.benchmarks.progress import Watcher
    from tutelage.loop import Listeners

STORE = "traffic.sqlite"
HELD_OUT = "held-out"
SHOWN = "demonstrated"
Serve = Callable[[Config, Path], AbstractAsyncContextManager[Config]]
"""Serves a checkpoint; gives the configuration with that student."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played and learnt."""

    play: Play
    """World, held-out split, folder and limits."""
    traffic: str = "train"
    """Split that traffic comes from; each generation has tasks of its own."""
    tasks: int = 150
    """Tasks of traffic a generation."""
    generations: int = 3
    demonstrations: bool = True
    """Whether the last student, and the one to start from, also play with the demonstrations of all
    traffic."""

    def __post_init__(self) -> None:
        for name in ("tasks", "generations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: give at least 1")


@dataclass(frozen=True, slots=True)
class Row:
    """An arm of a generation on the held-out tasks."""

    generation: int
    """0: not trained."""
    arm: str
    episodes: int
    solved: int
    low: float
    """Of the share solved, 95 % by Wilson."""
    high: float
    teacher_share: float
    """Of all steps, in [0, 1]."""
    steps: float
    """Mean of an episode."""
    solved_usd: float | None
    """A solved task, with prompt caches; ``None`` if none was solved."""
    uncached_solved_usd: float | None


def alone() -> Arm:
    """The student without teacher and demonstrations."""
    from tutelage.benchmarks.arms import ARMS

    return ARMS["student"]


def handed_over(of: str, *, demonstrations: bool) -> Arm:
    """Steps of the teacher by chance, at the share that an arm had."""
    from tutelage.benchmarks.arms import ARMS

    mixed = ARMS["random-mix"]
    return replace(mixed, name=f"random-{of}", mix_of=of, demonstrations=demonstrations)


def arms_of(generation: int, plan: Plan) -> tuple[Arm, ...]:
    """Who plays the held-out tasks after a generation; 0 has learnt nothing yet."""
    from tutelage.benchmarks.arms import ARMS

    if generation == 0:
        return (ARMS["teacher"], ARMS["cascade"])
    weights = (alone(), ARMS["cascade"], handed_over("cascade", demonstrations=False))
    is_last = plan.demonstrations and generation == plan.generations
    return (*weights, *((ARMS["demos-cascade"],) if is_last else ()))


def _shown() -> tuple[Arm, ...]:
    """Who plays with demonstrations and without training."""
    from tutelage.benchmarks.arms import ARMS

    return (ARMS["demos-cascade"],)


async def run_generations(
    config: Config,
    plan: Plan,
    watcher: Watcher,
    listeners: Listeners,
    stop: asyncio.Event,
    say: Callable[[str], None] = lambda line: None,
    serve: Serve = student_from,
) -> list[Row] | None:
    """Plays, learns and plays again; run again with the same folder, it goes on where it was.

    The first generation learns from the teacher's own episodes, each later one from all traffic so
    far: what the cascade with the student before it did on new tasks. Traffic has a database of
    its own in the folder; held-out tasks are played on copies of it, so that nothing of them is
    ever learnt.

    Args:
        config: Prices, prompt, cascade and training; the student is the one to start from.
        plan: What is played.
        watcher: Told of episodes.
        listeners: Told of training.
        stop: Once set, nothing new begins.
        say: Told what is done.
        serve: Serves a student while it plays.

    Returns:
        The rows of all generations; ``None`` where it was stopped.

    Raises:
        ConfigError: The splits overlap.
        TutelageError: A part failed; what is finished is kept.
    """
    await _check_apart(plan)
    out = plan.play.out
    await asyncio.to_thread(lambda: out.mkdir(parents=True, exist_ok=True))
    config = _settings(config, plan)
    async with AsyncExitStack() as serving:
        first = _first(config)
        current = await serving.enter_async_context(serve(config, first))
        for generation in range(plan.generations + 1):
            if generation:
                say(f"generation {generation}: traffic")
                if not await _traffic(current, plan, generation, watcher, stop):
                    return None
                # Its cores are for training now.
                await serving.aclose()
                say(f"generation {generation}: training")
                checkpoint = await _trained(config, plan, generation, listeners, stop)
                if checkpoint is None:
                    return None
                current = await serving.enter_async_context(serve(config, checkpoint))
                config = _from(config, checkpoint)
            say(f"generation {generation}: held-out tasks")
            arms = arms_of(generation, plan)
            if not await _evaluated(current, plan, generation, arms, watcher, stop):
                return None
        if plan.demonstrations:
            await serving.aclose()
            say("demonstrations alone: held-out tasks")
            current = await serving.enter_async_context(serve(config, first))
            if not await _evaluated(current, plan, 0, _shown(), watcher, stop, SHOWN):
                return None
    return await asyncio.to_thread(rows, plan)


def rows(plan: Plan) -> list[Row]:
    """What was played on the held-out tasks, by generation and arm."""
    from tutelage.benchmarks.economics import cost
    from tutelage.benchmarks.results import read_results, teacher_share
    from tutelage.benchmarks.statistics import wilson_interval

    found = []
    for generation in range(plan.generations + 1):
        folder = _folder(plan, generation)
        results = [*read_results(folder / HELD_OUT), *read_results(folder / SHOWN)]
        for arm in dict.fromkeys(one.arm for one in results):
            mine = [one for one in results if one.arm == arm]
            solved = sum(one.success for one in mine)
            between = wilson_interval(solved, len(mine))
            found.append(
                Row(
                    generation=generation,
                    arm=arm,
                    episodes=len(mine),
                    solved=solved,
                    low=between.low,
                    high=between.high,
                    teacher_share=teacher_share(mine) or 0.0,
                    steps=sum(one.steps for one in mine) / len(mine),
                    solved_usd=cost(mine, "cached").solved_usd,
                    uncached_solved_usd=cost(mine, "uncached").solved_usd,
                )
            )
    return found


async def _traffic(
    config: Config, plan: Plan, generation: int, watcher: Watcher, stop: asyncio.Event
) -> bool:
    """Whether all tasks of the generation were played; successes become demonstrations."""
    from tutelage.benchmarks.arms import ARMS

    first = (generation - 1) * plan.tasks
    split = f"{plan.traffic}:{first}-{first + plan.tasks}"
    play = replace(plan.play, split=split, out=_folder(plan, generation) / "traffic", seeds=1)
    async with open_assembly(_stored(config, plan.play.out / STORE)) as assembly:
        if generation == 1:
            summary = (await collect(assembly, play, watcher, stop)).summary
        else:
            summary = await replay(assembly, play, [ARMS["cascade"]], watcher, stop)
    return summary.stopped == "finished"


async def _trained(
    config: Config, plan: Plan, generation: int, listeners: Listeners, stop: asyncio.Event
) -> Path | None:
    """The student's new weights; ``None`` where it was stopped, after a checkpoint."""
    from tutelage.learning import LearningStages
    from tutelage.loop import train_once

    folder = _folder(plan, generation) / "training"
    named = {"student": config.releases.student or "student"}
    config = config.model_copy(update={"releases": config.releases.model_copy(update=named)})
    async with open_assembly(_stored(config, plan.play.out / STORE)) as assembly:
        stages = LearningStages(assembly, config.tenant, watch=listeners.training).stages
        told = listeners.stage or (lambda stage, text: None)
        learning = asyncio.create_task(
            train_once(assembly, config.tenant, folder, told, learning=stages)
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({learning, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not learning.done():
            learning.cancel()
            await asyncio.wait({learning})
            return None
        return Path(str(learning.result()["checkpoint"]))


async def _evaluated(
    config: Config,
    plan: Plan,
    generation: int,
    arms: Sequence[Arm],
    watcher: Watcher,
    stop: asyncio.Event,
    name: str = HELD_OUT,
) -> bool:
    folder = _folder(plan, generation)
    store, copy = plan.play.out / STORE, folder / f"{name}.sqlite"
    await asyncio.to_thread(_copied, store, copy)
    play = replace(plan.play, out=folder / name)
    async with open_assembly(_stored(config, copy)) as assembly:
        summary = await replay(assembly, play, arms, watcher, stop)
    return summary.stopped == "finished"


def _copied(store: Path, copy: Path) -> None:
    """Once: traces of held-out tasks that are in the copy already must not be lost."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    if store.is_file() and not copy.is_file():
        part = copy.with_suffix(".part")
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(store)) as found, closing(sqlite3.connect(part)) as made:
            found.backup(made)
        part.replace(copy)


def _folder(plan: Plan, generation: int) -> Path:
    return plan.play.out / f"generation-{generation}"


def _stored(config: Config, file: Path) -> Config:
    url = f"sqlite:///{file.resolve()}"
    return config.model_copy(update={"store": config.store.model_copy(update={"url": url})})


def _first(config: Config) -> Path:
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.checkpoint import student_checkpoint

    chosen = config.training.checkpoint or config.student.checkpoint
    return Path(chosen) if chosen else student_checkpoint(cache_dir())


def _from(config: Config, checkpoint: Path) -> Config:
    """The configuration in which training starts from a checkpoint."""
    training = config.training.model_copy(update={"checkpoint": str(checkpoint)})
    return config.model_copy(update={"training": training})


def _settings(config: Config, plan: Plan) -> Config:
    """Held-out tasks are named to the gate; whole chats are learnt and shown."""
    name, _, _ = plan.play.split.partition(":")
    changes: dict[str, Any] = {
        "flywheel": {"min_new_traces": 1, "world": plan.play.world, "split": name},
        "training": {"shape": "trajectories", "held_out": 0.01, "start": "base"},
        "prompt": {"history_turns": "all"},
    }
    sections = {
        section: getattr(config, section).model_copy(update=values)
        for section, values in changes.items()
    }
    return config.model_copy(update=sections)


async def _check_apart(plan: Plan) -> None:
    """Traffic and held-out tasks share none, and there are enough of both.

    Raises:
        ConfigError: They do.
    """
    needed = plan.generations * plan.tasks
    traffic = await split_tasks(replace(plan.play, split=f"{plan.traffic}:{needed}"))
    if len(traffic) < needed:
        raise ConfigError(
            f"{plan.traffic} has {len(traffic)} tasks, and {plan.generations} generations of "
            f"{plan.tasks} need {needed}: lower --tasks or --generations"
        )
    held_out = {task.id for task in await split_tasks(plan.play)}
    if shared := held_out & {task.id for task in traffic}:
        raise ConfigError(
            f"{len(shared)} tasks are both in {plan.traffic} and in {plan.play.split}, such as "
            f"{min(shared)!r}: name other splits"
        )
