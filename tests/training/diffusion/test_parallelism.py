from __future__ import annotations

import math

import pytest

from tutelage.training.diffusion.parallelism import Point, area, cheapest_at


def point(success: float, parallel: float, forwards: float = 1.0) -> Point:
    return Point("rule", success, forwards, parallel)


def test_the_cheapest_point_is_within_a_point_of_success() -> None:
    points = [point(0.95, 1, 20), point(0.94, 3, 7), point(0.93, 9, 2)]

    assert cheapest_at(points, 0.95) == points[1]
    assert cheapest_at(points, 0.99) is None


def test_equal_accuracy_makes_a_rectangle() -> None:
    assert area([point(0.8, 1), point(0.8, 4)], 0.8) == pytest.approx(4 * 80)


def test_a_lower_accuracy_weighs_less_and_a_much_lower_one_nothing() -> None:
    weight = math.exp(-3 * (1 - 0.78 / 0.8))
    low = 78 * weight
    expected = 1 * 80 + 3 * (80 + low) / 2
    points = [point(0.78, 4), point(0.8, 1), point(0.7, 9)]

    assert area(points, 0.8) == pytest.approx(expected)
    assert area([point(0.7, 9)], 0.8) == 0
    assert area([point(0.0, 9)], 0.0) == 0
