from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest

from tutelage.benchmarks.cost_model import (
    Figure,
    FixedCost,
    Measured,
    break_even,
    cost_figures,
    lines,
    to_json,
)
from tutelage.benchmarks.statistics import Interval

E = {"episodes": ("e1", "e2")}
OVERHEAD, WORK = "demonstrations as overhead", "demonstrations as real work"


def usd(value: float | None, low: float = 0.0, high: float = 0.0, **changes: Any) -> Figure:
    made: dict[str, Any] = {"how": "mean", "rows": E, **changes}
    return Figure(value, Interval(low, high), "usd", **made)


def traffic(**changes: Any) -> Measured:
    made: dict[str, Any] = {
        "teacher": usd(0.10, 0.08, 0.12),
        "cascade": usd(0.02, 0.01, 0.03, rows={"episodes": ("e3",)}),
        "saved": usd(0.08, 0.06, 0.10),
        "audits": Figure(1.0, None, "usd", "sum", {"audits": ("t1",)}),
        "holdout_share": Figure(0.5, Interval(0.4, 0.6), "share", "held / all", E),
        **changes,
    }
    return Measured(**made)


ONCE = FixedCost(12.0, ("--training-usd 12",), tuple(f"d{n}" for n in range(40)))


def test_break_even_counts_training_holdout_and_the_bank_as_it_is_seen() -> None:
    figures = cost_figures(traffic(), ONCE, 1_000_000)

    # A mean episode saves 0.04 USD, as every other is held out.
    assert figures["saved after holdout"].value == pytest.approx(0.04)
    assert figures["holdout an episode"].value == pytest.approx(0.04)
    assert figures[f"break-even, {WORK}"].value == pytest.approx(300)
    # 40 trajectories at 0.10 USD each.
    assert figures[OVERHEAD].value == pytest.approx(4.0)
    assert figures[f"break-even, {OVERHEAD}"].value == pytest.approx(400)
    assert figures[f"projected saving, {WORK}"].value == pytest.approx(39_988)
    assert figures[f"projected saving, {OVERHEAD}"].value == pytest.approx(39_984)


def test_intervals_carry_over_end_by_end() -> None:
    figures = cost_figures(traffic(), ONCE, 1000)

    even = figures[f"break-even, {OVERHEAD}"].interval
    saving = figures[f"projected saving, {OVERHEAD}"].interval
    assert even is not None
    assert (even.low, even.high) == pytest.approx((15.2 / 0.05, 16.8 / 0.03))
    assert saving is not None
    assert (saving.low, saving.high) == pytest.approx((30 - 16.8, 50 - 15.2))


def test_every_figure_names_its_rows() -> None:
    figures = cost_figures(traffic(), ONCE, 1000)

    assert figures["audits"].rows == {"audits": ("t1",)}
    assert figures[f"break-even, {WORK}"].rows == {"options": ("--training-usd 12",), **E}
    rows = figures[f"projected saving, {OVERHEAD}"].rows
    assert rows == {**E, "options": ONCE.training_rows, "trajectories": ONCE.trajectories}
    assert all(any(one.rows.values()) for one in figures.values())


def test_a_cascade_that_saves_nothing_never_breaks_even() -> None:
    figures = cost_figures(traffic(saved=usd(-0.01, -0.03, 0.01)), ONCE, 1000)

    assert figures[f"break-even, {WORK}"].value is None
    assert figures[f"projected saving, {WORK}"].value == pytest.approx(-17)
    assert any("break-even" in line and ": never" in line for line in lines("x", figures, 1000))


def test_a_saving_that_may_be_none_has_no_upper_end() -> None:
    even = break_even(Figure(10.0, None, "usd", "given"), usd(0.1, -0.1, 0.2))

    assert even.interval == Interval(50.0, inf)
    assert to_json({"x": even})["x"]["interval"] == {"low": 50.0, "high": None}


def test_a_saving_without_bounds_keeps_the_break_even_unbounded() -> None:
    even = break_even(Figure(10.0, None, "usd", "given"), usd(0.1, -inf, inf))

    assert even.interval == Interval(0.0, inf)
    assert "(0 to unbounded)" in lines("x", {"even": even}, 1)[1]


def test_without_fixed_costs_the_saving_starts_at_once() -> None:
    figures = cost_figures(traffic(), FixedCost(0.0, (), ()), 1000)

    assert figures[f"break-even, {WORK}"].value == 0.0
    assert figures[f"break-even, {OVERHEAD}"].interval == Interval(0.0, 0.0)


def test_what_is_unknown_is_said() -> None:
    figures = cost_figures(traffic(saved=usd(None)), ONCE, 1000)

    assert figures[f"projected saving, {WORK}"].value is None
    assert any(line.startswith("  saved: unknown") for line in lines("x", figures, 1000))


def test_lines_and_json_tell_the_same() -> None:
    figures = cost_figures(traffic(), ONCE, 1000)

    told = lines("cached", figures, 1000)
    plain = json.loads(json.dumps(to_json(figures)))

    assert told[0] == "cached, 1,000 episodes projected:"
    assert "  teacher: $0.100 ($0.0800 to $0.120) = mean; from 2 episodes" in told
    assert "  holdout share: 50.0% (40.0% to 60.0%) = held / all; from 2 episodes" in told
    assert plain["teacher"]["rows"] == {"episodes": ["e1", "e2"]}
    assert plain["audits"]["interval"] is None
