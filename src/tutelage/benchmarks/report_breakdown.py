"""Success and teacher share of every arm by kind of task, and by how long the task is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tutelage.benchmarks.results import EpisodeResult, teacher_share
from tutelage.benchmarks.statistics import Interval, wilson_interval

TEACHER_ARM = "teacher"
UNSOLVED = "teacher failed"
_BANDS = 3


@dataclass(frozen=True, slots=True)
class CategoryShare:
    """One arm on one kind of task."""

    arm: str
    category: str
    episodes: int
    solved: int
    success: Interval
    """95 % by Wilson."""
    teacher_share: float
    """Of all steps, in [0, 1]."""
    demonstrations: float
    """Shown to the student, mean of an episode."""


def by_category(results: Sequence[EpisodeResult]) -> tuple[CategoryShare, ...]:
    """Success and teacher share of every arm by kind of task, arms in the order of their names."""
    return _grouped(results, lambda one: one.category)


def by_difficulty(results: Sequence[EpisodeResult]) -> tuple[CategoryShare, ...]:
    """The same by how many steps the teacher alone needed: three bands of about equal size.

    Tasks that the teacher did not solve are a band of their own; episodes without a partner of the
    teacher are left out. Nothing where the teacher did not play.
    """
    needed = {
        (one.task_id, one.seed): one.steps if one.success else None
        for one in results
        if one.arm == TEACHER_ARM
    }
    lengths = sorted(steps for steps in needed.values() if steps is not None)
    parts = range(1, _BANDS + 1) if lengths else ()
    ends = sorted({lengths[(len(lengths) * part - 1) // _BANDS] for part in parts})

    def band(one: EpisodeResult) -> str:
        steps = needed[one.task_id, one.seed]
        if steps is None:
            return UNSOLVED
        place = next(place for place, end in enumerate(ends) if steps <= end)
        first = lengths[0] if place == 0 else ends[place - 1] + 1
        return f"{first} to {ends[place]} steps" if first < ends[place] else f"{first} steps"

    partners = [one for one in results if (one.task_id, one.seed) in needed]
    order = {band(one): needed[one.task_id, one.seed] or float("inf") for one in partners}
    return tuple(sorted(_grouped(partners, band), key=lambda row: (row.arm, order[row.category])))


def share_table(rows: Sequence[CategoryShare], titles: Mapping[str, str]) -> str:
    """An HTML table: arms down, kinds of tasks across.

    Args:
        rows: What is shown.
        titles: Names for people by arm, in the order of the table.
    """
    kinds = list(dict.fromkeys(row.category for row in rows))
    cells = {(row.arm, row.category): row for row in rows}
    head = "".join(f"<th>{escape(kind.replace('_', ' '))}</th>" for kind in kinds)
    body = "".join(
        f"<tr><td>{escape(title)}</td>"
        f"{''.join(_cell(cells.get((arm, kind))) for kind in kinds)}</tr>"
        for arm, title in titles.items()
    )
    return f"<table><thead><tr><th>arm</th>{head}</tr></thead><tbody>{body}</tbody></table>"


def category_json(row: CategoryShare) -> dict[str, Any]:
    """One kind of task as JSON values."""
    return {
        "arm": row.arm,
        "category": row.category,
        "episodes": row.episodes,
        "solved": row.solved,
        "success_interval": [row.success.low, row.success.high],
        "teacher_share": row.teacher_share,
        "demonstrations": row.demonstrations,
    }


def _grouped(
    results: Sequence[EpisodeResult], kind: Callable[[EpisodeResult], str]
) -> tuple[CategoryShare, ...]:
    groups: dict[tuple[str, str], list[EpisodeResult]] = defaultdict(list)
    for result in results:
        groups[result.arm, kind(result)].append(result)
    rows = []
    for (arm, category), listed in sorted(groups.items()):
        solved = sum(one.success for one in listed)
        rows.append(
            CategoryShare(
                arm=arm,
                category=category,
                episodes=len(listed),
                solved=solved,
                success=wilson_interval(solved, len(listed)),
                teacher_share=teacher_share(listed) or 0.0,
                demonstrations=sum(one.demonstrations for one in listed) / len(listed),
            )
        )
    return tuple(rows)


def _cell(row: CategoryShare | None) -> str:
    if row is None:
        return "<td>-</td>"
    share = f"{row.teacher_share:.0%}"
    bar = f'<span class="share"><i style="width:{row.teacher_share:.1%}"></i></span>'
    return (
        f"<td>{share}{bar}<small>solved {row.solved}/{row.episodes} "
        f"[{row.success.low:.2f}, {row.success.high:.2f}]</small></td>"
    )
