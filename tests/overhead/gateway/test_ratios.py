from __future__ import annotations

from collections.abc import Callable

import pytest

from tutelage.overhead.gateway.ratios import cell_of, cells, median, paired, ratio
from tutelage.overhead.gateway.windows import Case, Window

Make = Callable[..., Window]
UNARY, STREAM = Case(False, 16), Case(True, 1)
NAN = float("nan")


def test_a_ratio_is_taken_within_its_round_and_the_median_is_told(window: Make) -> None:
    # The machine is twice as slow in the second round: no ratio suffers.
    windows = [
        window("direct", UNARY, 0, rps=1000, p50_ms=1),
        window("reference", UNARY, 0, rps=500, cpu_us=100, p50_ms=3),
        window("tutelage", UNARY, 0, rps=250, cpu_us=200, p50_ms=5, first_ms=4),
        window("direct", UNARY, 1, rps=500, p50_ms=2),
        window("reference", UNARY, 1, rps=250, cpu_us=200, p50_ms=6),
        window("tutelage", UNARY, 1, rps=125, cpu_us=440, p50_ms=10, first_ms=8),
    ]

    cell = cell_of(cells(windows), "tutelage", UNARY)

    assert cell is not None
    assert cell.rounds == 2
    assert cell.completed == 20
    assert cell.rps_over_direct == 0.25
    assert cell.rps_over_reference == 0.5
    assert cell.cpu_over_reference == pytest.approx(2.1)
    assert cell.cpu_over_reference_range == (2.0, 2.2)
    assert cell.added_p50_ms == 6.0
    assert cell.added_p99_ms == 12.0
    assert cell.added_first_p50_ms == 5.0
    assert cell.cpu_us == 320.0


def test_what_answers_nothing_has_no_figures_but_its_failures(window: Make) -> None:
    windows = [
        window("direct", UNARY),
        window("reference", UNARY),
        window(
            "portkey", UNARY, rps=0, cpu_us=None, p50_ms=NAN, first_ms=NAN, completed=0, failed=7
        ),
    ]

    cell = cell_of(cells(windows), "portkey", UNARY)

    assert cell is not None
    assert (cell.completed, cell.failed) == (0, 7)
    for figure in (cell.rps, cell.p50_ms, cell.cpu_us, cell.rps_over_direct, cell.added_p50_ms):
        assert figure is None
    assert cell.cpu_over_reference_range is None


def test_without_a_reference_there_are_no_ratios(window: Make) -> None:
    (cell,) = cells([window("tutelage", UNARY)])

    assert cell.rps == 100.0
    assert cell.rps_over_direct is None
    assert cell.cpu_over_reference is None


def test_cells_come_in_a_fixed_order(window: Make) -> None:
    windows = [
        window(name, case)
        for case in (STREAM, UNARY, Case(False, 1))
        for name in ("tutelage", "litellm", "direct")
    ]

    found = [(cell.case.name, cell.contender) for cell in cells(windows)]

    assert found == [
        (case, name)
        for case in ("unary c1", "unary c16", "stream c1")
        for name in ("direct", "tutelage", "litellm")
    ]
    assert cell_of(cells(windows), "reference", UNARY) is None


def test_only_rounds_that_both_have_are_paired(window: Make) -> None:
    windows = [
        window("tutelage", UNARY, 0, cpu_us=1.0),
        window("tutelage", UNARY, 1, cpu_us=2.0),
        window("litellm", UNARY, 1, cpu_us=60.0),
        window("litellm", UNARY, 2, cpu_us=60.0),
    ]

    found = paired(
        windows, UNARY, "litellm", "tutelage", lambda one, other: ratio(one.cpu_us, other.cpu_us)
    )

    assert found == [30.0]


def test_nothing_is_divided_by_nothing() -> None:
    assert ratio(1.0, 0.0) is None
    assert ratio(None, 1.0) is None
    assert ratio(1.0, 4.0) == 0.25


def test_the_median_leaves_out_what_is_not_there() -> None:
    assert median([3.0, None, NAN, 1.0]) == 2.0
    assert median([None, NAN]) is None
