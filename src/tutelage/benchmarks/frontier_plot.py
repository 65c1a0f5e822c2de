"""Families of policies as curves of cost against success."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tutelage.runtime.errors import MissingExtra

_MARKERS = "os^Dv*PXhd<>"


def draw_frontier(arms: Sequence[Mapping[str, Any]], form: Literal["svg", "png"] = "png") -> bytes:
    """One curve a family, one panel a pricing.

    Args:
        arms: Rows with ``family``, ``success``, ``cost_usd`` and ``uncached_cost_usd``.
        form: Format of the picture.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    families: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for arm in arms:
        families[arm["family"]].append(arm)
    # Figure without pyplot: no global state, no display.
    with rc_context({"svg.hashsalt": "tutelage", "svg.fonttype": "path", "font.size": 10}):
        figure = Figure(figsize=(11, 5.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        titles = (("cost_usd", "with prompt caches"), ("uncached_cost_usd", "every token in full"))
        for axes, (field, title) in zip(panels, titles, strict=True):
            for place, (family, rows) in enumerate(families.items()):
                ordered = sorted(rows, key=lambda row: float(row[field]))
                axes.plot(
                    [row[field] for row in ordered],
                    [row["success"] for row in ordered],
                    marker=_MARKERS[place % len(_MARKERS)],
                    linewidth=2 if family in ("calibrated", "benefit") else 1,
                    label=family,
                )
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("USD an episode")
        panels[0].set_ylabel("episodes solved (oracle teacher)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        picture = io.BytesIO()
        figure.savefig(picture, format=form, dpi=150)
    return picture.getvalue()
