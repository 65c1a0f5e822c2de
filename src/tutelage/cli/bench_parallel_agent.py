"""``tutelage bench parallel-agent``: a diffusion student plays games beside a causal one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.options import ConfigFile, Data, Json, MaxSteps, Setting, settings
from tutelage.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tutelage.parallel_agent import Standing
    from tutelage.rehearsal import Play
    from tutelage.runtime.config import Config

WORLD = "alfworld"


def parallel_agent(
    learn: Annotated[
        str, typer.Option(help="Split whose expert episodes are learnt.")
    ] = "train:400",
    on: Annotated[str, typer.Option("--on", help="Split that is played.")] = "valid_unseen:30",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 2000,
    distil_steps: Annotated[
        int, typer.Option(min=0, help="Steps of certainty forcing; 0: none.")
    ] = 200,
    causal: Annotated[
        bool, typer.Option(help="Play SmolLM2 in vLLM, too, plain and with n-gram drafting.")
    ] = True,
    play: Annotated[bool, typer.Option(help="Play games; else only train and grade.")] = True,
    out: Annotated[
        Path, typer.Option(help="Folder; a bank and a student that it holds are kept.")
    ] = Path("out/parallel-agent"),
    jobs: Annotated[int, typer.Option(min=1, help="Games at once.")] = 1,
    max_steps: MaxSteps = 30,
    data: Data = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Train a small diffusion student on expert steps of ALFWorld, then play in a cascade.

    The oracle is the teacher. The diffusion student is shown no demonstrations, SmolLM2 is.
    """
    import orjson

    from tutelage.cli.playing import defaults
    from tutelage.parallel_agent import COLUMNS, AgentTraining, rows
    from tutelage.rehearsal import Play
    from tutelage.runtime.config import load_config

    out.mkdir(parents=True, exist_ok=True)
    given = {"store.url": f"sqlite:///{(out / 'store.sqlite').resolve()}", **settings(setting)}
    loaded = load_config(config, overrides=given)
    loaded = load_config(config, overrides={**defaults(loaded, WORLD), **given})
    learnt = Play(world=WORLD, split=learn, out=out / "bank", data=data, jobs=jobs, max_steps=50)
    found = asyncio.run(
        _trained(loaded, learnt, out, AgentTraining(steps=steps, distil_steps=distil_steps))
    )
    standings: list[Standing] = []
    if play:
        played = Play(
            world=WORLD, split=on, out=out / "games", data=data, jobs=jobs, max_steps=max_steps
        )
        standings = asyncio.run(_played(loaded, played, out / "student", causal))
    told = {"training": found, "standings": [one.document() for one in standings]}
    (out / "agent.json").write_bytes(
        orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    if json:
        print_json(told)
        return
    for stage in ("taught", "distilled"):
        for rule, grade in found.get(stage, {}).items():
            typer.echo(
                f"{stage}, {rule}: {grade['right']} of {grade['lessons']} held-out steps right, "
                f"{grade['forwards']:.1f} forwards, {grade['tokens_a_forward']:.2f} tokens each"
            )
    if standings:
        print_table(f"{on}, oracle as the teacher", COLUMNS, rows(standings))
    typer.echo(str(out / "agent.json"))


async def _trained(config: Config, play: Play, out: Path, training: Any) -> dict[str, Any]:
    import orjson

    from tutelage.assembly import open_assembly
    from tutelage.benchmarks.alfworld.world import INSTRUCTIONS
    from tutelage.benchmarks.progress import Unwatched
    from tutelage.parallel_agent import expert_steps, train_agent
    from tutelage.rehearsal import collect

    kept = out / "training.json"
    if kept.exists():
        found: dict[str, Any] = orjson.loads(kept.read_bytes())
        return found

    def watch(now: Any) -> None:
        if now.step % 50 == 0:
            left = f"{now.remaining_s:.0f} s left"
            typer.echo(f"step {now.step} of {now.steps}: loss {now.loss:.3f}, {left}", err=True)

    async with open_assembly(config) as assembly:
        typer.echo(f"the expert plays {play.split} …", err=True)
        await collect(assembly, play, Unwatched())
        steps = await expert_steps(assembly, INSTRUCTIONS)
    typer.echo(f"training on {len(steps)} steps …", err=True)
    found = await asyncio.to_thread(train_agent, steps, out / "student", training, watch)
    kept.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return found


async def _played(config: Config, play: Play, folder: Path, causal: bool) -> list[Standing]:
    from dataclasses import replace

    from tutelage.benchmarks.arms import GUARDS, Arm
    from tutelage.benchmarks.progress import Unwatched
    from tutelage.overhead.drafters import DRAFTERS
    from tutelage.overhead.recorded_steps import student_servers
    from tutelage.parallel_agent import play_served
    from tutelage.runtime.errors import ConfigError
    from tutelage.runtime.models.diffusion_server import DiffusionStudentServer
    from tutelage.runtime.models.speculation import check_samples
    from tutelage.runtime.models.vllm import VllmServer
    from tutelage.runtime.models.vllm_environment import detect_device

    bare = Arm("diffusion-cascade", "diffusion student in a cascade", "paper", guards=GUARDS)
    shown = Arm("demos-cascade", "SmolLM2", "paper", demonstrations=True, guards=GUARDS)
    chosen: list[tuple[str, Arm, VllmServer]] = [
        ("diffusion", bare, DiffusionStudentServer(folder, threads=1))
    ]
    if causal:
        make_server = await asyncio.to_thread(student_servers, config)
        chosen += [
            (f"SmolLM2, {one.name}", shown, make_server(one.speculation)) for one in DRAFTERS[:2]
        ]
        try:
            check_samples(DRAFTERS[1].speculation, detect_device(), config.cascade.temperature)
        except ConfigError as error:
            typer.echo(f"the row with drafting says nothing of games: {error}", err=True)
    found = []
    for name, arm, server in chosen:
        typer.echo(f"{name} plays {play.split} …", err=True)
        place = replace(play, out=play.out / name.lower().replace(", ", "-"))
        found.append(await play_served(name, config, place, arm, server, Unwatched()))
    return found
