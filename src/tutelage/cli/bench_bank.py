"""``tutelage bench bank``: how a search grows with the bank."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import Json
from tutelage.cli.output import print_json, print_table


def bank(
    size: Annotated[
        list[int] | None,
        typer.Option(
            min=100, help="Rows; repeatable (default: 1e4, 1e5 and 1e6).", show_default=False
        ),
    ] = None,
    postgres_url: Annotated[
        str | None,
        typer.Option(
            help="A database with pgvector, measured beside FAISS; a tenant of its own is used.",
            show_default=False,
        ),
    ] = None,
    largest_pgvector: Annotated[
        int, typer.Option(min=0, help="Larger sizes are measured with FAISS only.")
    ] = 1_000_000,
    queries: Annotated[int, typer.Option(min=1, help="Searches a measure.")] = 500,
    added: Annotated[int, typer.Option(min=1, help="Rows added while others search.")] = 1_000,
    demonstrations: Annotated[
        int, typer.Option(min=1, help="Household demonstrations whose states are real rows.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    hash_embedder: Annotated[
        bool, typer.Option("--hash-embedder", help="Without MiniLM, for trials.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the figures; run again to go on.")] = Path(
        "out/bank-scale"
    ),
    json: Json = False,
) -> None:
    """Measure search time, recall, memory and adds while serving, for banks of several sizes.

    Rows are vectors of real states, and above their number vectors between near ones.
    """
    import shlex
    import sys

    import orjson

    from tutelage.overhead.bank_scale import ScalePlan
    from tutelage.overhead.bank_scale_run import run_scale
    from tutelage.overhead.bank_scale_vectors import real_vectors
    from tutelage.overhead.report import BenchReport, Machine
    from tutelage.overhead.setting import minilm
    from tutelage.retrieval.embedding import HashEmbedder
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.store.database import redact

    # Before the work, which is a load itself.
    machine = Machine.here()
    plan = ScalePlan(
        sizes=tuple(size or ScalePlan().sizes), queries=queries, added=added, seed=seed
    )
    embedder = HashEmbedder() if hash_embedder else minilm()

    def say(line: str) -> None:
        typer.echo(f"{line} …", err=True)

    say("vectors of real states")
    real = asyncio.run(
        real_vectors(embedder, cache_dir(), demonstrations, hash_embedder=hash_embedder)
    )
    figures = run_scale(
        real, plan, out, postgres_url=postgres_url, largest_pgvector=largest_pgvector, say=say
    )
    # The address may hold a password.
    words = [
        word.replace(postgres_url, redact(postgres_url)) if postgres_url else word
        for word in sys.argv[1:]
    ]
    command = shlex.join(["tutelage", *words])
    report = BenchReport(command, machine, tuple(figures))
    (out / "bank-scale.json").write_bytes(
        orjson.dumps(report.document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    (out / "bank-scale.md").write_text(report.markdown(), encoding="utf-8")
    if json:
        print_json(report.document())
        return
    print_table(
        f"Banks by size (one machine, load {machine.load:.1f} at the start)",
        ["index, rows", "measure", "value", "note"],
        [[figure.part, figure.name, figure.text, figure.note] for figure in figures],
    )
    typer.echo(f"{out / 'bank-scale.json'}\n{out / 'bank-scale.md'}")
