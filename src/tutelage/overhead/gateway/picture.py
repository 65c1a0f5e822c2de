"""One run as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from tutelage.overhead.gateway.contenders import DIRECT
from tutelage.overhead.gateway.run import Measured
from tutelage.runtime.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(measured: Measured, form: Literal["svg", "png"] = "png") -> bytes:
    """CPU a request, added median time, and memory under failing requests.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    # Figure without pyplot: no global state, no display.
    with rc_context({"svg.hashsalt": "tutelage", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=(13, 4.4), layout="constrained")
        cpu, added, memory = figure.subplots(1, 3)
        _bars(cpu, measured, "cpu_us", "CPU a request, us")
        _bars(added, measured, "added_p50_ms", "added to the median time, ms")
        _memory(memory, measured)
        handles, labels = cpu.get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
        picture = io.BytesIO()
        # Dates would make equal reports differ.
        metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(picture, format=form, dpi=150, metadata=metadata)
    return picture.getvalue()


def _bars(axes: Axes, measured: Measured, figure: str, title: str) -> None:
    found = measured.cells
    settings = list(dict.fromkeys(cell.case for cell in found))
    names = [name for name in measured.versions if name != DIRECT]
    width = 0.8 / max(1, len(names))
    for place, name in enumerate(names):
        values = {cell.case: getattr(cell, figure) for cell in found if cell.contender == name}
        shown = [(at, values.get(case)) for at, case in enumerate(settings)]
        # A logarithm has no room for nothing, or less.
        there = [(at, value) for at, value in shown if value is not None and value > 0]
        axes.bar(
            [at + (place + 0.5) * width - 0.4 for at, _ in there],
            [value for _, value in there],
            width,
            label=name,
            color=f"C{place}",
        )
    if settings:
        axes.set_yscale("log")
        axes.set_xticks(range(len(settings)), [case.name for case in settings], rotation=30)
    axes.grid(alpha=0.25, axis="y")
    axes.set_title(title, fontsize=10)


def _memory(axes: Axes, measured: Measured) -> None:
    soak = measured.soak
    axes.set_title("resident memory, half of the requests failing, MB", fontsize=10)
    axes.grid(alpha=0.25)
    if soak is None:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    axes.plot(soak.requests, soak.rss_mb, marker="o", markersize=3, color="C1")
    axes.set_ylim(0, 1.2 * max(soak.rss_mb))
    axes.set_xlabel("requests")
