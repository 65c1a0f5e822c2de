"""``tutelage traces``: what happened at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, Tenant
from tutelage.cli.output import print_json, print_table, when
from tutelage.cli.stored import with_assembly

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.runtime.types import Served, Trace

app = typer.Typer(no_args_is_help=True, help="List traces, or show a step in full.")


@app.command("ls")
def ls(
    episode: Annotated[
        str | None, typer.Option(help="Only this episode.", show_default=False)
    ] = None,
    served: Annotated[
        str | None, typer.Option(help="Only steps of student or teacher.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Steps listed, the newest first.")] = 20,
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """List the latest steps with who served them, why, and what they cost."""
    from tutelage.runtime.errors import ConfigError

    roles: dict[str | None, Served | None] = {
        None: None,
        "student": "student",
        "teacher": "teacher",
    }
    if served not in roles:
        raise ConfigError(f"--served {served!r} is unknown: student or teacher")

    async def read(assembly: Assembly, whose: str) -> list[Trace]:
        return await assembly.traces.traces(
            whose,
            episode_id=episode,
            served=roles[served],
            limit=limit,
            newest_first=True,
        )

    found = with_assembly(config, setting, tenant, read, open_bank=False)
    if json:
        print_json([trace.model_dump(mode="json", exclude={"prompt"}) for trace in found])
        return
    if not found:
        typer.echo("no traces yet: `tutelage collect household` makes some")
        return
    print_table(
        f"{len(found)} steps",
        ["trace", "time", "step", "served", "reason", "agreement", "answer", "USD"],
        [
            [
                trace.id,
                when(trace.created_at_s),
                trace.step_index,
                trace.decision.served,
                trace.decision.reason.value,
                "-" if trace.agreement is None else f"{trace.agreement:.2f}",
                trace.answer[:60],
                f"{sum(trace.cost_usd.values()):.6f}",
            ]
            for trace in found
        ],
    )


@app.command("show")
def show(
    id: Annotated[str, typer.Argument(help="Of the trace.")],
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Show a step: prompt, samples, votes, decision, cost."""
    from tutelage.runtime.errors import StoreError

    async def read(assembly: Assembly, whose: str) -> Trace:
        trace = await assembly.traces.trace(whose, id)
        if trace is None:
            raise StoreError(f"tenant {whose} has no trace {id!r}: `tutelage traces ls`")
        return trace

    trace = with_assembly(config, setting, tenant, read, open_bank=False)
    if json:
        print_json(trace.model_dump(mode="json"))
        return
    for line in _lines(trace):
        typer.echo(line)


def _lines(trace: Trace) -> list[str]:
    decision = trace.decision
    lines = [
        f"trace {trace.id}, episode {trace.episode_id}, step {trace.step_index}, "
        f"{when(trace.created_at_s)}",
        f"goal: {trace.goal}",
        "",
        "prompt of the " + ("student" if trace.samples else "teacher") + ":",
    ]
    lines += [f"  {_message(message)}" for message in trace.prompt]
    lines += ["", f"demonstrations: {', '.join(trace.demonstrations) or 'none'}"]
    for sample in trace.samples:
        lines.append(f"sample: {sample.text!r} -> {sample.action or 'no action'}")
    votes = "" if trace.agreement is None else f", agreement {trace.agreement:.2f}"
    lines.append(f"decision: {decision.served} ({decision.reason.value}){votes}")
    lines.append(f"answer: {trace.answer}")
    for role, usage in trace.usage.items():
        lines.append(
            f"{role}: {usage.prompt_tokens} prompt tokens ({usage.cache_read_tokens} cached), "
            f"{usage.output_tokens} generated, ${trace.cost_usd[role]:.6f} "
            f"(uncached ${trace.uncached_cost_usd[role]:.6f})"
        )
    if trace.baseline_cost_usd is not None:
        lines.append(f"teacher alone, uncached: ${trace.baseline_cost_usd:.6f}")
    spent = ", ".join(f"{hop} {seconds * 1000:.1f} ms" for hop, seconds in trace.latency_s.items())
    lines.append(f"latency: {spent}")
    if trace.error:
        lines.append(f"survived: {trace.error}")
    return lines


def _message(message: dict[str, Any]) -> str:
    text = str(message.get("content") or message.get("tool_calls") or "")
    return f"{message.get('role')}: " + text.replace("\n", "\n    ")
