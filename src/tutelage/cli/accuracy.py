"""``tutelage accuracy``: does the student name the teacher's next action?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import ConfigFile, Json, Setting
from tutelage.cli.output import print_json, print_table
from tutelage.cli.playing import exit_with, names, play_with

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.accuracy import AccuracyRow
    from tutelage.benchmarks.progress import Watcher


def accuracy(
    folder: Annotated[Path, typer.Argument(help="Folder of a replay that has the arm teacher.")],
    arms: Annotated[str, typer.Option(help="student, demos, recall.")] = "student,demos,recall",
    steps: Annotated[int, typer.Option(min=1, help="Teacher steps, drawn at random.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Steps at once.")] = 4,
    name: Annotated[
        str, typer.Option(help="File in the folder; another one for other settings.")
    ] = "steps.jsonl",
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Measure step accuracy on the teacher's own path (teacher-forced)."""
    from rich.console import Console
    from rich.progress import Progress

    from tutelage.benchmarks.accuracy import ScoreFile, summarise
    from tutelage.rehearsal import measure_accuracy

    scores = ScoreFile(folder / name)

    console = Console(stderr=True)
    bars = Progress(console=console, disable=json or not console.is_terminal)

    def moved(arm: str, done: int, planned: int) -> None:
        known = {task.description: task.id for task in bars.tasks}
        bar = known[arm] if arm in known else bars.add_task(arm, total=planned)
        bars.update(bar, completed=done)

    async def run(assembly: Assembly, watcher: Watcher, stop: asyncio.Event) -> bool:
        with bars:
            await measure_accuracy(
                assembly,
                folder,
                scores,
                names=names(arms),
                steps=steps,
                seed=seed,
                jobs=jobs,
                stop=stop,
                progress=moved,
            )
        return stop.is_set()

    interrupted = play_with(config, setting, run, quiet=True)
    rows = summarise(scores.scores)
    if json:
        print_json([row.model_dump(mode="json") for row in rows])
    else:
        _print(rows, folder)
    if interrupted:
        typer.echo(
            f"interrupted: {len(scores.scores)} scores kept; go on with: the same command", err=True
        )
        exit_with("interrupted")


def _print(rows: list[AccuracyRow], folder: Path) -> None:
    print_table(
        f"Step accuracy, teacher-forced ({folder})",
        [
            "arm",
            "steps",
            "exact match (95 %)",
            "go",
            "handle",
            "other",
            "agreed",
            "exact if agreed",
            "if split",
            "prompt tokens",
            "s a call",
        ],
        [
            [
                row.arm,
                row.steps,
                f"{row.exact:.2f} ({row.exact_low:.2f}-{row.exact_high:.2f})",
                *(_of(row.exact_by_kind.get(kind)) for kind in ("go", "handle", "other")),
                "-" if row.agreed_share is None else f"{row.agreed_share:.2f}",
                _of(row.exact_if_agreed),
                _of(row.exact_if_split),
                f"{row.prompt_tokens:.0f}",
                f"{row.latency_s:.2f}",
            ]
            for row in rows
        ],
    )


def _of(pair: tuple[int, int] | None) -> str:
    return f"{pair[0]}/{pair[1]}" if pair and pair[1] else "-"
