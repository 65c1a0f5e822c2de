"""The trial's table."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.training.objectives.registry import OBJECTIVES
from tutelage.training.objectives.trial.comparison import ArmResult

HEAD = (
    "| arm | needs | success | gain over `sft` (90 %) | verdict | step accuracy | "
    "AUROC of agreement | KL to the oracle |"
)
LINE = "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |"


def as_table(results: Sequence[ArmResult]) -> str:
    """Markdown: one row an arm, means over seeds."""
    rows = []
    for result in results:
        signal = OBJECTIVES[result.arm.objective].signal
        low, high = result.interval
        cells = (
            result.arm.name,
            f"T{signal.tier} {signal.value}",
            f"{result.mean('success'):.3f}",
            f"{result.mean_gain:+.3f} ({low:+.3f} to {high:+.3f})",
            result.verdict,
            f"{result.mean('accuracy'):.3f}",
            f"{result.mean('auroc'):.3f}",
            f"{result.mean('kl'):.2f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([HEAD, LINE, *rows])
