from __future__ import annotations

import sys

import pytest

from tutelage.benchmarks.generations_plot import draw_generations
from tutelage.runtime.errors import MissingExtra

ROWS = [
    {
        "generation": generation,
        "arm": arm,
        "episodes": 10,
        "solved": solved,
        "low": solved / 20,
        "high": min(1.0, solved / 8),
        "teacher_share": 0.5,
        "solved_usd": 0.01 if solved else None,
    }
    for generation, arm, solved in ((0, "cascade", 9), (1, "cascade", 10), (1, "student", 0))
]


def test_the_plot_shows_every_arm_and_what_it_solves_asks_and_costs() -> None:
    pytest.importorskip("matplotlib")

    svg = draw_generations(ROWS, "svg").decode()

    for text in ("cascade", "student", "tasks solved, 95 %", "USD a solved task, cached"):
        assert f"<!-- {text} -->" in svg
    assert draw_generations(ROWS).startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[plot\]'"):
        draw_generations(ROWS)
