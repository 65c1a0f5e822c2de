"""``tutelage flywheel``: from traces to a better student, once or again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.duration import seconds
from tutelage.cli.options import ConfigFile, Json, Setting, Tenant
from tutelage.cli.output import print_json, print_table, when
from tutelage.cli.stored import with_assembly
from tutelage.cli.training_bar import listeners, say
from tutelage.runtime.errors import TrainingError

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.loop import FlywheelStatus
    from tutelage.training.flywheel import FlywheelResult

POLL = "5m"

app = typer.Typer(help="Turn verified traces into a better student, gated and canaried.")


@app.command()
def run(
    every: Annotated[
        str | None,
        typer.Option(help="Turn again after this time, such as 6h.", show_default=False),
    ] = None,
    when_new: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Begin when there are so many new verified traces; looks every {POLL}, or "
            "--every.",
            show_default=False,
        ),
    ] = None,
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Turn the flywheel once, at an interval, or when enough new traces exist.

    One process at a time; a run that was interrupted goes on where it was.
    """
    from tutelage.loop import turn, turn_again_and_again

    pause_s = seconds(every or POLL, "--every") if every or when_new else None

    with listeners(quiet=json) as heard:

        async def work(assembly: Assembly, owner: str) -> FlywheelResult | None:
            if pause_s is None:
                return await turn(assembly, owner, heard)

            def told(result: FlywheelResult) -> None:
                _tell(result, json)

            def failed(error: Exception) -> None:
                say(f"error: {error}")

            await turn_again_and_again(
                assembly, owner, pause_s, heard, when_new=when_new, told=told, failed=failed
            )
            return None

        result = with_assembly(config, setting, tenant, work, priced=True)
    if result is not None:
        _tell(result, json)
        if result.state == "failed":
            raise TrainingError(result.text)


@app.command()
def status(
    limit: Annotated[int, typer.Option(min=1, help="Runs to show.")] = 5,
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Tell who is at it, how many new traces wait, and how the latest runs went."""
    from tutelage.loop import flywheel_status

    async def read(assembly: Assembly, owner: str) -> FlywheelStatus:
        return await flywheel_status(assembly, owner, limit)

    found = with_assembly(config, setting, tenant, read, open_bank=False)
    if json:
        print_json(_as_json(found))
        return
    typer.echo(f"running at: {found.holder or 'nowhere'}; new verified traces: {found.new_traces}")
    for one in found.runs:
        rows = [
            (
                stage.stage,
                stage.state,
                stage.attempts,
                when(stage.started_at_s),
                stage.error or _short(stage.result),
            )
            for stage in one.stages
        ]
        title = f"run {one.id[:8]}, {one.state}, {when(one.started_at_s)}: {one.outcome}"
        print_table(title, ("stage", "state", "attempts", "begun", "found"), rows)


def _tell(result: FlywheelResult, as_json: bool) -> None:
    if as_json:
        print_json({"run": result.run_id, "state": result.state, "text": result.text})
    else:
        typer.echo(f"{result.state}: {result.text}")


def _as_json(found: FlywheelStatus) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "holder": found.holder,
        "new_traces": found.new_traces,
        "runs": [asdict(one) for one in found.runs],
    }


def _short(result: Any) -> str:
    plain = {k: v for k, v in result.items() if isinstance(v, bool | int | float | str)}
    text = ", ".join(f"{name} {value}" for name, value in plain.items())
    return text if len(text) <= 160 else f"{text[:159]}…"
