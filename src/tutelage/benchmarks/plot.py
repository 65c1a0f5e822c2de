"""Cost against success, as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from tutelage.benchmarks.cost_chart import PANELS
from tutelage.benchmarks.economics import Pricing
from tutelage.benchmarks.report import STUDENT_ARM, Report
from tutelage.benchmarks.report_breakdown import TEACHER_ARM
from tutelage.runtime.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*Xhd"


def draw(report: Report, form: Literal["svg", "png"] = "svg") -> bytes:
    """Cost of an episode against success with 95 % Wilson bars, one panel for each pricing.

    The dashed line from the student to the teacher is what handing whole episodes to either at
    random would give; an arm above it earns its keep.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    # Figure without pyplot: no global state, no display.
    with rc_context({"svg.hashsalt": "tutelage", "svg.fonttype": "path", "font.size": 10}):
        figure = Figure(figsize=(10.5, 5.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (pricing, title) in zip(panels, PANELS, strict=True):
            _panel(axes, report, pricing)
            axes.set_title(title, fontsize=10)
        panels[0].set_ylabel("episodes solved")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        picture = io.BytesIO()
        # Dates would make equal reports differ.
        metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(picture, format=form, dpi=150, metadata=metadata)
    return picture.getvalue()


def _panel(axes: Axes, report: Report, pricing: Pricing) -> None:
    for place, row in enumerate(report.rows):
        share = row.share_solved
        below, above = share - row.success.low, row.success.high - share
        axes.errorbar(
            row.costs[pricing].episode_usd,
            share,
            # Rounding may put an end of the interval past the share itself.
            yerr=[[max(0.0, below)], [max(0.0, above)]],
            fmt=_MARKERS[place % len(_MARKERS)],
            color=f"C{place % 10}",
            markersize=7,
            capsize=3,
            elinewidth=1,
            label=f"{row.title} (n = {row.episodes})",
        )
    ends = [report.row(arm) for arm in (STUDENT_ARM, TEACHER_ARM)]
    known = [row for row in ends if row is not None]
    if len(known) == len(ends):
        axes.plot(
            [row.costs[pricing].episode_usd for row in known],
            [row.share_solved for row in known],
            linestyle="--",
            color="0.55",
            zorder=0,
            label="random mix of student and teacher",
        )
    axes.set_xlabel("USD an episode")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(left=0)
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.tick_params(axis="x", labelrotation=30)
    axes.grid(alpha=0.25)
