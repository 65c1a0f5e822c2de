"""``python -m tutelage.training.diffusion.experiment``: does distilling for parallelism help?

Two languages, several seeds; a base student is trained on answers, then distilled on its own right
answers in several ways for the same number of steps, and every student is decoded under the same
rules. The control learns from the same answers without the certainty term.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.runtime.errors import ConfigError, TutelageError
from tutelage.training.diffusion.experiment_arms import run_seed
from tutelage.training.diffusion.experiment_report import against_control, as_json, draw, table
from tutelage.training.diffusion.experiment_seeds import SeedFolder, SeedResult
from tutelage.training.diffusion.experiment_settings import CUT, ExperimentSettings
from tutelage.training.diffusion.language import LANGUAGES, Language

POLL_S = 0.2
OnResult = Callable[[list[SeedResult]], None]


def run_experiment(
    settings: ExperimentSettings,
    languages: Sequence[Language] = LANGUAGES,
    *,
    jobs: int = 1,
    kept: SeedFolder | None = None,
    on_result: OnResult | None = None,
) -> list[SeedResult]:
    """Runs every seed of every language, with progress bars on stderr.

    Args:
        settings: Sizes.
        languages: What is spoken.
        jobs: Processes; each computes on one thread.
        kept: Seeds that were finished before are read from there, and new ones written.
        on_result: Told all that is finished, after each seed.

    Raises:
        NoExamples: A base student answered nothing right.
    """
    tasks, results = [], []
    for seed in range(settings.seeds):
        for language in languages:
            found = kept.read(language.name, seed) if kept is not None else None
            if found is None:
                tasks.append((language, seed))
            else:
                results.append(found)
    if not tasks:
        return _sorted(results)
    # A process that was forked while torch has threads may hang.
    spawned = multiprocessing.get_context("spawn")
    with spawned.Manager() as manager, _bars() as bars:
        told: Any = manager.Queue()
        shown = {
            (language.name, seed): bars.add_task(f"{language.name} {seed}", total=1.0, arm="waits")
            for language, seed in tasks
        }
        with ProcessPoolExecutor(jobs, mp_context=spawned) as pool:
            waiting: dict[Future[SeedResult], tuple[str, int]] = {
                pool.submit(
                    _run,
                    language.name,
                    seed,
                    settings,
                    told,
                    kept.base(language.name, seed) if kept is not None else None,
                ): (language.name, seed)
                for language, seed in tasks
            }
            while waiting:
                _show(told, bars, shown, settings)
                for future in [one for one in waiting if one.done()]:
                    key = waiting.pop(future)
                    try:
                        result = future.result()
                    except BaseException:
                        pool.shutdown(cancel_futures=True)
                        raise
                    if kept is not None:
                        kept.write(result)
                    results.append(result)
                    bars.update(shown[key], completed=1.0, arm="done")
                    if on_result is not None:
                        on_result(_sorted(results))
    return _sorted(results)


def _sorted(results: Sequence[SeedResult]) -> list[SeedResult]:
    return sorted(results, key=lambda result: (result.language, result.seed))


def _run(
    language: str, seed: int, settings: ExperimentSettings, told: Any, base: Path | None
) -> SeedResult:
    import torch

    torch.set_num_threads(1)
    spoken = next(one for one in LANGUAGES if one.name == language)
    parent = os.getppid()

    def tell(arm: str, done: int, of: int) -> None:
        if os.getppid() != parent:
            # Nobody waits for the result any more.
            sys.exit(1)
        if done % 10 == 0 or done == of:
            told.put((language, seed, arm, done / of))

    return run_seed(spoken, seed, settings, tell, base)


def _show(told: Any, bars: Any, shown: dict[tuple[str, int], Any], settings: Any) -> None:
    first = settings.bare_steps + settings.base_steps
    steps = [first] + [2 * settings.distil_steps] * (len(settings.arms) - 1)
    while True:
        try:
            language, seed, arm, share = told.get(timeout=POLL_S)
        except queue.Empty:
            return
        place = settings.arms.index(arm)
        done = (sum(steps[:place]) + share * steps[place]) / sum(steps)
        bars.update(shown[(language, seed)], completed=done, arm=arm)


def _bars() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} % {task.fields[arm]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def experiment(
    cut: Annotated[bool, typer.Option("--cut", help="A few minutes, one seed.")] = False,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", help="actions or reasoned; repeatable.", show_default=False),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Seeds.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Processes (default: one a core).", show_default=False),
    ] = None,
    own_errors: Annotated[
        bool, typer.Option("--own-errors", help="One more arm: training on own errors.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for results and pictures; an interrupted run goes on there.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compare ways of distilling a diffusion student for parallel decoding."""
    import orjson

    settings = CUT if cut else ExperimentSettings()
    settings = replace(settings, seeds=seeds or settings.seeds, own_errors=own_errors)
    known = {one.name: one for one in LANGUAGES}
    for name in language or ():
        if name not in known:
            raise ConfigError(f"--language {name}: use {' or '.join(known)}")
    chosen = [known[name] for name in language or known]
    described = {**asdict(settings), "cut": cut}

    def write(results: list[SeedResult]) -> None:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            made = orjson.dumps(as_json(results, described), option=orjson.OPT_INDENT_2)
            (out / "results.json").write_bytes(made)

    results = run_experiment(
        settings,
        chosen,
        jobs=jobs or len(os.sched_getaffinity(0)),
        kept=SeedFolder(out, settings) if out is not None else None,
        on_result=write,
    )
    write(results)
    if out is not None:
        (out / "curves.svg").write_bytes(draw(results))
        (out / "curves.png").write_bytes(draw(results, "png"))
    if json:
        made = orjson.dumps(as_json(results, described), option=orjson.OPT_INDENT_2)
        typer.echo(made.decode())
        return
    columns, rows = table(results)
    for line in [columns, ["---"] * len(columns), *rows]:
        typer.echo("| " + " | ".join(line) + " |")
    for said in against_control(results):
        typer.echo(said)


def main() -> None:
    """Runs the experiment; an expected error is one line on stderr."""
    try:
        typer.run(experiment)
    except TutelageError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
