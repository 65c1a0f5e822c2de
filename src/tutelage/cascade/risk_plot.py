"""The cost-risk curve of a cascade, as a picture."""

from __future__ import annotations

import io
from typing import Any, Literal

from tutelage.cascade.risk_curve import Curve
from tutelage.runtime.errors import MissingExtra


def draw_curve(
    curve: Curve, alpha: float, chosen: float | None, form: Literal["svg", "png"] = "png"
) -> bytes:
    """Teacher share against risk with its bounds; the certified threshold is marked.

    Args:
        curve: The curve.
        alpha: Risk that is allowed, as a line.
        chosen: The certified threshold; ``None``: there is none.
        form: Format of the picture.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    shares = [point.teacher_share or 0.0 for point in curve.points]
    risks = [point.risk for point in curve.points]
    # Figure without pyplot: no global state, no display.
    with rc_context({"svg.hashsalt": "tutelage", "svg.fonttype": "path", "font.size": 10}):
        figure = Figure(figsize=(7.0, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(shares, risks, marker="o", label="risk seen")
        axes.plot(
            shares,
            [point.bound for point in curve.points],
            linestyle="--",
            label=f"upper bound, confidence {1 - curve.delta:g}, each threshold alone",
        )
        axes.plot(
            shares,
            [point.band for point in curve.points],
            linestyle=":",
            label="upper bound for all thresholds at once",
        )
        axes.axhline(alpha, color="0.4", linewidth=1, label=f"allowed: {alpha:g}")
        for point, share in zip(curve.points, shares, strict=True):
            if chosen is not None and point.threshold == chosen:
                axes.plot([share], [point.risk], marker="*", markersize=16, label="certified")
        axes.set_xlabel("share of steps that the teacher serves")
        axes.set_ylabel(f"episodes lost ({curve.units} episodes)")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
        picture = io.BytesIO()
        # Dates would make equal curves differ.
        metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(picture, format=form, dpi=150, metadata=metadata)
    return picture.getvalue()
