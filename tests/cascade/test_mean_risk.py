"""Sizes, tests and bounds of a mean loss by its kind."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.cascade.bounds import certifying_size, zero_error_size
from tutelage.cascade.certificate import LossKind
from tutelage.cascade.mean_risk import loss_mean, needed_units, p_value, risk_bound


def test_bounded_losses_need_more_units_than_binary_ones() -> None:
    binary = needed_units(0.02, 0.05, 0.05, "binary")
    bounded = needed_units(0.02, 0.05, 0.05, "bounded")
    assert binary is not None
    assert bounded is not None
    assert zero_error_size(0.05, 0.05) < binary < bounded < 3 * binary
    assert p_value(0.02, bounded, 0.05, "bounded") <= 0.05


def test_the_needed_units_of_a_binary_risk_certify_it() -> None:
    units = needed_units(0.03, 0.05, 0.05, "binary")
    assert units is not None
    errors = int(np.ceil(0.03 * units))
    assert certifying_size(errors, 0.05, 0.05) <= units
    assert p_value(errors / units, units, 0.05, "binary") <= 0.05


@pytest.mark.parametrize("kind", ["binary", "bounded"])
def test_a_bound_is_where_the_test_begins_to_reject(kind: str) -> None:
    loss_kind: LossKind = "binary" if kind == "binary" else "bounded"
    bound = risk_bound(0.1, 50, 0.05, loss_kind)
    assert p_value(0.1, 50, bound + 1e-9, loss_kind) <= 0.05
    assert p_value(0.1, 50, bound - 1e-6, loss_kind) > 0.05


def test_no_losses_have_no_units() -> None:
    assert loss_mean(np.zeros(0), "binary") == (0.0, 0)
    assert loss_mean(np.array([0.0, 1.0, 1.0, 0.0]), "binary") == (0.5, 4)
