from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tutelage.overhead.gateway.bars import Bar, bars
from tutelage.overhead.gateway.cascade import Cascade, CascadeWindow
from tutelage.overhead.gateway.soak import Soak
from tutelage.overhead.gateway.stalls import Stalls
from tutelage.overhead.gateway.windows import Case, Window

UNARY, STREAM, ALONE = Case(False, 16), Case(True, 16), Case(True, 1)
CASCADE = Cascade(
    demonstrations=1000,
    windows=(CascadeWindow("c1", 1, 400, 0, 90.0, 10.0, 20.0, 8.0, 15.0, 9000.0),),
    stalls={"c1": Stalls(1000, 1.5, 4.0, 2.0, 0), "c16": None},
    health_p50_ms=1.0,
    health_most_ms=30.0,
    rps_on_over_off=0.95,
)
SOAK = Soak(25, 25, 5, (0, 50), (100.0, 104.0))


def named(found: list[Bar], beginning: str) -> Bar:
    (one,) = [bar for bar in found if bar.name.startswith(beginning)]
    return one


@pytest.fixture
def windows(window: Callable[..., Window]) -> list[Window]:
    return [
        window("direct", ALONE, first_ms=0.1),
        window("tutelage", ALONE, first_ms=0.7),
        *(
            window(name, case, cpu_us=cpu_us, rps=rps)
            for case in (UNARY, STREAM)
            for name, cpu_us, rps in (
                ("reference", 100.0, 900.0),
                ("tutelage", 190.0, 460.0),
                ("tutelage, tracing off", 150.0, 500.0),
                ("litellm", 6000.0, 10.0),
            )
        ),
    ]


def test_what_was_promised_is_told_beside_what_was_measured(windows: list[Window]) -> None:
    found = bars(windows, CASCADE, SOAK)

    reference = named(found, "CPU a request over the reference, unary c16")
    assert (reference.value, reference.is_met) == (1.9, True)
    assert reference.note == "rounds from 1.90 to 1.90; 1.50 with tracing off"
    assert named(found, "CPU a request of LiteLLM over ours, stream c16").value == pytest.approx(
        6000 / 190
    )
    assert named(found, "added time to the first event").value == pytest.approx(0.6)
    assert named(found, "requests a second with tracing over without, unary").value == 0.92
    assert named(found, "cascade, time").value == 8.0
    assert named(found, "cascade, longest block").value == 4.0
    assert named(found, "cascade, requests a second").value == 0.95
    assert named(found, "growth of memory").value == pytest.approx(4.0)
    assert named(found, "growth of memory").note == "25 answered and 25 failed; 100 to 104 MB"
    assert {bar.verdict for bar in found} == {"met"}


def test_a_bar_that_is_missed_says_so(windows: list[Window]) -> None:
    dear = [replace(one, cpu_us=201.0) if one.contender == "tutelage" else one for one in windows]
    grown = replace(SOAK, rss_mb=(100.0, 106.0))
    blocked = replace(CASCADE, stalls={"c1": Stalls(10, 1.0, 5.5, 2.0, 1)}, rps_on_over_off=0.8)

    found = bars(dear, blocked, grown)

    missed = [bar.name for bar in found if bar.verdict == "MISSED"]
    assert missed == [
        "CPU a request over the reference, unary c16",
        "CPU a request over the reference, stream c16",
        "CPU a request of LiteLLM over ours, unary c16",
        "CPU a request of LiteLLM over ours, stream c16",
        "cascade, longest block of the event loop, c1",
        "cascade, requests a second with tracing over without, c16",
        "growth of memory",
    ]


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = bars([], None, None)

    assert len(found) == 11
    assert {bar.is_met for bar in found} == {None}
    assert {bar.verdict for bar in found} == {"not measured"}
    assert Bar("a", float("nan"), "at most", 1.0, "x").is_met is None
