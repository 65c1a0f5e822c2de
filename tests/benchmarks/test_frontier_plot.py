from __future__ import annotations

import sys

import pytest

from tutelage.benchmarks.frontier_plot import draw_frontier
from tutelage.runtime.errors import MissingExtra

ARMS = [
    {"family": family, "success": success, "cost_usd": cost, "uncached_cost_usd": 2 * cost}
    for family, success, cost in (
        ("calibrated", 0.9, 0.02),
        ("calibrated", 0.95, 0.03),
        ("paper", 0.8, 0.02),
    )
]


def test_the_plot_is_a_picture_with_every_family_and_both_pricings() -> None:
    pytest.importorskip("matplotlib")

    svg = draw_frontier(ARMS, "svg").decode()

    for text in ("calibrated", "paper", "with prompt caches", "every token in full"):
        assert f"<!-- {text} -->" in svg
    assert draw_frontier(ARMS).startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[plot\]'"):
        draw_frontier(ARMS)
