"""Tests and bounds of a mean loss, by the kind of loss."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.bounds import (
    binomial_p_value,
    bounded_upper_bound,
    certifying_size,
    hoeffding_bentkus_p_value,
    upper_bound,
    zero_error_size,
)
from tutelage.cascade.certificate import LossKind

_MOST_UNITS = 10_000_000


def p_value(mean: float, units: int, alpha: float, loss_kind: LossKind) -> float:
    """P-value of "the risk exceeds ``alpha``": exact for 0/1 losses, else Hoeffding-Bentkus."""
    if loss_kind == "binary":
        return binomial_p_value(round(mean * units), units, alpha)
    return hoeffding_bentkus_p_value(mean, units, alpha)


def risk_bound(mean: float, units: int, delta: float, loss_kind: LossKind) -> float:
    """Upper bound of the risk at confidence ``1 - delta``, by the test that ``p_value`` applies."""
    if loss_kind == "binary":
        return upper_bound(round(mean * units), units, delta)
    return bounded_upper_bound(mean, units, delta)


def needed_units(mean: float, alpha: float, delta: float, loss_kind: LossKind) -> int | None:
    """Units with which a mean loss of ``mean`` certifies ``alpha``; ``None`` beyond ten million.

    Errors are rounded up to whole ones, as the exact test counts them.
    """
    units = zero_error_size(alpha, delta)
    while units <= _MOST_UNITS:
        if loss_kind == "bounded":
            if hoeffding_bentkus_p_value(mean, units, alpha) <= delta:
                return units
            units = ceil(units * 1.02) + 1
        else:
            needed = certifying_size(ceil(mean * units - 1e-9), alpha, delta)
            if needed <= units:
                return units
            units = needed
    return None


def loss_mean(losses: NDArray[Any], loss_kind: LossKind) -> tuple[float, int]:
    """Mean loss and number of units; 0 and 0 without losses.

    Raises:
        ValueError: A loss is outside [0, 1], or not 0 or 1 where they are binary.
    """
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"losses have {values.ndim} axes: give one loss an episode")
    if not values.size:
        return 0.0, 0
    fits = (values >= 0) & (values <= 1)
    if loss_kind == "binary":
        fits = (values == 0) | (values == 1)
    if not fits.all():
        allowed = "0 or 1" if loss_kind == "binary" else "between 0 and 1"
        raise ValueError(f"loss = {values[~fits][0]:g}: {loss_kind} losses are {allowed}")
    return float(values.mean()), int(values.size)
