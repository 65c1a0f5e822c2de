"""A replay from Python: collect a bank, play arms side by side, read the report.

No language model takes part: the teacher is the household's own oracle, and the arm ``recall``
does what most of the retrieved demonstrations did.

Run it: ``python examples/replay_household.py``
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tutelage import load_config
from tutelage.assembly import open_assembly
from tutelage.benchmarks.arms import find_arms
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.report import load_report
from tutelage.benchmarks.report_page import write_report
from tutelage.benchmarks.report_table import markdown
from tutelage.rehearsal import Play, collect, replay

ARMS = ("teacher", "recall", "recall-guarded")


async def compare(world: str, *, train: str, test: str, grammar: str, out: Path) -> str:
    """Plays a world's train split for the bank and its test split for the comparison.

    Returns:
        The table of the arms, in Markdown; figures of the run are in ``out/replay``.
    """
    config = load_config(
        environment={},
        overrides={
            "teacher.priced_as": "gpt-4.1",
            "student.priced_as": "gpt-4.1-mini",
            "retrieval.embedder": "hash",
            "cascade.grammar": grammar,
            "store.url": f"sqlite:///{out}/store.sqlite",
        },
    )
    async with open_assembly(config) as assembly:
        collected = await collect(assembly, Play(world, train, out / "bank"), Unwatched())
        print(f"bank: {collected.added} episodes, {collected.demonstrations} demonstrations")
        summary = await replay(
            assembly, Play(world, test, out / "replay"), find_arms(ARMS), Unwatched()
        )
        print(summary.line("the same script"))
    report = load_report(out / "replay")
    write_report(report, out / "replay")
    return markdown(report)


def main() -> None:
    """Plays the household."""
    with tempfile.TemporaryDirectory() as folder:
        table = compare(
            "household", train="train:12", test="test:4", grammar="household", out=Path(folder)
        )
        print(asyncio.run(table))


# A world is played in a process of its own, which imports this file again.
if __name__ == "__main__":
    main()
