from __future__ import annotations

import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.absence import absent

from tutelage.cascade.risk_curve import Curve, risk_curve
from tutelage.cascade.risk_plot import draw_curve
from tutelage.runtime.errors import MissingExtra

THRESHOLDS = (0.9, 0.6, 0.3)


@pytest.fixture(autouse=True)
def matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        absent("needs matplotlib")


def curve(shares: tuple[float, ...] | None = (0.9, 0.5, 0.1)) -> Curve:
    losses = (np.arange(60)[:, None] % 20 < np.array([0, 1, 4])).astype(float)
    return risk_curve(losses, THRESHOLDS, delta=0.05, teacher_share=shares)


def paths(picture: bytes) -> int:
    return sum(1 for one in ElementTree.fromstring(picture).iter() if one.tag.endswith("}use"))


def test_the_curve_is_a_picture_in_either_form() -> None:
    assert draw_curve(curve(), 0.05, 0.6).startswith(b"\x89PNG")
    assert ElementTree.fromstring(draw_curve(curve(), 0.05, 0.6, "svg")).tag.endswith("}svg")


def test_the_certified_threshold_is_marked_and_no_other() -> None:
    none, other, chosen = (paths(draw_curve(curve(), 0.05, t, "svg")) for t in (None, 0.5, 0.6))
    assert none == other < chosen


def test_a_curve_without_shares_can_be_drawn() -> None:
    assert draw_curve(curve(None), 0.05, None).startswith(b"\x89PNG")


@pytest.mark.parametrize("form", ["svg", "png"])
def test_equal_curves_are_equal_pictures(form: str) -> None:
    first, again = (draw_curve(curve(), 0.05, 0.6, form) for _ in range(2))  # type: ignore[arg-type]
    assert first == again
    assert b"<dc:date>" not in first
    assert b"matplotlib version" not in first.lower()


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[plot\]'"):
        draw_curve(curve(), 0.05, None)
