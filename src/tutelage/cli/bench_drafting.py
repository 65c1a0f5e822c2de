"""``tutelage bench drafting``: retrieved demonstrations as what n-gram drafting guesses from."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import Json
from tutelage.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tutelage.overhead.drafting import LayoutDrafting


def drafting(
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the student's weights (default: SmolLM2-135M-Instruct).",
            show_default=False,
        ),
    ] = None,
    demonstrations: Annotated[int, typer.Option(min=1, help="Size of the bank.")] = 2000,
    steps: Annotated[int, typer.Option(min=2, help="Household steps in each layout.")] = 60,
    out: Annotated[Path, typer.Option(help="Folder for drafting.json.")] = Path("out/bench"),
    json: Json = False,
) -> None:
    """Measure n-gram drafting by layout of the prompt, on a real vLLM, in one run."""
    import orjson

    from tutelage.overhead.drafting import COLUMNS, document, rows
    from tutelage.overhead.report import Machine

    # Before the work, which is a load itself.
    machine = Machine.here()
    found = asyncio.run(_measured(checkpoint, demonstrations, steps))
    told = {"load": machine.load, "processor": machine.processor, "rows": document(found)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "drafting.json").write_bytes(
        orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    if json:
        print_json(told)
        return
    print_table(
        f"n-gram drafting by layout, greedy, {steps} household steps (load {machine.load:.1f})",
        COLUMNS,
        rows(found),
    )
    typer.echo(str(out / "drafting.json"))


async def _measured(
    checkpoint: Path | None, demonstrations: int, steps: int
) -> list[LayoutDrafting]:
    from tempfile import TemporaryDirectory

    from tutelage.overhead.drafting import measure_drafting
    from tutelage.overhead.recorded_steps import student_servers
    from tutelage.overhead.setting import open_setting
    from tutelage.runtime.config import Config

    chosen = {} if checkpoint is None else {"checkpoint": str(checkpoint)}
    make_server = student_servers(Config.model_validate({"student": chosen}))

    def told(line: str) -> None:
        typer.echo(f"{line} …", err=True)

    with TemporaryDirectory(prefix="tutelage-bench-") as folder:
        told(f"bank of {demonstrations:,} demonstrations")
        async with open_setting(Path(folder), demonstrations=demonstrations) as setting:
            return await measure_drafting(setting, make_server, steps=steps, told=told)
