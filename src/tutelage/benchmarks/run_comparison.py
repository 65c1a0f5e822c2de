"""Two replays beside each other, arm by arm, on the tasks and seeds that both played."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from tutelage.benchmarks.economics import Pricing, episode_cost_usd
from tutelage.benchmarks.manifest import RunSettings
from tutelage.benchmarks.report import load_report
from tutelage.benchmarks.report_table import usd
from tutelage.benchmarks.results import EpisodeResult, read_results, teacher_share
from tutelage.benchmarks.statistics import Interval, mcnemar_exact, mean_interval
from tutelage.benchmarks.summary import PRICINGS, SIGNIFICANT
from tutelage.runtime.errors import BenchmarkError


@dataclass(frozen=True, slots=True)
class CostChange:
    """Mean cost of an episode in both runs, under one pricing."""

    first_usd: float
    second_usd: float
    difference_usd: float
    """Second minus first."""
    interval: Interval | None
    """95 % of the difference, by Student's t over tasks; ``None`` with fewer than two."""


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """One arm in two runs, on the tasks and seeds that both played."""

    arm: str
    pairs: int
    unpaired: int
    """Episodes of either run that the other did not play."""
    first_success: float
    second_success: float
    only_first: int
    """Pairs that only the first run won."""
    only_second: int
    p: float
    """McNemar, exact and two-sided."""
    p_adjusted: float
    """The same after Holm's correction for the number of arms."""
    first_teacher_share: float
    second_teacher_share: float
    costs: dict[Pricing, CostChange]

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``insignificant``: the second run against the first."""
        if self.p_adjusted >= SIGNIFICANT:
            return "insignificant"
        return "better" if self.only_second > self.only_first else "worse"


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs beside each other."""

    first: str
    second: str
    rows: tuple[ArmComparison, ...]
    notes: tuple[str, ...]


def compare_folders(first: Path, second: Path) -> RunComparison:
    """Compares two results folders.

    Raises:
        BenchmarkError: One holds no episode, or they share no arm with a task and seed.
    """
    reports = [load_report(folder) for folder in (first, second)]
    settings = [report.settings for report in reports]
    return compare_runs(
        (str(first), read_results(first), settings[0]),
        (str(second), read_results(second), settings[1]),
    )


def compare_runs(
    first: tuple[str, Sequence[EpisodeResult], RunSettings],
    second: tuple[str, Sequence[EpisodeResult], RunSettings],
) -> RunComparison:
    """Compares the episodes of two runs by arm, task and seed.

    Tests: McNemar's exact test of the outcomes, with Holm's correction (1979) over arms. Costs:
    Student's t of paired differences, with the seeds of a task averaged first: they are not
    independent.

    Args:
        first: Name, episodes and settings of the run that is compared with.
        second: The same of the other run.

    Raises:
        BenchmarkError: They share no arm with a task and seed.
    """
    (name, before, settings), (other, after, other_settings) = first, second
    partners = {one.key: one for one in before}
    pairs: dict[str, list[tuple[EpisodeResult, EpisodeResult]]] = defaultdict(list)
    for one in after:
        if one.key in partners:
            pairs[one.arm].append((partners[one.key], one))
    if not pairs:
        raise BenchmarkError(
            f"{name} and {other} share no arm with a task and seed: replay both with the same "
            "world, split, arms and seeds"
        )
    raw = {arm: mcnemar_exact(*_discordant(listed)) for arm, listed in pairs.items()}
    adjusted = holm(raw)
    rows = tuple(
        _row(arm, listed, _count(before, arm) + _count(after, arm), raw[arm], adjusted[arm])
        for arm, listed in pairs.items()
    )
    return RunComparison(name, other, rows, tuple(_notes(settings, other_settings, before, after)))


def holm(values: dict[str, float]) -> dict[str, float]:
    """P-values after Holm's step-down correction (1979)."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for place, name in enumerate(sorted(values, key=lambda name: values[name])):
        highest = max(highest, min(1.0, (len(values) - place) * values[name]))
        adjusted[name] = highest
    return adjusted


def to_json(comparison: RunComparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    plain = asdict(comparison)
    for row, told in zip(comparison.rows, plain["rows"], strict=True):
        told["verdict"] = row.verdict
    return plain


def rich_table(comparison: RunComparison) -> Table:
    """The comparison for a terminal."""
    table = Table(
        title=f"{escape(comparison.second)} against {escape(comparison.first)}",
        caption="before and after on the same tasks and seeds; dollars with prompt caches, then "
        "every prompt token in full",
        show_lines=True,
    )
    table.add_column("arm", no_wrap=True)
    for header in (
        "pairs",
        "success",
        "won only by",
        "p (Holm)",
        "teacher share",
        "USD an episode",
    ):
        table.add_column(header)
    for row in comparison.rows:
        table.add_row(
            escape(row.arm),
            str(row.pairs),
            f"{row.first_success:.2f} -> {row.second_success:.2f}",
            f"first {row.only_first}, second {row.only_second}",
            f"{row.p:.3f} ({row.p_adjusted:.3f}) {row.verdict}",
            f"{row.first_teacher_share:.2f} -> {row.second_teacher_share:.2f}",
            "\n".join(_cost(row.costs[pricing]) for pricing in PRICINGS),
        )
    return table


def _cost(change: CostChange) -> str:
    told = f"{usd(change.first_usd)} -> {usd(change.second_usd)}"
    if change.interval is None:
        return told
    low, high = _signed(change.interval.low), _signed(change.interval.high)
    return f"{told}, {_signed(change.difference_usd)} ({low} to {high})"


def _signed(amount: float) -> str:
    return f"{'-' if amount < 0 else '+'}{usd(abs(amount))}"


def _row(
    arm: str,
    pairs: Sequence[tuple[EpisodeResult, EpisodeResult]],
    episodes: int,
    p: float,
    adjusted: float,
) -> ArmComparison:
    only_first, only_second = _discordant(pairs)
    return ArmComparison(
        arm=arm,
        pairs=len(pairs),
        unpaired=episodes - 2 * len(pairs),
        first_success=sum(one.success for one, _ in pairs) / len(pairs),
        second_success=sum(one.success for _, one in pairs) / len(pairs),
        only_first=only_first,
        only_second=only_second,
        p=p,
        p_adjusted=adjusted,
        first_teacher_share=teacher_share(one for one, _ in pairs) or 0.0,
        second_teacher_share=teacher_share(one for _, one in pairs) or 0.0,
        costs={pricing: _change(pairs, pricing) for pricing in PRICINGS},
    )


def _change(pairs: Sequence[tuple[EpisodeResult, EpisodeResult]], pricing: Pricing) -> CostChange:
    first = sum(episode_cost_usd(one, pricing) for one, _ in pairs) / len(pairs)
    second = sum(episode_cost_usd(one, pricing) for _, one in pairs) / len(pairs)
    by_task: dict[str, list[float]] = defaultdict(list)
    for one, other in pairs:
        change = episode_cost_usd(other, pricing) - episode_cost_usd(one, pricing)
        by_task[one.task_id].append(change)
    means = [sum(changes) / len(changes) for changes in by_task.values()]
    return CostChange(first, second, second - first, mean_interval(means))


def _discordant(pairs: Sequence[tuple[EpisodeResult, EpisodeResult]]) -> tuple[int, int]:
    only_first = sum(one.success and not other.success for one, other in pairs)
    only_second = sum(other.success and not one.success for one, other in pairs)
    return only_first, only_second


def _count(results: Sequence[EpisodeResult], arm: str) -> int:
    return sum(one.arm == arm for one in results)


def _notes(
    first: RunSettings,
    second: RunSettings,
    before: Sequence[EpisodeResult],
    after: Sequence[EpisodeResult],
) -> list[str]:
    notes = []
    old, new = first.model_dump(mode="json"), second.model_dump(mode="json")
    changed = [f"{key}: {old[key]} -> {new[key]}" for key in old if old[key] != new[key]]
    if changed:
        notes.append(f"The runs differ in settings, too: {'; '.join(changed)}.")
    lone = sorted({one.arm for one in before} ^ {one.arm for one in after})
    if lone:
        notes.append(f"Arms of one run only are left out: {', '.join(lone)}.")
    return notes
