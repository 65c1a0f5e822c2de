"""``tutelage demos``: the bank of demonstrations."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, Tenant
from tutelage.cli.output import print_json, print_table, when
from tutelage.cli.stored import with_assembly

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.gathering import Gathered
    from tutelage.retrieval.utility import Utility

app = typer.Typer(
    no_args_is_help=True,
    help="Harvest, list, show, judge, retire, revoke, roll back or re-index demonstrations.",
)

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


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
    """Take a trajectory out of use; harvesting never brings it back."""
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


@app.command("curate")
def curate(
    tenant: Tenant = None, config: ConfigFile = None, setting: Setting = None, json: Json = False
) -> None:
    """Promote what traffic brought since the last run, and take out what is no good."""
    from dataclasses import asdict

    from tutelage.curating import curator
    from tutelage.retrieval.curation import Curated

    async def run(assembly: Assembly, whose: str) -> Curated:
        return await curator(assembly).curate(whose)

    done = asdict(with_assembly(config, setting, tenant, run))
    if json:
        print_json(done)
        return
    typer.echo(
        f"{done.pop('candidates')} new answers of a teacher: {done.pop('promoted')} promoted, "
        f"{done.pop('waiting')} held back, {done.pop('rejected')} rejected"
    )
    for what, count in done.items():
        if count:
            typer.echo(f"{what}: {count} trajectories")


@app.command("versions")
def versions(
    tenant: Tenant = None,
    limit: Annotated[int, typer.Option(min=1, help="Versions listed.")] = 20,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """List the versions of the bank, the newest first."""
    from dataclasses import asdict

    from tutelage.retrieval.bank_versions import BankVersion

    async def read(assembly: Assembly, whose: str) -> Sequence[BankVersion]:
        return await assembly.bank.versions(whose)

    rows = with_assembly(config, setting, tenant, read)
    if json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        typer.echo("no versions yet: the first change of the bank makes one")
        return
    print_table(
        "versions of the bank",
        ["version", "when", "cause", "active trajectories"],
        [[row.number, when(row.created_at_s), row.cause, row.trajectories] for row in rows[:limit]],
    )
    if len(rows) > limit:
        typer.echo(f"{len(rows) - limit} more: --limit {len(rows)}")


@app.command("rollback")
def rollback(
    version: Annotated[int, typer.Argument(min=0, help="Number of the version; 0: the first.")],
    yes: Yes = False,
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Give every trajectory the state it had at a version; this can be rolled back, too."""

    async def change(assembly: Assembly, whose: str) -> int:
        return await assembly.bank.rollback(whose, version)

    _confirm(f"roll the bank back to version {version}", yes)
    changed = with_assembly(config, setting, tenant, change)
    if json:
        print_json({"version": version, "changed": changed})
        return
    typer.echo(f"rolled back to version {version}: {changed} trajectories changed")


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `tutelage keys list` shows it.")],
    yes: Yes = False,
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Retire all that a key wrote, for good, and take no more demonstrations from it."""
    from tutelage.curating import curator

    async def change(assembly: Assembly, whose: str) -> tuple[int, int]:
        return await curator(assembly).revoke(whose, key_id)

    _confirm(f"retire all demonstrations of key {key_id}, for good", yes)
    retired, rejected = with_assembly(config, setting, tenant, change)
    if json:
        print_json({"key_id": key_id, "retired": retired, "rejected": rejected})
        return
    typer.echo(
        f"revoked {key_id}: {retired} trajectories retired, {rejected} answers rejected; "
        "nothing of it is taken from now on"
    )


@app.command("utility")
def show_utility(
    tenant: Tenant = None,
    limit: Annotated[int, typer.Option(min=1, help="Trajectories listed.")] = 20,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """List what trajectories are worth, as chance left them out; the worst first."""
    from dataclasses import asdict

    from tutelage.curating import curator
    from tutelage.retrieval.curation import Worth

    async def read(assembly: Assembly, whose: str) -> list[Worth]:
        return await curator(assembly).worth(whose)

    rows = with_assembly(config, setting, tenant, read)
    if json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        typer.echo("nothing is known yet: demonstrations must be shown, and episodes judged")
        return
    print_table(
        "success of episodes, and agreement with the teacher, with and without a trajectory",
        ["trajectory", "with", "without", "agreement with", "without"],
        [[row.trajectory_id, *_rates(row.episodes), *_rates(row.steps)] for row in rows[:limit]],
    )
    if len(rows) > limit:
        typer.echo(f"{len(rows) - limit} more: --limit {len(rows)}")


@app.command("quarantined")
def quarantined(
    tenant: Tenant = None,
    limit: Annotated[int, typer.Option(min=1, help="Trajectories listed.")] = 20,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """List what waits or is held back, and why."""
    from dataclasses import asdict

    from tutelage.curating import curator
    from tutelage.retrieval.origins import Held

    async def read(
        assembly: Assembly, whose: str
    ) -> tuple[Sequence[Held], Mapping[tuple[str, str], int]]:
        keeper = curator(assembly)
        return await keeper.quarantined(whose), await keeper.candidate_counts(whose)

    rows, counts = with_assembly(config, setting, tenant, read)
    if json:
        answers = [
            {"state": state, "reason": reason, "answers": count}
            for (state, reason), count in counts.items()
        ]
        print_json({"trajectories": [asdict(row) for row in rows], "answers": answers})
        return
    if rows:
        print_table(
            f"{len(rows)} trajectories in quarantine",
            ["trajectory", "since", "why", "goal", "keys"],
            [
                [
                    row.trajectory_id,
                    when(row.changed_at_s),
                    row.reason,
                    row.goal,
                    ", ".join(row.writers) or "-",
                ]
                for row in rows[:limit]
            ],
        )
    else:
        typer.echo("no trajectory is in quarantine")
    if len(rows) > limit:
        typer.echo(f"{len(rows) - limit} more: --limit {len(rows)}")
    for (state, reason), count in counts.items():
        if state != "promoted":
            typer.echo(f"{count} answers {state}: {reason}")


def _rates(utility: Utility | None) -> tuple[str, str]:
    """Rate and bounds with and without, and the number of trials."""
    if utility is None:
        return "-", "-"
    one = utility
    return (
        f"{one.rate:.2f} ({one.lower:.2f}-{one.upper:.2f}) of {one.shown}",
        f"{one.rate_without:.2f} ({one.lower_without:.2f}-{one.upper_without:.2f})"
        f" of {one.left_out}",
    )


def _confirm(what: str, yes: bool) -> None:
    """Asks before something is taken out of use.

    Raises:
        ConfigError: Nobody can be asked.
    """
    import sys

    from tutelage.runtime.errors import ConfigError

    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"to {what}, say --yes")
    if not typer.confirm(f"{what[0].upper()}{what[1:]}?"):
        raise typer.Exit(1)
