"""``tutelage demos``: the bank of demonstrations."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, Tenant
from tutelage.cli.output import print_json, print_table
from tutelage.cli.stored import with_assembly

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.gathering import Gathered

app = typer.Typer(
    no_args_is_help=True, help="Harvest, list, show, retire or re-index demonstrations."
)


@app.command("harvest")
def harvest(
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed",
            help="Take episodes with student steps, too; those steps are shown, never imitated.",
        ),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            help="Who the teacher was (default: teacher.model, else the model asked for).",
            show_default=False,
        ),
    ] = None,
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Turn your own successful episodes into demonstrations; again takes only new ones."""
    from dataclasses import asdict

    from tutelage.gathering import gather

    async def take(assembly: Assembly, whose: str) -> Gathered:
        return await gather(assembly, whose, mixed=mixed, source=source)

    gathered = with_assembly(config, setting, tenant, take)
    if json:
        print_json(asdict(gathered))
        return
    typer.echo(
        f"{gathered.successful} successful episodes: {gathered.added} added to the bank, "
        f"{gathered.duplicates} there already, {sum(gathered.rejected.values())} not taken"
    )
    for reason, count in gathered.rejected.items():
        typer.echo(f"  {count}: {reason}")
    if gathered.benchmark:
        typer.echo(f"{gathered.benchmark} of benchmarks left alone: `tutelage collect` takes those")
    typer.echo(f"bank: {gathered.demonstrations} demonstrations")
    if not gathered.successful:
        typer.echo("an episode counts once it has had `feedback(success=True)`")


@app.command("ls")
def ls(
    tenant: Tenant = None,
    limit: Annotated[int, typer.Option(min=1, help="Trajectories listed.")] = 20,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """List the trajectories that demonstrations are cut from."""

    async def read(assembly: Assembly, whose: str) -> list[dict[str, Any]]:
        return [
            {
                "id": trajectory.id,
                "goal": trajectory.goal,
                "category": trajectory.category,
                "turns": len(trajectory.turns),
                "demonstrations": sum(turn.served != "student" for turn in trajectory.turns),
                "source": trajectory.source,
            }
            for trajectory in await assembly.bank.trajectories(whose)
        ]

    rows = with_assembly(config, setting, tenant, read)
    if json:
        print_json(rows)
        return
    if not rows:
        typer.echo("no demonstrations yet: `tutelage collect household` plays some")
        return
    count = sum(row["demonstrations"] for row in rows)
    print_table(
        f"{len(rows)} trajectories, {count} demonstrations",
        ["trajectory", "goal", "category", "turns", "source"],
        [
            [row["id"], row["goal"], row["category"] or "-", row["turns"], row["source"]]
            for row in rows[:limit]
        ],
    )
    kinds = Counter(row["category"] or "-" for row in rows)
    typer.echo(", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items())))
    if len(rows) > limit:
        typer.echo(f"{len(rows) - limit} more: --limit {len(rows)}")


@app.command("show")
def show(
    id: Annotated[str, typer.Argument(help="Of a trajectory, or TRAJECTORY:STEP.")],
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Show the turns of a trajectory, or one demonstration with its window."""
    from tutelage.runtime.errors import RetrievalError

    async def read(assembly: Assembly, whose: str) -> dict[str, Any]:
        for trajectory in await assembly.bank.trajectories(whose):
            if trajectory.id == id:
                return trajectory.model_dump(mode="json")
        one = await assembly.bank.demonstration(whose, id)
        if one is None:
            raise RetrievalError(f"tenant {whose} has no demonstration {id!r}: `tutelage demos ls`")
        return one.model_dump(mode="json")

    found = with_assembly(config, setting, tenant, read)
    if json:
        print_json(found)
        return
    for key in ("goal", "category", "source", "task_id"):
        if found.get(key):
            typer.echo(f"{key}: {found[key]}")
    for turn in found.get("turns") or found["window"]:
        typer.echo(
            f"\n  {turn['observation']}\n> {turn['action']}  ({turn['served'] or 'teacher'})"
        )


@app.command("retire")
def retire(
    id: Annotated[str, typer.Argument(help="Of the trajectory.")],
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
) -> None:
    """Take a trajectory out of use for good."""
    from tutelage.runtime.errors import RetrievalError

    async def change(assembly: Assembly, whose: str) -> bool:
        return await assembly.bank.retire(whose, id)

    if not with_assembly(config, setting, tenant, change):
        raise RetrievalError(f"no active trajectory {id!r}: `tutelage demos ls`")
    typer.echo(f"retired {id}")


@app.command("reindex")
def reindex(config: ConfigFile = None, setting: Setting = None) -> None:
    """Compute all vectors with the configured embedder and build the indexes anew."""
    count = asyncio.run(_reindex(config, setting))
    typer.echo(f"indexed {count} trajectories")


async def _reindex(config_file: Path | None, values: list[str] | None) -> int:
    from tutelage.assembly import open_assembly
    from tutelage.cli.options import settings
    from tutelage.cli.stored import stored_config

    config = stored_config(config_file, settings(values))
    async with open_assembly(config, open_bank=False) as assembly:
        return await assembly.bank.reindex()
