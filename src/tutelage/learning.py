"""The stages of the flywheel that learn: gather, gate, select, train, evaluate."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tutelage.assembly import Assembly, prompt_settings
from tutelage.evaluating import evaluate_in_world, evaluate_on_steps, first_seen, student_from
from tutelage.released import released_config
from tutelage.releasing import (
    open_replica,
    read_examples,
    replicas_of,
    student_name,
    write_examples,
)
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError, NoExamples, TrainingError
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.runtime.types import Choice
from tutelage.training.flywheel import Stage, StageOutcome, Work

if TYPE_CHECKING:
    from tutelage.runtime.types import EpisodeRecord, Trace
    from tutelage.training.data.example import TrainingExample
    from tutelage.training.data.recorded import RecordedEpisode
    from tutelage.training.recipes.recipe import Recipe, TrainedStudent, Watch

MOST_STEPS = 10_000
"""Steps of one episode that are looked at."""


@dataclass(frozen=True, slots=True)
class Start:
    """The weights that training starts from."""

    checkpoint: Path
    parent: str
    """Name of their release; empty: the base checkpoint."""


class LearningStages:
    """Makes a better student of a tenant's verified traces.

    Args:
        assembly: Configuration and database.
        tenant: Whose traces are learnt from.
        recipe: How the student is trained; absent: as configured.
        watch: Called after each optimizer step.
    """

    def __init__(
        self,
        assembly: Assembly,
        tenant: str,
        *,
        recipe: Recipe | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._assembly = assembly
        self._config = assembly.config
        self._tenant = tenant
        self._recipe = recipe
        self._watch = watch

    @property
    def stages(self) -> dict[str, Stage]:
        """By their names."""
        return {
            "gather": self.gather,
            "gate": self.gate,
            "select": self.select,
            "train": self.train,
            "evaluate": self.evaluate,
        }

    async def gather(self, work: Work) -> StageOutcome:
        """Puts the bank in order, then fixes which episodes are learnt from: all that succeeded."""
        from tutelage.curating import curator
        from tutelage.loop import gathered_until
        from tutelage.runtime.store.verified import SqlVerified

        bank: dict[str, Any] = {}
        if self._config.retrieval.enabled:
            keeper = curator(self._assembly)
            bank = {"bank": dataclasses.asdict(await keeper.curate(self._tenant))}
        verified = SqlVerified(self._assembly.engine)
        since_s = await gathered_until(self._assembly, self._tenant)
        fresh = await asyncio.to_thread(verified.count, self._tenant, since_s)
        needed = self._config.flywheel.min_new_traces
        if fresh < needed:
            return StageOutcome(
                {},
                "wait",
                f"{fresh} new verified traces, and flywheel.min_new_traces = {needed}: send "
                "feedback on more episodes",
            )
        until_s = await asyncio.to_thread(verified.latest_s, self._tenant)
        ids = await asyncio.to_thread(verified.episodes, self._tenant, until_s)
        file = work.folder / "episodes.json"
        await asyncio.to_thread(_write, file, orjson.dumps(list(ids)))
        found = {"episodes": len(ids), "new_traces": fresh, "until_s": until_s}
        return StageOutcome({**found, **bank, "file": str(file)})

    async def gate(self, work: Work) -> StageOutcome:
        """Judges traces and examples; whole tasks are held out for the evaluation.

        Ends the run where nothing passes.
        """
        from tutelage.training.data.dataset import DatasetSettings, build_dataset
        from tutelage.training.data.examples import ExampleSettings
        from tutelage.training.data.trace_gate import TraceRules

        recorded = await self._recorded(work)
        played = await self._evaluated_tasks()
        shape = ExampleSettings(
            shape=self._config.training.shape, prompt=prompt_settings(self._config)
        )
        mine = frozenset({self._tenant})
        revoked = await self._revoked()
        share = self._config.training.held_out
        held_out = [one for one in recorded if _is_held_out(one, share)]
        rest = [one for one in recorded if not _is_held_out(one, share)]
        key, count_tokens = self._action_key(), self._assembly.count_tokens
        try:
            learnt = await asyncio.to_thread(
                build_dataset,
                rest,
                DatasetSettings(
                    TraceRules(mine, frozenset(played), revoked_writers=revoked), shape
                ),
                count_tokens,
                key=key,
            )
        except NoExamples as error:
            return StageOutcome({"examples": 0}, "end", str(error))
        files = {"file": work.folder / "gated.jsonl", "held_out_file": work.folder / "held.jsonl"}
        await asyncio.to_thread(write_examples, files["file"], learnt.examples)
        try:
            measured = await asyncio.to_thread(
                build_dataset,
                held_out,
                DatasetSettings(TraceRules(mine, revoked_writers=revoked), shape),
                count_tokens,
                key=key,
            )
            steps = measured.examples
        except NoExamples:
            steps = ()
        await asyncio.to_thread(write_examples, files["held_out_file"], steps)
        return StageOutcome(
            {
                "examples": len(learnt.examples),
                "held_out": len(steps),
                "rejected": {one.value: count for one, count in learnt.report.counts.items()},
                **{name: str(path) for name, path in files.items()},
            }
        )

    async def select(self, work: Work) -> StageOutcome:
        """Leaves out what the student can do already, then keeps the farthest; weighs families."""
        from tutelage.training.data.mastery import Mastery
        from tutelage.training.data.selection import drop_mastered, farthest
        from tutelage.training.releases import traces_digest

        chosen = self._config.training
        gated = await asyncio.to_thread(read_examples, Path(work.run.result("gate")["file"]))
        recorded = await self._recorded(work)
        hard = drop_mastered(gated, Mastery(recorded), chosen.least_difficulty)
        kept = await asyncio.to_thread(farthest, hard, chosen.max_examples)
        if not kept:
            return StageOutcome(
                {"examples": 0},
                "end",
                f"the student can do all {len(gated)} examples already: lower "
                "training.least_difficulty, or collect harder tasks",
            )
        kept = tuple(_mixed(kept, recorded, chosen.mixing))
        file = work.folder / "examples.jsonl"
        await asyncio.to_thread(write_examples, file, kept)
        traces = {id for one in kept for id in one.trace_ids}
        return StageOutcome(
            {
                "examples": len(kept),
                "mastered": len(gated) - len(hard),
                "unselected": len(hard) - len(kept),
                "traces": len(traces),
                "traces_sha256": traces_digest(traces),
                "bank": await self._assembly.bank_version(),
                "file": str(file),
                "held_out_file": work.run.result("gate")["held_out_file"],
            }
        )

    async def train(self, work: Work) -> StageOutcome:
        """Trains, with the student's servers asleep where that is wanted and offered."""
        from tutelage.training.recipes.memory import give_memory_back
        from tutelage.training.releases import weights_digest

        examples = await asyncio.to_thread(read_examples, Path(work.run.result("select")["file"]))
        start = await self._start()
        recipe = self._recipe or recipe_of(self._config)
        async with AsyncExitStack() as awake:
            if self._config.flywheel.sleep_student:
                await self._put_to_sleep(awake)
            trained: TrainedStudent = await _in_thread(
                lambda stopped: recipe.train(
                    examples,
                    start.checkpoint,
                    work.folder / "training",
                    _until(stopped, self._watch),
                )
            )
        await asyncio.to_thread(give_memory_back)
        return StageOutcome(
            {
                "recipe": self._config.training.recipe,
                "settings": dict(trained.settings),
                "start": str(start.checkpoint),
                "parent": start.parent,
                "parent_sha256": await asyncio.to_thread(weights_digest, start.checkpoint),
                "checkpoint": str(trained.checkpoint),
                "adapter": str(trained.adapter) if trained.adapter is not None else None,
                "steps": len(trained.losses),
                "loss": trained.losses[-1] if trained.losses else None,
                "tokens": trained.tokens,
                "supervised_tokens": trained.supervised_tokens,
                "wall_s": trained.wall_s,
                "peak_memory_bytes": trained.peak_memory_bytes,
            }
        )

    async def evaluate(self, work: Work) -> StageOutcome:
        """Compares the candidate with the student that serves, on held-out tasks."""
        from tutelage.training.gates.evaluation import Evaluation

        selected = work.run.result("select")
        held_out = await asyncio.to_thread(read_examples, Path(selected["held_out_file"]))
        learnt = await asyncio.to_thread(read_examples, Path(selected["file"]))
        steps = held_out[-self._config.flywheel.evaluated_steps :]
        current = await self._current()
        trained = Path(work.run.result("train")["checkpoint"])
        async with student_from(self._config, trained) as candidate:
            if self._config.flywheel.world is not None:
                pairs = await evaluate_in_world(current, candidate, work.folder / "evaluation")
            else:
                pairs = await evaluate_on_steps(self._assembly, current, candidate, steps)
        evaluation = Evaluation(
            pairs,
            training_tasks=frozenset(one.task_id or one.episode_id for one in learnt),
            training_texts=tuple(sorted({first_seen(one) for one in learnt})),
        )
        file = work.folder / "evaluation.json"
        told = {
            **dataclasses.asdict(evaluation),
            "training_tasks": sorted(evaluation.training_tasks),
        }
        await asyncio.to_thread(_write, file, orjson.dumps(told))
        return StageOutcome(
            {
                "file": str(file),
                "episodes": len(pairs),
                "candidate_successes": sum(one.candidate.success for one in pairs),
                "current_successes": sum(one.current.success for one in pairs),
                "digest": evaluation.digest(),
            }
        )

    async def _recorded(self, work: Work) -> Sequence[RecordedEpisode]:
        """The episodes that this run has gathered."""
        from tutelage.training.data.recorded import record_episodes

        content = await asyncio.to_thread(Path(work.run.result("gather")["file"]).read_bytes)
        episodes: list[EpisodeRecord] = []
        traces: list[Trace] = []
        for id in orjson.loads(content):
            episode = await self._assembly.traces.episode(self._tenant, id)
            if episode is not None:
                episodes.append(episode)
                traces += await self._assembly.traces.traces(
                    self._tenant, episode_id=id, limit=MOST_STEPS
                )
        audits = await self._assembly.audits.audits(self._tenant)
        return record_episodes(traces, episodes, audits, await self._families())

    async def _families(self) -> dict[str, str]:
        """Kind of task by its id, as far as the demonstrations know it."""
        if not self._config.retrieval.enabled:
            return {}
        known = await self._assembly.bank.trajectories(self._tenant)
        return {one.task_id: one.category for one in known if one.task_id and one.category}

    async def _revoked(self) -> frozenset[str]:
        """Keys from whose traces nothing is learnt."""
        from tutelage.retrieval.origins import Origins

        origins = Origins(self._assembly.engine)
        return frozenset(await asyncio.to_thread(origins.revoked, self._tenant))

    def _action_key(self) -> Callable[[str], str | None]:
        """How an answer is compared, as the cascade compares it."""
        from tutelage.training.data.transcript import spoken

        rule = self._assembly.policies.agreement()
        return lambda answer: rule.action(Choice(index=0, message=spoken(answer)))

    async def _evaluated_tasks(self) -> frozenset[str]:
        """Ids of the tasks that the evaluation plays; nothing is learnt from them."""
        from tutelage.rehearsal import Play, split_tasks

        chosen = self._config.flywheel
        if chosen.world is None:
            return frozenset()
        play = Play(world=chosen.world, split=chosen.split, out=Path("unused"))
        return frozenset(task.id for task in await split_tasks(play))

    async def _start(self) -> Start:
        from tutelage.runtime.cache_dir import cache_dir
        from tutelage.runtime.models.checkpoint import student_checkpoint

        chosen = self._config.training
        if chosen.start == "current":
            store = SqlReleaseStore(self._assembly.engine, time.time)
            name = student_name(self._config)
            traffic = await asyncio.to_thread(store.traffic, name, self._tenant)
            if traffic.current is not None:
                release = await asyncio.to_thread(store.release, self._tenant, traffic.current.name)
                if release.kind != "full":
                    raise TrainingError(
                        f"training.start = 'current', but {release.name} is an adapter: set it to "
                        "'base'"
                    )
                return Start(Path(release.folder), release.name)
        folder = chosen.checkpoint or self._config.student.checkpoint
        if folder:
            return Start(Path(folder), "")
        return Start(await asyncio.to_thread(student_checkpoint, cache_dir()), "")

    async def _current(self) -> Config:
        """The configuration with the student that serves the tenant now."""
        name = self._config.releases.student
        if name is None:
            return self._config
        store = SqlReleaseStore(self._assembly.engine, time.time)
        traffic = await asyncio.to_thread(store.traffic, name, self._tenant)
        if traffic.current is None:
            return self._config
        return released_config(self._config, traffic.current)

    async def _put_to_sleep(self, awake: AsyncExitStack) -> None:
        opened = open_replica(self._config)
        for address in replicas_of(self._config):
            replica = await awake.enter_async_context(opened(address))
            if await replica.sleep():
                awake.push_async_callback(replica.wake)


def recipe_of(config: Config) -> Recipe:
    """The recipe that ``training.recipe`` names, with ``training.settings``.

    Raises:
        ConfigError: It is unknown, or a setting is.
        TrainingError: A setting is out of range.
    """
    from tutelage.training.recipes.adapters import Lora
    from tutelage.training.recipes.settings import TrainingSettings
    from tutelage.training.recipes.supervised import Supervised

    chosen = config.training
    if ":" in chosen.recipe:
        return _own_recipe(chosen.recipe, chosen.settings)
    if chosen.recipe != "supervised":
        raise ConfigError(
            f"training.recipe = {chosen.recipe!r} is unknown: supervised, or module:attribute"
        )
    lora = {k.removeprefix("lora_"): v for k, v in chosen.settings.items() if k[:5] == "lora_"}
    plain = {k: v for k, v in chosen.settings.items() if k[:5] != "lora_" and k != "lora"}
    known = {one.name for one in dataclasses.fields(TrainingSettings)} - {"lora"}
    known_lora = {one.name for one in dataclasses.fields(Lora)} - {"layers"}
    unknown = sorted(plain.keys() - known) + sorted(f"lora_{k}" for k in lora.keys() - known_lora)
    if unknown:
        names = sorted({*known, *(f"lora_{name}" for name in known_lora), "lora"})
        raise ConfigError(
            f"training.settings.{unknown[0]} is unknown; {chosen.recipe} has {', '.join(names)}"
        )
    values: dict[str, Any] = dict(plain)
    rank: dict[str, Any] = lora
    values["lora"] = Lora(**rank) if chosen.settings.get("lora", True) else None
    return Supervised(TrainingSettings(**values))


def _own_recipe(name: str, settings: Mapping[str, Any]) -> Recipe:
    module, _, attribute = name.partition(":")
    try:
        made: Recipe = getattr(importlib.import_module(module), attribute)(**settings)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"training.recipe = {name!r} cannot be made: {error}") from error
    return made


async def _in_thread(work: Callable[[Callable[[], bool]], Any]) -> Any:
    """Runs blocking work in a thread; where it is given up, the work hears of it."""
    given_up = False

    def stopped() -> bool:
        return given_up

    running = asyncio.get_running_loop().run_in_executor(None, work, stopped)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        given_up = True
        raise


def _until(stopped: Callable[[], bool], watch: Watch | None) -> Watch:
    """A watch that ends a training run that nobody waits for any more."""

    def told(progress: Any) -> None:
        if stopped():
            raise TrainingError("training was given up: the next run goes on where it was")
        if watch is not None:
            watch(progress)

    return told


def _is_held_out(recorded: RecordedEpisode, share: float) -> bool:
    """Whether the task of an episode is for the evaluation; the same in every run."""
    from tutelage.cascade.chance import toss

    episode = recorded.episode
    return toss(0, "held out", episode.tenant, episode.task_id or episode.id) < share


def _mixed(
    examples: Sequence[TrainingExample], recorded: Sequence[RecordedEpisode], mixing: str
) -> Sequence[TrainingExample]:
    """The examples with the weights that their families have under ``training.mixing``."""
    from tutelage.training.data.mixture import by_deferral, deferral_rates, uniform, weighted

    families = {one.family for one in examples}
    if mixing == "uniform":
        return weighted(examples, uniform(families))
    if mixing == "deferral":
        named = {trace.id: one.family for one in recorded for trace in one.traces}
        traces = [trace for one in recorded for trace in one.traces]
        rates = deferral_rates(traces, lambda trace: named[trace.id])
        return weighted(examples, by_deferral({one: rates.get(one, 1.0) for one in families}))
    return examples


def _write(file: Path, content: bytes) -> None:
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(content)
    part.replace(file)
