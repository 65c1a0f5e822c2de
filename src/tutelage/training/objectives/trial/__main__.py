"""``python -m tutelage.training.objectives.trial``: the comparison, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from tutelage.runtime.errors import MissingExtra


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the trial; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tutelage.training.objectives.trial",
        description="Every objective against plain fine-tuning in a toy world, at equal tokens.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seeds", type=int, default=None, help="worlds and first weights")
    parser.add_argument("--first-seed", type=int, default=0, help="where the seeds begin")
    parser.add_argument("--budget", type=int, default=None, help="tokens an arm and seed")
    parser.add_argument("--arms", nargs="*", default=None, help="names; the control is added")
    options = parser.parse_args(arguments)
    try:
        import torch
    except ModuleNotFoundError:
        print(MissingExtra("torch", "train"), file=sys.stderr)
        return 1
    from rich.console import Console
    from rich.progress import Progress

    from tutelage.training.objectives.trial.arms import ARMS, BUDGET, CONTROL
    from tutelage.training.objectives.trial.comparison import SEEDS, compare
    from tutelage.training.objectives.trial.report import as_table

    known = {arm.name for arm in ARMS}
    wanted = known if options.arms is None else {CONTROL, *options.arms}
    seeds = SEEDS if options.seeds is None else options.seeds
    budget = BUDGET if options.budget is None else options.budget
    if wanted - known or seeds < 1 or budget < 1:
        parser.error(
            f"arms {sorted(wanted - known)}, seeds {seeds}, budget {budget}: arms are "
            f"{', '.join(sorted(known))}; seeds and budget are at least 1"
        )
    arms = [arm for arm in ARMS if arm.name in wanted]
    torch.set_num_threads(1)
    wall, cpu = time.perf_counter(), time.process_time()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=len(arms) * seeds)
        results = compare(
            arms,
            seeds,
            budget,
            watch=lambda name: progress.update(task, advance=1, description=name),
            first_seed=options.first_seed,
        )
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    if options.json:
        found = {
            "seeds": seeds,
            "first_seed": options.first_seed,
            "budget_tokens": budget,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
        }
        print(json.dumps({**found, "arms": [result.as_json() for result in results]}, indent=2))
        return 0
    print(as_table(results))
    print(f"\n{seeds} seeds, {budget:,} tokens an arm and seed, {wall_s:.0f} s, {cpu_s:.0f} s CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
