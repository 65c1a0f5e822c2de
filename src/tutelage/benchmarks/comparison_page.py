"""Two replays beside each other as one self-contained web page, and all its files in a folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tutelage.benchmarks.cost_chart import ChartPoint, cost_chart
from tutelage.benchmarks.page_style import html_page
from tutelage.benchmarks.run_comparison import (
    HEADERS,
    ArmComparison,
    CostChange,
    RunComparison,
    cells,
    markdown,
    to_json,
)
from tutelage.benchmarks.summary import PRICINGS
from tutelage.runtime.errors import BenchmarkError

_ADDED = re.compile(r"([^(]+?)(?:, (?=[+-]\$)| (?=\())(.*)")
"""A value, and behind a comma or before a bracket what is added to it."""


@dataclass(frozen=True, slots=True)
class WrittenComparison:
    """The files of a comparison."""

    page: Path
    table: Path
    figures: Path


def comparison_page(comparison: RunComparison) -> str:
    """The comparison as HTML that loads nothing else."""
    worlds = dict.fromkeys(
        one.world for one in (comparison.first_settings, comparison.second_settings)
    )
    title = f"{' and '.join(worlds)}: two runs compared"
    oracle = ""
    kinds = (comparison.first_settings.teacher_kind, comparison.second_settings.teacher_kind)
    if "oracle" in kinds:
        which = "both runs" if kinds[0] == kinds[1] else "one run"
        oracle = (
            f'<p class="caution">The teacher of {which} is an oracle, not a language model: its '
            "tokens are priced as if a model had read the same prompt.</p>"
        )
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    columns = "".join(
        f"<dt>{escape(header)}</dt><dd>{escape(explanation)}</dd>"
        for header, explanation in HEADERS
    )
    body = f"""<h1>{escape(title)}</h1>
<p class="lead">second: {escape(comparison.second)}; first: {escape(comparison.first)}</p>
{oracle}
{cost_chart([_point(row) for row in comparison.rows])}
<p class="about">Hollow marks are the first run, filled ones the second, on the tasks and seeds \
that both played.</p>
<h2>What changed</h2>
<ul>{"".join(f"<li>{_sentence(row)}</li>" for row in comparison.rows)}</ul>
<h2>Arms</h2>
<div class="scroll">{_table(comparison)}</div>
<h2>Settings</h2>
<dl>{_settings(comparison)}</dl>
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
<h2>Columns</h2>
<dl>{columns}</dl>"""
    return html_page(title, body)


def write_comparison(comparison: RunComparison, folder: Path) -> WrittenComparison:
    """Writes ``comparison.html``, ``comparison.md`` and ``comparison.json``.

    Raises:
        BenchmarkError: The folder cannot be written.
    """
    html, table, figures = (folder / f"comparison.{form}" for form in ("html", "md", "json"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        html.write_text(comparison_page(comparison), encoding="utf-8")
        table.write_text(markdown(comparison), encoding="utf-8")
        figures.write_text(json.dumps(to_json(comparison), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"{folder} cannot be written: {error.strerror}") from error
    return WrittenComparison(html, table, figures)


def _point(row: ArmComparison) -> ChartPoint:
    before = {pricing: row.costs[pricing].first_usd for pricing in PRICINGS}
    return ChartPoint(
        title=f"{row.arm} (n = {row.pairs})",
        success=row.second_success,
        # Of each run alone; what is compared is the difference, which the table tells.
        success_interval=None,
        episode_usd={pricing: row.costs[pricing].second_usd for pricing in PRICINGS},
        episode_usd_interval=dict.fromkeys(PRICINGS, None),
        before=(before, row.first_success),
    )


def _sentence(row: ArmComparison) -> str:
    """One line for a reader who wants no table."""
    ends = row.difference_interval
    between = "" if ends is None else f" (95 % {100 * ends.low:+.0f} to {100 * ends.high:+.0f})"
    points = f"{100 * row.difference:+.0f} points" if row.difference else "unchanged"
    told = f"success {points}{between}, {row.verdict}"
    parts = [f"<b>{escape(row.arm)}</b>: {told}"]
    for pricing in PRICINGS:
        change = row.costs[pricing]
        if change.first_usd:
            share = change.difference_usd / change.first_usd
            told = f"{share:+.0%}{_certainty(change)}" if share else "unchanged"
            parts.append(f"cost {pricing} {told}")
    return "; ".join(parts)


def _certainty(change: CostChange) -> str:
    ends = change.interval
    return " (may be chance)" if ends is not None and ends.low <= 0 <= ends.high else ""


def _table(comparison: RunComparison) -> str:
    head = "".join(
        f'<th title="{escape(explanation)}">{escape(header)}</th>'
        for header, explanation in HEADERS
    )
    body = []
    for row in comparison.rows:
        listed = [
            f"<td{_kind(header, row)}>{_stacked(cell)}</td>"
            for (header, _), cell in zip(HEADERS, cells(row), strict=True)
        ]
        body.append(f"<tr><td>{escape(row.arm)}</td>{''.join(listed)}</tr>")
    return (
        f"<table><thead><tr><th>arm</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _stacked(cell: str) -> str:
    """Prices below each other, what is added to a value in small type."""
    parts = []
    for line in cell.replace("->", "→").split("\n"):
        split = _ADDED.fullmatch(line)
        value, added = split.groups() if split else (line, "")
        small = f"<small>{escape(added)}</small>" if added else ""
        parts.append(f"<div>{escape(value)}{small}</div>")
    return "".join(parts)


def _kind(header: str, row: ArmComparison) -> str:
    return f' class="{row.verdict}"' if header == "p (Holm)" else ""


def _settings(comparison: RunComparison) -> str:
    shown = ("split", "student", "teacher", "student_priced_as", "teacher_priced_as", "max_steps")
    first = comparison.first_settings.model_dump(mode="json")
    second = comparison.second_settings.model_dump(mode="json")
    rows = []
    for name in shown:
        same = first[name] == second[name]
        told = str(second[name]) if same else f"{first[name]} -> {second[name]}"
        rows.append(f"<dt>{name.replace('_', ' ')}</dt><dd>{escape(told)}</dd>")
    return "".join(rows)
