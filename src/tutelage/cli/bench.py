"""``tutelage bench``: what our own code costs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import Json
from tutelage.cli.output import print_json, print_table


def bench(
    student_url: Annotated[
        str | None,
        typer.Option(
            help="An idle vLLM, for prefix-cache hits and our share of a step.", show_default=False
        ),
    ] = None,
    student_model: Annotated[str, typer.Option(help="Its name there.")] = "SmolLM2-135M-Instruct",
    demonstrations: Annotated[int, typer.Option(min=70, help="Size of the bank.")] = 10_000,
    steps: Annotated[int, typer.Option(min=5, help="Steps timed.")] = 300,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of embedding.")] = 6,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes sent for the layouts.")] = 6,
    json: Json = False,
) -> None:
    """Measure step overhead, embedding and prompt layouts, side by side in one run."""
    import tempfile

    from tutelage.assembly import token_counter
    from tutelage.overhead.embedding import measure_embedding
    from tutelage.overhead.figure import Figure
    from tutelage.overhead.layouts import measure_layouts
    from tutelage.overhead.steps import measure_steps
    from tutelage.runtime.config import Config

    count_tokens = token_counter(Config())
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        typer.echo("steps …", err=True)
        figures = asyncio.run(
            measure_steps(
                where, demonstrations=demonstrations, steps=steps, count_tokens=count_tokens
            )
        )
        typer.echo("embedding …", err=True)
        figures += measure_embedding(rounds)
        if student_url is None:
            skipped = "skipped: give --student-url, `tutelage student start` prints one"
            figures.append(Figure("layout", "cache hits", None, "", skipped))
        else:
            typer.echo("layouts …", err=True)
            found = asyncio.run(
                measure_layouts(where, student_url, student_model, count_tokens, episodes=episodes)
            )
            figures += found
            ours = next(one.value for one in figures if one.name == "total") or 0.0
            call_s = next(one.value for one in found if one.name == "per-step, student call") or 1.0
            share = ours / 1000 / (ours / 1000 + call_s)
            figures.append(Figure("step", "share of a step", share * 100, "%", "per-step layout"))
    if json:
        print_json([asdict(figure) for figure in figures])
        return
    print_table(
        "What our own code costs (one machine, one run; ratios carry over)",
        ["part", "measure", "value", "note"],
        [[figure.part, figure.name, figure.text, figure.note] for figure in figures],
    )
