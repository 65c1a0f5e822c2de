"""``tutelage bench layouts``: what each layout of the student's prompt costs and gives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.options import Json
from tutelage.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tutelage.overhead.layout_table import LayoutReport


def layouts(
    student_url: Annotated[
        str | None,
        typer.Option(
            help="A vLLM whose model is asked (default: a fast stand-in that copies).",
            show_default=False,
        ),
    ] = None,
    student_model: Annotated[
        str | None,
        typer.Option(help="Its name there (default: the first it lists).", show_default=False),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(help="Only this one; repeatable (default: all).", show_default=False),
    ] = None,
    demonstrations: Annotated[int, typer.Option(min=1, help="Size of the bank.")] = 10_000,
    steps: Annotated[int, typer.Option(min=1, help="Steps asked of each layout.")] = 300,
    budget: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Tokens of demonstrations; repeatable (default: 150, 300).",
            show_default=False,
        ),
    ] = None,
    priced_as: Annotated[
        str, typer.Option(help="Row of the price table for the student.")
    ] = "gpt-4.1-mini",
    cascade: Annotated[
        bool, typer.Option(help="Also draw three samples a step, and defer where they differ.")
    ] = True,
    hash_embedder: Annotated[
        bool, typer.Option("--hash-embedder", help="Without MiniLM, for trials.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for layouts.json, and layouts.md for a log.")
    ] = Path("out/bench"),
    json: Json = False,
) -> None:
    """Compare prompt layouts and budgets on household steps: tokens, cache, cost and accuracy."""
    import shlex
    import sys

    import orjson

    from tutelage.overhead.layout_table import CASCADE_COLUMNS, COLUMNS
    from tutelage.overhead.report import Machine

    # Before the work, which is a load itself.
    machine = Machine.here()
    report = asyncio.run(
        _measure(
            student_url,
            student_model,
            layout or (),
            demonstrations,
            steps,
            budget,
            priced_as,
            cascade,
            hash_embedder,
        )
    )
    command = shlex.join(["tutelage", *sys.argv[1:]])
    document: dict[str, Any] = {"command": command, **report.document(machine)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "layouts.json").write_bytes(
        orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    (out / "layouts.md").write_text(report.markdown(command, machine), encoding="utf-8")
    if json:
        print_json(document)
        return
    print_table(report.title, list(COLUMNS), report.rows())
    if report.cascades:
        print_table("Cascade of three samples", list(CASCADE_COLUMNS), report.cascade_rows())
    typer.echo(f"{out / 'layouts.json'}\n{out / 'layouts.md'}")


async def _measure(
    student_url: str | None,
    student_model: str | None,
    only: list[str] | tuple[str, ...],
    demonstrations: int,
    steps: int,
    budgets: list[int] | None,
    priced_as: str,
    cascade: bool,
    hash_embedder: bool,
) -> LayoutReport:
    from tempfile import TemporaryDirectory

    from tutelage.benchmarks.copying_student import CopyingStudent
    from tutelage.overhead.layout_table import BUDGETS, measure
    from tutelage.overhead.layouts import served_model
    from tutelage.overhead.setting import minilm, open_setting
    from tutelage.retrieval.embedding import HashEmbedder
    from tutelage.runtime.models.openai import OpenAIModel

    def progress(line: str) -> None:
        typer.echo(f"{line} …", err=True)

    with TemporaryDirectory(prefix="tutelage-bench-") as folder:
        progress(f"bank of {demonstrations:,} demonstrations")
        made = HashEmbedder if hash_embedder else minilm
        async with open_setting(
            Path(folder), demonstrations=demonstrations, make_embedder=made
        ) as setting:
            chosen = tuple(budgets) if budgets else BUDGETS
            if student_url is None:
                return await measure(
                    setting,
                    CopyingStudent(),
                    "a stand-in that copies from its prompt",
                    steps=steps,
                    budgets=chosen,
                    only=only,
                    priced_as=priced_as,
                    cascade=cascade,
                    progress=progress,
                )
            model = student_model or served_model(student_url)
            async with OpenAIModel(student_url, model) as student:
                return await measure(
                    setting,
                    student,
                    f"{model} in vLLM",
                    steps=steps,
                    budgets=chosen,
                    only=only,
                    priced_as=priced_as,
                    cascade=cascade,
                    progress=progress,
                )
