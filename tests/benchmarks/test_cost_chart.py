from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.cost_chart import ChartPoint, axis_ticks, cost_chart
from tutelage.benchmarks.statistics import Interval


def point(title: str, success: float, cost_usd: float, **changes: Any) -> ChartPoint:
    made: dict[str, Any] = {
        "success_interval": Interval(max(0.0, success - 0.1), min(1.0, success + 0.1)),
        "episode_usd": {"cached": cost_usd, "uncached": 2 * cost_usd},
        "episode_usd_interval": {"cached": None, "uncached": None},
        **changes,
    }
    return ChartPoint(title, success, **made)


def places(chart: str) -> list[tuple[float, float]]:
    """Where the marks of the first panel are."""
    panel = chart.split("</figure>")[0]
    found = re.findall(r'<g transform="translate\(([\d.]+) ([\d.]+)\)">', panel)
    return [(float(x), float(y)) for x, y in found]


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_ticks_are_few_round_and_reach_past_the_highest(highest: float) -> None:
    ticks = axis_ticks(highest)

    assert ticks[0] == 0
    assert ticks[-1] >= highest * (1 - 1e-9)
    assert 3 <= len(ticks) <= 8
    steps = [later - earlier for earlier, later in pairwise(ticks)]
    assert max(steps) <= min(steps) * (1 + 1e-6)


@pytest.mark.parametrize("highest", [0.0, float("inf"), float("nan")])
def test_nothing_spent_still_has_an_axis(highest: float) -> None:
    assert axis_ticks(highest) == [0.0, 1.0]


def test_dearer_is_right_and_better_is_up() -> None:
    cheap, dear = places(cost_chart([point("a", 0.2, 0.01), point("b", 0.9, 0.04)]))

    assert cheap[0] < dear[0]
    assert cheap[1] > dear[1]


def test_intervals_are_bars_and_titles_are_escaped() -> None:
    spent = {"cached": Interval(0.02, 0.05), "uncached": None}
    chart = cost_chart([point("<b>", 0.5, 0.03, episode_usd_interval=spent)])

    first, second = chart.split("</figure>")[:2]
    assert (first.count('class="bar"'), second.count('class="bar"')) == (2, 1)
    assert "&lt;b&gt;: 50%, $0.0300" in first
    assert "<b>" not in chart


def test_a_wild_interval_does_not_press_the_points_together() -> None:
    wild = {"cached": Interval(0.0, 50.0), "uncached": None}
    chart = cost_chart([point("a", 0.5, 0.03, episode_usd_interval=wild)])

    ((x, _),) = places(chart)
    assert x > 200
    assert "$0.05<" in chart


def test_the_random_mix_joins_student_and_teacher() -> None:
    points = [point("t", 1.0, 0.05), point("s", 0.0, 0.01)]

    assert cost_chart(points, (1, 0)).count('class="mix"') == 2 + 1
    assert 'class="mix"' not in cost_chart(points)


def test_a_change_is_drawn_from_where_it_began() -> None:
    before = ({"cached": 0.08, "uncached": 0.1}, 0.3)
    chart = cost_chart([point("a", 0.9, 0.02, before=before)])

    panel = chart.split("</figure>")[0]
    assert panel.count('class="hollow"') == 1
    assert panel.count('class="from"') == 1
    assert panel.index('class="hollow"') < panel.index('<g transform="translate')
