"""The table of a report, for terminals and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from rich.markup import escape
from rich.table import Table

from tutelage.benchmarks.economics import Pricing
from tutelage.benchmarks.report import Report
from tutelage.benchmarks.statistics import Interval
from tutelage.benchmarks.summary import PRICINGS, ArmSummary

_INTERVAL_USD = re.compile(r" \[(?:\$|unbounded)[^]]*\]")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    header: str
    cell: Callable[[ArmSummary], str]
    explanation: str


def usd(amount: float | None) -> str:
    """Dollars with three significant digits, never in exponents; a dash for none."""
    if amount is None or not isfinite(amount):
        return "-" if amount is None else "unbounded"
    if amount == 0:
        return "$0"
    digits = 2
    while digits < 9 and abs(amount) < 10.0 ** (2 - digits):
        digits += 1
    return f"${amount:,.{digits}f}"


def _interval(interval: Interval | None, form: Callable[[float], str]) -> str:
    return f" [{form(interval.low)}, {form(interval.high)}]" if interval else ""


def _share(share: float) -> str:
    return f"{share:.2f}"


def _episodes(count: float | None) -> str:
    return "never" if count is None else f"{count:,.0f}"


def _tokens(row: ArmSummary) -> str:
    parts = []
    for usage in (row.tokens["student"], row.tokens["teacher"]):
        prompt, output = usage.prompt_tokens, usage.output_tokens
        parts.append(f"{prompt / row.episodes:,.0f}+{output / row.episodes:,.0f}")
    return " / ".join(parts)


def _both(form: Callable[[ArmSummary, Pricing], str]) -> Callable[[ArmSummary], str]:
    def cell(row: ArmSummary) -> str:
        values = [form(row, pricing) for pricing in PRICINGS]
        return values[0] if set(values) in ({"-"}, {"no bank"}) else " / ".join(values)

    return cell


def p_value(p: float) -> str:
    """A p-value with three digits, which is never 0."""
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def _verdict(row: ArmSummary) -> str:
    against = row.against_teacher
    return f"{p_value(against.p)} {against.verdict}" if against else "-"


def _cost_ratio(row: ArmSummary, pricing: Pricing) -> str:
    ratio = row.against_teacher.cost_ratio[pricing] if row.against_teacher else None
    return "-" if ratio is None else f"{ratio:.2f}"


def _break_even(row: ArmSummary, pricing: Pricing) -> str:
    if row.against_teacher is None:
        return "-"
    if not row.against_teacher.bank_episodes:
        return "no bank"
    if row.against_teacher.verdict == "worse":
        # Money saved by not solving tasks repays nothing.
        return "-"
    both = row.against_teacher.break_even[pricing]
    return f"{_episodes(both.as_extra_cost)}, {_episodes(both.as_real_work)}"


COLUMNS: tuple[Column, ...] = (
    Column(
        "success",
        lambda row: (
            f"{row.solved}/{row.episodes} = {row.share_solved:.2f}{_interval(row.success, _share)}"
        ),
        "solved episodes over all, with a 95 % Wilson interval",
    ),
    Column(
        "vs teacher",
        _verdict,
        "exact McNemar test on paired episodes",
    ),
    Column("steps", lambda row: f"{row.steps:.1f}", "mean steps of an episode"),
    Column("teacher share", lambda row: _share(row.teacher_share), "of all steps"),
    Column(
        "tokens",
        _tokens,
        "prompt+output tokens an episode, student / teacher",
    ),
    Column(
        "USD an episode",
        _both(lambda row, pricing: usd(row.costs[pricing].episode_usd)),
        "mean over episodes, cached / uncached",
    ),
    Column(
        "of teacher's",
        _both(_cost_ratio),
        "cost relative to the teacher alone on the same episodes, cached / uncached",
    ),
    Column(
        "USD a solved task",
        _both(
            lambda row, pricing: (
                usd(row.costs[pricing].solved_usd)
                + _interval(row.solved_usd_interval[pricing] if row.solved else None, usd)
            )
        ),
        "all spending over solved episodes, cached / uncached, 95 % bootstrap intervals",
    ),
    Column(
        "break-even",
        _both(_break_even),
        "episodes until the bank is repaid (as extra cost, as real work), cached / uncached",
    ),
)


def rich_table(report: Report) -> Table:
    """The report for a terminal; the intervals of costs are left to the other forms."""
    table = Table(
        title=f"{report.settings.world}, {report.settings.split}",
        caption="two lines of dollars: with prompt caches, and every prompt token in full",
        show_lines=True,
    )
    table.add_column("arm", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.header)
    for row in report.rows:
        cells = (_INTERVAL_USD.sub("", column.cell(row)) for column in COLUMNS)
        # Text in brackets would be read as markup.
        table.add_row(row.arm, *(escape(cell).replace(" / ", "\n") for cell in cells))
    return table


def markdown(report: Report) -> str:
    """The report as a Markdown table with its notes below."""
    lines = [
        "| arm | " + " | ".join(column.header for column in COLUMNS) + " |",
        "| --- " * (len(COLUMNS) + 1) + "|",
    ]
    for row in report.rows:
        cells = " | ".join(column.cell(row) for column in COLUMNS)
        lines.append(f"| {row.title} (`{row.arm}`) | {cells} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in report.notes), ""])
