"""What each generation of a student solves, asks of the teacher, and costs."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tutelage.runtime.errors import MissingExtra

_PANELS = (
    ("share", "tasks solved, 95 %"),
    ("teacher_share", "teacher's share of the steps"),
    ("solved_usd", "USD a solved task, cached"),
)
_MARKERS = "os^Dv*PX"


def draw_generations(
    rows: Sequence[Mapping[str, Any]], form: Literal["svg", "png"] = "png"
) -> bytes:
    """One curve an arm, generations from left to right, one panel a measure.

    Args:
        rows: With ``generation``, ``arm``, ``episodes``, ``solved``, ``low``, ``high``,
            ``teacher_share`` and ``solved_usd``, which may be ``None``.
        form: Format of the picture.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    arms: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        arms[row["arm"]].append({**row, "share": row["solved"] / row["episodes"]})
    # Figure without pyplot: no global state, no display.
    with rc_context({"svg.hashsalt": "tutelage", "svg.fonttype": "path", "font.size": 10}):
        figure = Figure(figsize=(12, 4.4), layout="constrained")
        panels = figure.subplots(1, len(_PANELS))
        for axes, (field, title) in zip(panels, _PANELS, strict=True):
            for place, (arm, played) in enumerate(arms.items()):
                known = [row for row in played if row[field] is not None]
                below = above = None
                if field == "share":
                    below = [row[field] - row["low"] for row in known]
                    above = [row["high"] - row[field] for row in known]
                axes.errorbar(
                    # Beside one another, so that intervals can be told apart.
                    [row["generation"] + 0.04 * place for row in known],
                    [row[field] for row in known],
                    yerr=[below, above] if below is not None else None,
                    marker=_MARKERS[place % len(_MARKERS)],
                    capsize=2,
                    label=arm,
                )
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("generation; 0 is not trained")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(bottom=0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        picture = io.BytesIO()
        figure.savefig(picture, format=form, dpi=150)
    return picture.getvalue()
