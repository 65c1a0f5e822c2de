"""Cost against success as SVG inside a page: it takes the page's colours, dark or light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

from tutelage.benchmarks.economics import Pricing
from tutelage.benchmarks.report_table import usd
from tutelage.benchmarks.statistics import Interval

PANELS: tuple[tuple[Pricing, str], ...] = (
    ("cached", "with prompt caches"),
    ("uncached", "every prompt token in full"),
)
COLOURS = 8
_WIDTH, _HEIGHT = 460, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 30, 12, 46
_SHAPES = (
    '<circle r="6"/>',
    '<rect x="-5.5" y="-5.5" width="11" height="11"/>',
    '<path d="M0 -7.5 7.5 0 0 7.5 -7.5 0Z"/>',
    '<path d="M0 -7 6.8 5.5 -6.8 5.5Z"/>',
    '<path d="M0 7 6.8 -5.5 -6.8 -5.5Z"/>',
)


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """One arm of the chart."""

    title: str
    success: float
    """Share of solved episodes, in [0, 1]."""
    success_interval: Interval | None
    episode_usd: Mapping[Pricing, float]
    episode_usd_interval: Mapping[Pricing, Interval | None]
    before: tuple[Mapping[Pricing, float], float] | None = None
    """Cost and success in an earlier run, from where a line is drawn."""


def cost_chart(points: Sequence[ChartPoint], mix: tuple[int, int] | None = None) -> str:
    """Cost of an episode against success, one panel for each pricing, and a legend.

    Args:
        points: The arms, with bars for both intervals.
        mix: Places of the student and the teacher among them; a dashed line joins the two, which is
            what handing whole episodes to either at random would give.
    """
    panels = "".join(
        f"<figure><figcaption>{title}</figcaption>{_panel(points, pricing, mix)}</figure>"
        for pricing, title in PANELS
    )
    legend = "".join(
        f'<li><svg class="key" viewBox="-9 -9 18 18" aria-hidden="true">{_mark(place)}</svg>'
        f"{escape(point.title)}</li>"
        for place, point in enumerate(points)
    )
    if mix is not None:
        dashes = '<svg class="key" viewBox="-9 -9 18 18" aria-hidden="true">'
        dashes += '<path class="mix" d="M-9 0H9"/></svg>'
        legend += f"<li>{dashes}random mix of student and teacher</li>"
    return f'<div class="chart">{panels}</div><ul class="legend">{legend}</ul>'


def axis_ticks(highest: float) -> list[float]:
    """Four to eight round numbers from 0 to past ``highest``."""
    if not (isfinite(highest) and highest > 0):
        return [0.0, 1.0]
    magnitude = 10.0 ** floor(log10(highest / 4))
    step = next(
        size * magnitude for size in (1, 2, 2.5, 5, 10) if highest / (size * magnitude) <= 5
    )
    return [step * place for place in range(ceil(highest / step - 1e-9) + 1)]


def _panel(points: Sequence[ChartPoint], pricing: Pricing, mix: tuple[int, int] | None) -> str:
    ticks = axis_ticks(max((_farthest(point, pricing) for point in points), default=0.0))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(amount: float) -> float:
        return round(_LEFT + plot_width * min(amount / ticks[-1], 1.0), 1)

    def y(share: float) -> float:
        # A little room, so that marks at 0 and 1 are whole.
        return round(_TOP + plot_height * (1 - (share + 0.04) / 1.08), 1)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-label="Cost of an episode against the share of solved episodes, by arm">'
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(share)}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 8}" y="{y(share) + 4}">{share:.0%}</text>')
    # Labels that would touch are left out.
    every = ceil(len(ticks) / 6)
    for place, tick in enumerate(ticks):
        parts.append(f'<path class="grid" d="M{x(tick)} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        if place % every == 0:
            at = f'x="{x(tick)}" y="{_HEIGHT - _BOTTOM + 18}"'
            parts.append(f'<text class="middle" {at}>{_short_usd(tick)}</text>')
    centre = _LEFT + plot_width / 2
    parts.append(f'<text class="middle" x="{centre}" y="{_HEIGHT - 6}">USD an episode</text>')
    if mix is not None:
        ends = [points[place] for place in mix]
        line = "L".join(f"{x(one.episode_usd[pricing])} {y(one.success)}" for one in ends)
        parts.append(f'<path class="mix" d="M{line}"/>')
    for place, point in enumerate(points):
        here = x(point.episode_usd[pricing]), y(point.success)
        told = f"{point.title}: {point.success:.0%}, {usd(point.episode_usd[pricing])}"
        parts.append(f'<g class="series{place % COLOURS}"><title>{escape(told)}</title>')
        if point.success_interval is not None:
            low, high = y(point.success_interval.low), y(point.success_interval.high)
            parts.append(
                f'<path class="bar" d="M{here[0]} {low}V{high}{_caps(here[0], low, high)}"/>'
            )
        spent = point.episode_usd_interval[pricing]
        if spent is not None:
            ends_x = x(max(0.0, spent.low)), x(spent.high)
            parts.append(f'<path class="bar" d="M{ends_x[0]} {here[1]}H{ends_x[1]}"/>')
        if point.before is not None:
            was = x(point.before[0][pricing]), y(point.before[1])
            parts.append(f'<path class="from" d="M{was[0]} {was[1]}L{here[0]} {here[1]}"/>')
            parts.append(
                f'<g class="hollow" transform="translate({was[0]} {was[1]})">{_shape(place)}</g>'
            )
        parts.append(f'<g transform="translate({here[0]} {here[1]})">{_shape(place)}</g></g>')
    return "".join([*parts, "</svg>"])


def _farthest(point: ChartPoint, pricing: Pricing) -> float:
    spent = point.episode_usd_interval[pricing]
    reach = [point.episode_usd[pricing]]
    # A wild interval of few tasks would press all points together.
    if spent is not None and isfinite(spent.high):
        reach.append(min(spent.high, 1.5 * reach[0]))
    if point.before is not None:
        reach.append(point.before[0][pricing])
    return max(reach)


def _caps(x: float, *ys: float) -> str:
    return "".join(f"M{x - 4} {y}h8" for y in ys)


def _mark(place: int) -> str:
    return f'<g class="series{place % COLOURS}">{_shape(place)}</g>'


def _shape(place: int) -> str:
    return _SHAPES[place % len(_SHAPES)]


def _short_usd(amount: float) -> str:
    return "$0" if amount == 0 else f"${amount:.6f}".rstrip("0").rstrip(".")
