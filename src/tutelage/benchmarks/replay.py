"""Episodes to results: arms x tasks x seeds, in parallel, resumable after a stop or a kill."""

from __future__ import annotations

import asyncio
import re
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from tutelage.benchmarks.arms import Arm
from tutelage.benchmarks.budget import Budget, BudgetSpent
from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.episode import (
    EpisodePlay,
    EpisodeRuntime,
    World,
    clean_action,
    episode_seed,
)
from tutelage.benchmarks.manner import Manner
from tutelage.benchmarks.progress import Unwatched, Watcher
from tutelage.benchmarks.results import EpisodeKey, EpisodeResult, deferral_share
from tutelage.benchmarks.results_folder import ResultsFolder
from tutelage.runtime.errors import BenchmarkError, ConfigError, TutelageError
from tutelage.runtime.protocols import Model

Stopped = Literal["finished", "interrupted", "budget"]
INTERRUPTED_EXIT_CODE = 130
_REPLAYED_ID = re.compile(r".+-[0-9a-f]{32}", re.ASCII)


class RuntimeBuilder(Protocol):
    """Joins the parts of an arm; called once an episode."""

    def __call__(self, arm: Arm, teacher: Model, seed: int) -> EpisodeRuntime:
        """A runtime that plays as the arm says.

        Args:
            arm: Policy, demonstrations, guards, student; ``p_teacher`` is set where it mixes.
            teacher: The teacher of this episode.
            seed: Seeds what is random in the policy; equal for all arms of a task and seed.
        """
        ...


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """How a replay ended."""

    stopped: Stopped
    done: int
    """Episodes of the plan that are on disk."""
    planned: int
    spent_usd: float
    """Cost of everything played into the folder so far."""
    max_usd: float | None

    @property
    def exit_code(self) -> int:
        """What a command that replays should exit with."""
        return INTERRUPTED_EXIT_CODE if self.stopped == "interrupted" else 0

    def line(self, resume: str) -> str:
        """One line for a person; ``resume`` is the command that goes on."""
        share = f"{self.done} of {self.planned} episodes done, ${self.spent_usd:.4f} spent"
        if self.stopped == "interrupted":
            return f"interrupted: {share}; go on with: {resume}"
        if self.stopped == "budget":
            cap = f"the cap of ${self.max_usd:g} is reached"
            return f"{cap}: {share}; raise it to go on: {resume}"
        return f"finished: {share}"


@dataclass(frozen=True, slots=True)
class Replay:
    """Plays arms x tasks x seeds into a results folder; episodes that are there are not repeated.

    Args:
        folder: Where the results go; its settings limit the episodes.
        arms: Who plays.
        tasks: What is played.
        seeds: One repeat of every task for each.
        world: Starts a world in a process of its own.
        build_teacher: The teacher for a world: its oracle, or a model that ignores the world.
        build_runtime: Joins the parts of an arm.
        jobs: Episodes played at once, each in a world of its own.
        max_usd: Cap on the dollars of the folder, those of earlier runs included.
        tenant: Whose demonstrations are retrieved.
        watcher: Told of plans and finished episodes.
        command: The command that an answer names, as the world gets it.
        manner: How the world is played.
        clock: Unix time in seconds.
        timer: A monotonic clock in seconds.

    Raises:
        ConfigError: There is nothing to play, or no job to play it.
    """

    folder: ResultsFolder
    arms: Sequence[Arm]
    tasks: Sequence[Task]
    seeds: Sequence[int]
    world: Callable[[], World]
    build_teacher: Callable[[World], Model]
    build_runtime: RuntimeBuilder
    jobs: int = 1
    max_usd: float | None = None
    tenant: str = "default"
    watcher: Watcher = field(default_factory=Unwatched)
    command: Callable[[str], str] = clean_action
    manner: Manner = field(default_factory=Manner)
    clock: Callable[[], float] = time.time
    timer: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        for name, values in (("arms", self.arms), ("tasks", self.tasks), ("seeds", self.seeds)):
            if not values:
                raise ConfigError(f"{name} is empty: there is nothing to play")
        if self.jobs < 1:
            raise ConfigError(f"jobs = {self.jobs} must be at least 1")

    async def run(self, stop: asyncio.Event | None = None) -> ReplaySummary:
        """Plays what is missing.

        Args:
            stop: Once set, episodes in play are cut off and nothing new begins.

        Raises:
            ConfigError: An arm mixes at the deferral share of an arm that is not played.
            BenchmarkError: An episode failed, e.g. by a dead teacher; finished ones are kept.
        """
        stop = stop or asyncio.Event()
        budget = Budget(self.max_usd, self.folder.spent_usd)
        stages = self._stages()
        planned = self._planned(self.arms)
        for arm in self.arms:
            keys = self._planned([arm])
            done = [result for result in self.folder.results if result.key in keys]
            self.watcher.planned(arm, len(keys), done)
        worlds: list[World] = []
        try:
            for stage in stages:
                # A share must be measured on all episodes of its arm, so nothing is begun half-way.
                if stop.is_set() or budget.exhausted:
                    break
                arms = tuple(self._resolved(arm) for arm in stage)
                await self._play_stage(arms, worlds, budget, stop)
        finally:
            # Ends every world, also when another one fails to end.
            async with AsyncExitStack() as closing:
                for world in worlds:
                    closing.push_async_callback(world.aclose)
                abandoned_usd = budget.spent_usd - self.folder.spent_usd
                # Sums in another order differ in their last digits.
                if abandoned_usd > 1e-9:
                    self.folder.add_abandoned(abandoned_usd)
        done_now = sum(key in self.folder for key in planned)
        stopped: Stopped = "finished"
        if done_now < len(planned):
            stopped = "interrupted" if stop.is_set() else "budget"
        return ReplaySummary(stopped, done_now, len(planned), budget.spent_usd, self.max_usd)

    def _planned(self, arms: Sequence[Arm]) -> dict[EpisodeKey, tuple[Arm, Task, int]]:
        """Task by task, so that a run that is cut short has paired episodes in all arms."""
        return {
            (arm.name, task.id, seed): (arm, task, seed)
            for task in self.tasks
            for seed in self.seeds
            for arm in arms
        }

    def _stages(self) -> tuple[tuple[Arm, ...], ...]:
        """Arms that mix at another's measured deferral share come after it."""
        played = {arm.name for arm in self.arms} | {result.arm for result in self.folder.results}
        first, second = [], []
        for arm in self.arms:
            if arm.mix_of is None or arm.name in self.folder.manifest.mix:
                first.append(arm)
            elif arm.mix_of in played:
                second.append(arm)
            else:
                raise ConfigError(
                    f"arm {arm.name} mixes at the deferral share of {arm.mix_of}, which is not "
                    f"played: add {arm.mix_of} to the arms"
                )
        return (tuple(first), tuple(second))

    def _resolved(self, arm: Arm) -> Arm:
        """The arm with its measured chance of the teacher, where it has one."""
        if arm.mix_of is None:
            return arm
        if arm.name not in self.folder.manifest.mix:
            share = deferral_share(
                result for result in self.folder.results if result.arm == arm.mix_of
            )
            # The stage before has played it to its end, and an episode has at least one step.
            assert share is not None
            self.folder.set_mix(arm.name, share)
        return replace(arm, p_teacher=self.folder.manifest.mix[arm.name])

    async def _play_stage(
        self,
        arms: Sequence[Arm],
        worlds: list[World],
        budget: Budget,
        stop: asyncio.Event,
    ) -> None:
        planned = self._planned(arms)
        queue = deque(episode for key, episode in planned.items() if key not in self.folder)
        jobs = min(self.jobs, len(queue))
        if stop.is_set() or not jobs:
            return
        while len(worlds) < jobs:
            worlds.append(self.world())
        stopper = asyncio.create_task(stop.wait())
        pending = {asyncio.create_task(self._work(queue, world, budget)) for world in worlds[:jobs]}
        try:
            while pending and not stopper.done():
                done, _ = await asyncio.wait(
                    {*pending, stopper}, return_when=asyncio.FIRST_COMPLETED
                )
                pending -= done
                # Several can fail at once; the others' errors are read, and one is raised.
                failed = [task.exception() for task in done - {stopper}]
                for error in failed:
                    if error is not None:
                        raise error
        finally:
            for task in (*pending, stopper):
                task.cancel()
            await asyncio.gather(*pending, stopper, return_exceptions=True)

    async def _work(
        self, queue: deque[tuple[Arm, Task, int]], world: World, budget: Budget
    ) -> None:
        while queue:
            arm, task, seed = queue.popleft()
            if queue and queue[0][1] != task:
                world.prefetch(queue[0][1])
            try:
                result = await self._play(arm, task, seed, world, budget)
            except BudgetSpent:
                return
            except TutelageError as error:
                raise BenchmarkError(
                    f"arm {arm.name}, task {task.id}, seed {seed}: {error} "
                    f"({len(self.folder.results)} finished episodes are kept; run again to go on)"
                ) from error
            self.folder.append(result)
            self.watcher.finished(result)

    async def _play(
        self, arm: Arm, task: Task, seed: int, world: World, budget: Budget
    ) -> EpisodeResult:
        runtime = self.build_runtime(arm, self.build_teacher(world), episode_seed(task, seed))
        play = EpisodePlay(
            arm=arm,
            task=task,
            seed=seed,
            settings=self.folder.manifest.settings,
            run=self.folder.manifest.fingerprint(arm.name),
            tenant=self.tenant,
            clock=self.clock,
            timer=self.timer,
            command=self.command,
            manner=self.manner,
        )
        return await play.play(world, runtime, new_episode_id(arm), budget)


def new_episode_id(arm: Arm) -> str:
    """An id for an episode of an arm, which tells it from those of traffic."""
    return f"{arm.name}-{uuid.uuid4().hex}"


def is_replayed(episode_id: str, task_id: str | None) -> bool:
    """Whether an episode is one that a replay played, and no traffic.

    Args:
        episode_id: Of the episode.
        task_id: Its task in a world; traffic has none.
    """
    return task_id is not None and _REPLAYED_ID.fullmatch(episode_id) is not None


@contextmanager
def stop_on_interrupt() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C sets; a second one raises ``KeyboardInterrupt`` as usual."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)
