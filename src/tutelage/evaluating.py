"""Two students on the same held-out tasks, for the gates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.assembly import ledger, open_assembly
from tutelage.runtime.config import Config, PriceConfig
from tutelage.runtime.errors import TrainingError
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.runtime.protocols import AgreementRule, Model
    from tutelage.training.data.example import TrainingExample
    from tutelage.training.gates.evaluation import PairedEpisode, PlayedEpisode

SERVED_NAME = "candidate"


@asynccontextmanager
async def student_from(config: Config, checkpoint: Path) -> AsyncIterator[Config]:
    """The configuration with the student of a checkpoint, while the block lasts.

    It is served by vLLM where that is installed, a diffusion student by a server of its own; else
    it runs in this process.
    """
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.diffusion_server import is_diffusion, server_of
    from tutelage.runtime.models.speculation import check_samples, speculative_arguments
    from tutelage.runtime.models.vllm_environment import detect_device, is_installed, vllm_folder

    changes: dict[str, Any] = {"checkpoint": str(checkpoint), "base_url": None, "weights": None}
    if config.student.price is None and config.student.priced_as is None:
        # It is priced by its name, which changes here.
        changes["priced_as"] = config.student.model
    device = detect_device()
    has_vllm = is_installed(vllm_folder(cache_dir(), device))
    if not has_vllm and not is_diffusion(checkpoint):
        yield _with_student(config, {**changes, "model": None})
        return
    length = 2 * config.prompt.max_prompt_tokens
    chosen = config.student.speculation
    speculation = None if chosen is None else chosen.speculation()
    check_samples(speculation, device, config.cascade.temperature)
    arguments = speculative_arguments(speculation)
    async with server_of(
        checkpoint, served_name=SERVED_NAME, max_model_len=length, extra_arguments=arguments
    ) as server:
        yield _with_student(config, {**changes, "base_url": server.base_url, "model": SERVED_NAME})


def _with_student(config: Config, changes: dict[str, Any]) -> Config:
    changed = config.student.model_copy(update=changes)
    if changed.price is None and changed.priced_as is None:
        changed = changed.model_copy(update={"price": PriceConfig(input=0.0, output=0.0)})
    return config.model_copy(update={"student": changed})


async def evaluate_on_steps(
    assembly: Assembly,
    current: Config,
    candidate: Config,
    held_out: Sequence[TrainingExample],
) -> tuple[PairedEpisode, ...]:
    """Both students at recorded steps of held-out tasks; a step is right if it names that action.

    Each step is an episode of one step, repeats of its task. Its cost is that of the student's
    samples, as nobody acts on them.

    Args:
        assembly: How actions are compared, and how often the student is sampled.
        current: The configuration with the student so far.
        candidate: The one with the student that is judged.
        held_out: Recorded steps; their last supervised turn is what is to be named.

    Raises:
        TrainingError: There is no such step.
        ModelError: A student failed.
    """
    from tutelage.training.gates.evaluation import PairedEpisode

    if not held_out:
        raise TrainingError(
            "no step is held out: set flywheel.world, raise training.held_out, or collect more"
        )
    ours = await _played_steps(assembly, candidate, held_out)
    theirs = await _played_steps(assembly, current, held_out)
    seen: dict[str, int] = {}
    pairs = []
    for one, mine, other in zip(held_out, ours, theirs, strict=True):
        task = one.task_id or one.episode_id
        seen[task] = seen.get(task, -1) + 1
        pairs.append(PairedEpisode(task, other, mine, seen[task], one.family, first_seen(one)))
    return tuple(pairs)


def first_seen(example: TrainingExample) -> str:
    """What the agent saw first: goal and first observation."""
    opening = next((one for one in example.messages if one.get("role") == "user"), {})
    return Message.model_validate({"role": "user", **opening}).text


async def _played_steps(
    assembly: Assembly, config: Config, steps: Sequence[TrainingExample]
) -> list[PlayedEpisode]:
    played = []
    async with open_assembly(config, open_bank=False) as opened:
        student, rule = await opened.student(), assembly.policies.agreement()
        for one in steps:
            played.append(await _played(opened, student, rule, one))
    return played


async def _played(
    assembly: Assembly, student: Model, rule: AgreementRule, one: TrainingExample
) -> PlayedEpisode:
    from tutelage.runtime.protocols import rule_for
    from tutelage.training.gates.evaluation import PlayedEpisode, StepRow

    cascade, last = assembly.config.cascade, one.supervised[-1]
    messages = [Message.model_validate(message) for message in one.messages]
    request = ChatRequest(
        model="student",
        messages=messages[:last],
        tools=[dict(tool) for tool in one.tools] or None,
        temperature=cascade.temperature,
    )
    rule = rule_for(rule, one.tools)
    drawn: Completion = await student.complete(request, cascade.samples)
    agreement = rule.measure(drawn.choices)
    wanted = rule.action(Choice(index=0, message=messages[last]))
    named = agreement.modal.key if agreement.modal is not None else None
    right = wanted is not None and named == wanted
    price = ledger(assembly.config).price("student", "student")
    return PlayedEpisode(
        success=right,
        cost_usd=price.cost_usd(drawn.usage),
        uncached_cost_usd=price.uncached_cost_usd(drawn.usage),
        steps=1,
        output_tokens=drawn.usage.output_tokens,
        rows=(StepRow(agreement.share, right),),
    )


async def evaluate_in_world(
    current: Config, candidate: Config, folder: Path
) -> tuple[PairedEpisode, ...]:
    """Both students in ``flywheel.world``, by the same arm, teacher included.

    Args:
        current: The configuration with the student so far.
        candidate: The one with the student that is judged.
        folder: What is played already is not played again.

    Raises:
        BenchmarkError: An episode failed.
        ConfigError: World or split are unknown.
    """
    from tutelage.training.gates.evaluation import PairedEpisode

    ours = await _played_world(candidate, folder / "candidate")
    theirs = await _played_world(current, folder / "current")
    pairs = []
    for key in sorted(ours.keys() & theirs.keys()):
        (family, mine), (_, other) = ours[key], theirs[key]
        pairs.append(PairedEpisode(key[0], other, mine, key[1], family))
    if not pairs:
        raise TrainingError(f"no task of {current.flywheel.split!r} was played by both students")
    return tuple(pairs)


async def _played_world(
    config: Config, folder: Path
) -> dict[tuple[str, int], tuple[str, PlayedEpisode]]:
    from tutelage.benchmarks.arms import find_arms
    from tutelage.benchmarks.progress import Unwatched
    from tutelage.benchmarks.results import read_results
    from tutelage.rehearsal import Play, replay
    from tutelage.training.gates.evaluation import PlayedEpisode

    chosen = config.flywheel
    assert chosen.world is not None
    play = Play(world=chosen.world, split=chosen.split, out=folder, seeds=1)
    async with open_assembly(config) as assembly:
        await replay(assembly, play, find_arms([chosen.arm]), Unwatched())
    return {
        (one.task_id, one.seed): (
            one.category,
            PlayedEpisode(
                success=one.success,
                cost_usd=one.total_cost_usd,
                uncached_cost_usd=one.total_uncached_cost_usd,
                steps=one.steps,
                teacher_steps=one.teacher_steps,
                output_tokens=one.usage["student"].output_tokens if "student" in one.usage else 0,
            ),
        )
        for one in read_results(folder)
    }
