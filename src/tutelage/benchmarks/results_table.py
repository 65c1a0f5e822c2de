"""Several runs in one table: what each arm reached and cost, world by world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.benchmarks.economics import Pricing
from tutelage.benchmarks.manifest import RunSettings
from tutelage.benchmarks.report import Report, interval_ends, load_report
from tutelage.benchmarks.report_table import p_value, usd
from tutelage.benchmarks.summary import PRICINGS, ArmSummary
from tutelage.runtime.errors import BenchmarkError

ORACLE_MARK = "†"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One arm of one run."""

    run: str
    """Folder of the run."""
    settings: RunSettings
    summary: ArmSummary

    @property
    def is_oracle(self) -> bool:
        """Whether an oracle stood for the teacher."""
        return self.settings.teacher_kind == "oracle"


@dataclass(frozen=True, slots=True)
class ResultsTable:
    """Arms of several runs, run by run."""

    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]


def results_table(folders: Sequence[Path], arms: Sequence[str] = ()) -> ResultsTable:
    """Reads several results folders, also ones that are still written to.

    Args:
        folders: Of replays or policy studies, in the order of the table.
        arms: Those that are shown, in this order; none: all.

    Raises:
        BenchmarkError: A folder is named twice, holds no finished episode, or none of the arms.
    """
    twice = [str(folder) for folder, times in Counter(folders).items() if times > 1]
    if twice:
        raise BenchmarkError(f"{twice[0]} is named twice: name each run once")
    reports = [(str(folder), load_report(folder)) for folder in folders]
    rows = [
        TableRow(name, report.settings, summary)
        for name, report in reports
        for summary in _chosen(name, report, arms)
    ]
    return ResultsTable(tuple(rows), tuple(_notes(reports)))


def markdown(table: ResultsTable) -> str:
    """The table as Markdown with its notes below."""
    shown = [(header, cell) for header, cell in _COLUMNS if _tells(table, header)]
    lines = [
        "| " + " | ".join(header for header, _ in shown) + " |",
        "| " + " | ".join("---" for _ in shown) + " |",
    ]
    lines += ["| " + " | ".join(cell(row) for _, cell in shown) + " |" for row in table.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def to_json(table: ResultsTable) -> dict[str, Any]:
    """The table as JSON values; an unbounded end of an interval is ``None``."""
    return {"rows": [_row_json(row) for row in table.rows], "notes": list(table.notes)}


def _chosen(name: str, report: Report, arms: Sequence[str]) -> list[ArmSummary]:
    if not arms:
        return list(report.rows)
    found = [row for arm in arms if (row := report.row(arm)) is not None]
    if not found:
        played = ", ".join(row.arm for row in report.rows)
        raise BenchmarkError(f"{name} holds none of the arms {', '.join(arms)}; it has {played}")
    return found


def _tells(table: ResultsTable, header: str) -> bool:
    """Whether a column says more than the others and the notes do."""
    if header == "student":
        return len({row.settings.student for row in table.rows}) > 1
    if header == "run":
        shown = {row.run: (_world(row), row.settings.student) for row in table.rows}
        return len(set(shown.values())) < len(shown)
    return True


def _world(row: TableRow) -> str:
    mark = f" {ORACLE_MARK}" if row.is_oracle else ""
    return f"{row.settings.world} ({row.settings.split}){mark}"


def _solved(row: TableRow) -> str:
    one = row.summary
    return (
        f"{one.solved}/{one.episodes} = {one.share_solved:.2f} "
        f"[{one.success.low:.2f}, {one.success.high:.2f}]"
    )


def _against(row: TableRow) -> str:
    against = row.summary.against_teacher
    return "-" if against is None else f"{p_value(against.p)} {against.verdict}"


def _solved_usd(pricing: Pricing) -> Callable[[TableRow], str]:
    def cell(row: TableRow) -> str:
        one = row.summary
        ends = one.solved_usd_interval[pricing] if one.solved else None
        told = usd(one.costs[pricing].solved_usd)
        return told if ends is None else f"{told} [{usd(ends.low)}, {usd(ends.high)}]"

    return cell


def _ratio(row: TableRow) -> str:
    against = row.summary.against_teacher
    ratio = against.cost_ratio["cached"] if against is not None else None
    return "-" if ratio is None else f"{ratio:.2f}"


def _tokens(row: TableRow) -> str:
    parts = []
    for usage in (row.summary.tokens["student"], row.summary.tokens["teacher"]):
        per = (count / row.summary.episodes for count in (usage.prompt_tokens, usage.output_tokens))
        parts.append("+".join(f"{count:,.0f}" for count in per))
    return " / ".join(parts)


_COLUMNS: tuple[tuple[str, Callable[[TableRow], str]], ...] = (
    ("world (split)", _world),
    ("student", lambda row: row.settings.student),
    ("run", lambda row: row.run),
    ("arm", lambda row: f"`{row.summary.arm}`"),
    ("solved", _solved),
    ("vs teacher", _against),
    ("teacher share", lambda row: f"{row.summary.teacher_share:.2f}"),
    ("USD a solved task, uncached", _solved_usd("uncached")),
    ("USD a solved task, cached", _solved_usd("cached")),
    ("of teacher's", _ratio),
    ("tokens an episode, student / teacher", _tokens),
    ("tasks", lambda row: f"{row.summary.tasks}"),
)


def _notes(reports: Sequence[tuple[str, Report]]) -> list[str]:
    notes = []
    oracles = {
        f"{report.settings.world}: {report.settings.teacher}": None
        for _, report in reports
        if report.settings.teacher_kind == "oracle"
    }
    if oracles:
        notes.append(
            f"{ORACLE_MARK} An oracle stood for the teacher, not a language model ("
            f"{'; '.join(oracles)}): its tokens are priced as if a model had read the same prompt "
            "and written the same answer."
        )
    students = dict.fromkeys(report.settings.student for _, report in reports)
    if len(students) == 1:
        notes.append(f"Student: {next(iter(students))}.")
    prices = dict.fromkeys(
        f"{one.teacher_priced_as} (teacher) / {one.student_priced_as} (student), prices of "
        f"{one.prices_date}"
        for one in (report.settings for _, report in reports)
    )
    notes.append(f"Tokens priced as {'; '.join(prices)}.")
    notes.append(
        "Brackets are 95 % intervals: Wilson for solved episodes, bootstrap over tasks for costs. "
        "'vs teacher': exact McNemar test on the episodes that both played; 'of teacher's': cost "
        "on these, with prompt caches. Tokens are prompt+output."
    )
    for name, report in reports:
        counts = {row.episodes for row in report.rows}
        if len(counts) > 1:
            listed = ", ".join(f"{row.arm} {row.episodes}" for row in report.rows)
            notes.append(f"{name}: arms differ in episodes ({listed}).")
    runs = "; ".join(f"{report.settings.world}: {name}" for name, report in reports)
    notes.append(f"Runs: {runs}.")
    return notes


def _row_json(row: TableRow) -> dict[str, Any]:
    one = row.summary
    against = one.against_teacher
    return {
        "run": row.run,
        "world": row.settings.world,
        "split": row.settings.split,
        "student": row.settings.student,
        "teacher": row.settings.teacher,
        "is_oracle": row.is_oracle,
        "arm": one.arm,
        "episodes": one.episodes,
        "tasks": one.tasks,
        "solved": one.solved,
        "success": one.share_solved,
        "success_interval": interval_ends(one.success),
        "teacher_share": one.teacher_share,
        "steps": one.steps,
        "p_against_teacher": None if against is None else against.p,
        "verdict": None if against is None else against.verdict,
        "cost_ratio": None if against is None else dict(against.cost_ratio),
        "solved_usd": {pricing: one.costs[pricing].solved_usd for pricing in PRICINGS},
        "solved_usd_interval": {
            pricing: interval_ends(one.solved_usd_interval[pricing]) for pricing in PRICINGS
        },
        "episode_usd": {pricing: one.costs[pricing].episode_usd for pricing in PRICINGS},
        "tokens": {role: usage.model_dump() for role, usage in one.tokens.items()},
    }
