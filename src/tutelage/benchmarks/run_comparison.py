"""Two replays beside each other, arm by arm, on the tasks and seeds that both played."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from tutelage.benchmarks.arms import ARMS
from tutelage.benchmarks.economics import Pricing, episode_cost_usd
from tutelage.benchmarks.manifest import RunSettings
from tutelage.benchmarks.report import load_report
from tutelage.benchmarks.report_table import p_value, usd
from tutelage.benchmarks.results import EpisodeResult, read_results, teacher_share
from tutelage.benchmarks.statistics import (
    Interval,
    mcnemar_exact,
    mean_interval,
    paired_difference_interval,
)
from tutelage.benchmarks.summary import PRICINGS, SIGNIFICANT
from tutelage.runtime.errors import BenchmarkError

_LONGEST = 60
"""Characters of a setting in a note."""


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
    difference: float
    """Second success minus first."""
    difference_interval: Interval | None
    """95 %: Newcombe's for pairs; with several seeds of a task Student's t over tasks, which are
    ``None`` with fewer than two of them."""
    only_first: int
    """Pairs that only the first run won."""
    only_second: int
    p: float
    """McNemar, exact and two-sided."""
    p_adjusted: float
    """The same after Holm's correction for the number of arms."""
    first_teacher_share: float
    second_teacher_share: float
    first_steps: float
    """Mean of an episode."""
    second_steps: float
    first_tokens: float
    """Mean of an episode, prompts and answers of student and teacher."""
    second_tokens: float
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
    first_settings: RunSettings
    second_settings: RunSettings
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
        for arm, listed in sorted(pairs.items(), key=lambda pair: _place(pair[0]))
    )
    notes = tuple(_notes(settings, other_settings, before, after))
    return RunComparison(name, other, settings, other_settings, rows, notes)


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
    return {
        "first": comparison.first,
        "second": comparison.second,
        "first_settings": comparison.first_settings.model_dump(mode="json"),
        "second_settings": comparison.second_settings.model_dump(mode="json"),
        "rows": [{**asdict(row), "verdict": row.verdict} for row in comparison.rows],
        "notes": list(comparison.notes),
    }


HEADERS: tuple[tuple[str, str], ...] = (
    ("pairs", "tasks and seeds that both runs played"),
    ("success", "share of the pairs that the first and the second run solved"),
    ("difference", "second minus first, with a 95 % interval"),
    ("USD an episode", "with prompt caches, then every prompt token in full; 95 % by Student's t"),
    ("p (Holm)", "exact McNemar test; in brackets corrected for the number of arms"),
    ("won only by", "pairs that one run alone solved"),
    ("teacher share", "of all steps"),
    ("steps", "mean of an episode"),
    ("tokens", "prompts and answers of student and teacher, mean of an episode"),
)
"""Names and explanations of the columns of ``cells``."""


def cells(row: ArmComparison) -> tuple[str, ...]:
    """What a table says of an arm, without its name; two prices are parted by a line break."""
    ends = row.difference_interval
    between = "" if ends is None else f" ({ends.low:+.2f} to {ends.high:+.2f})"
    return (
        str(row.pairs),
        f"{row.first_success:.2f} -> {row.second_success:.2f}",
        f"{row.difference:+.2f}{between}",
        "\n".join(_cost(row.costs[pricing]) for pricing in PRICINGS),
        f"{p_value(row.p)} ({p_value(row.p_adjusted).removeprefix('p ').removeprefix('= ')}) "
        f"{row.verdict}",
        f"first {row.only_first}, second {row.only_second}",
        f"{row.first_teacher_share:.2f} -> {row.second_teacher_share:.2f}",
        f"{row.first_steps:.1f} -> {row.second_steps:.1f}",
        f"{row.first_tokens:,.0f} -> {row.second_tokens:,.0f}",
    )


def rich_table(comparison: RunComparison) -> Table:
    """The comparison for a terminal."""
    table = Table(
        title=f"{escape(comparison.second)} against {escape(comparison.first)}",
        caption="before and after on the same tasks and seeds; dollars with prompt caches, then "
        "every prompt token in full",
        show_lines=True,
    )
    table.add_column("arm", no_wrap=True)
    for header, _ in HEADERS:
        table.add_column(header)
    for row in comparison.rows:
        table.add_row(escape(row.arm), *map(escape, cells(row)))
    return table


def markdown(comparison: RunComparison) -> str:
    """The comparison as a Markdown table with its notes below."""
    lines = [
        f"{comparison.second} against {comparison.first}",
        "",
        "| arm | " + " | ".join(header for header, _ in HEADERS) + " |",
        "| --- " * (len(HEADERS) + 1) + "|",
    ]
    for row in comparison.rows:
        listed = " | ".join(cell.replace("\n", "<br>") for cell in cells(row))
        lines.append(f"| `{row.arm}` | {listed} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in comparison.notes), ""])


def _cost(change: CostChange) -> str:
    told = f"{usd(change.first_usd)} -> {usd(change.second_usd)}"
    if change.interval is None or not change.difference_usd:
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
        difference=(only_second - only_first) / len(pairs),
        difference_interval=_difference_interval(pairs),
        p=p,
        p_adjusted=adjusted,
        first_teacher_share=teacher_share(one for one, _ in pairs) or 0.0,
        second_teacher_share=teacher_share(one for _, one in pairs) or 0.0,
        first_steps=sum(one.steps for one, _ in pairs) / len(pairs),
        second_steps=sum(one.steps for _, one in pairs) / len(pairs),
        first_tokens=sum(_tokens(one) for one, _ in pairs) / len(pairs),
        second_tokens=sum(_tokens(one) for _, one in pairs) / len(pairs),
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


def _difference_interval(
    pairs: Sequence[tuple[EpisodeResult, EpisodeResult]],
) -> Interval | None:
    by_task: dict[str, list[int]] = defaultdict(list)
    for one, other in pairs:
        by_task[one.task_id].append(other.success - one.success)
    if len(by_task) < len(pairs):
        return mean_interval([sum(changes) / len(changes) for changes in by_task.values()])
    only_first, only_second = _discordant(pairs)
    both = sum(one.success and other.success for one, other in pairs)
    neither = len(pairs) - both - only_first - only_second
    return paired_difference_interval(both, only_first, only_second, neither)


def _tokens(result: EpisodeResult) -> int:
    return sum(usage.prompt_tokens + usage.output_tokens for usage in result.usage.values())


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
    changed = [f"{key}: {was} -> {now}" for key, was, now in _changed(old, new)]
    if changed:
        notes.append(f"The runs differ in settings, too: {'; '.join(changed)}.")
    lone = sorted({one.arm for one in before} ^ {one.arm for one in after})
    if lone:
        notes.append(f"Arms of one run only are left out: {', '.join(lone)}.")
    return notes


def _changed(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Settings that differ, by their full names; one that is new and empty is none of them."""
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _changed(was, now, f"{prefix}{key}.")
        elif was != now:
            yield f"{prefix}{key}", _short(was), _short(now)


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _place(arm: str) -> tuple[int, str]:
    return (list(ARMS).index(arm) if arm in ARMS else len(ARMS), arm)
