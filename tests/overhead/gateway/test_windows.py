from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tutelage.overhead.gateway.contenders import Running, direct
from tutelage.overhead.gateway.ratios import cell_of, cells
from tutelage.overhead.gateway.upstream import Upstream, open_upstream
from tutelage.overhead.gateway.windows import Case, cases, measure_windows
from tutelage.runtime.errors import BenchmarkError


async def test_every_contender_gets_every_setting_in_every_round(
    upstream: Upstream, proxy: Running
) -> None:
    said: list[str] = []
    settings = cases((1, 4))

    windows = await measure_windows(
        [direct(upstream), proxy],
        settings,
        rounds=2,
        seconds=0.2,
        random=Random(5),
        progress=said.append,
    )

    found = [(one.round, one.contender, one.case) for one in windows]
    every = {
        (n, name, case) for n in range(2) for name in ("direct", "reference") for case in settings
    }
    assert len(found) == len(every) == 16
    assert set(found) == every
    assert [one[0] for one in found] == [0] * 8 + [1] * 8
    assert found[:8] != sorted(found[:8], key=str), "in random order"
    assert said == ["round 1 of 2", "round 2 of 2"]
    for one in windows:
        assert one.sent == one.completed > 0
        assert one.failed == 0
        assert one.p50_ms <= one.p99_ms
        assert one.first_p50_ms <= one.p50_ms
        assert one.events == (23 if one.case.stream else 0)
        assert (one.cpu_us is None) == (one.contender == "direct")
    cell = cell_of(cells(windows), "reference", Case(False, 4))
    assert cell is not None
    assert cell.cpu_over_reference == 1.0
    assert cell.rps_over_direct is not None
    assert 0 < cell.rps_over_direct < 1
    assert cell.rss_mb is not None
    assert cell.rss_mb > 5


async def test_failures_are_counted_and_not_timed(programs: Path, tmp_path: Path) -> None:
    with open_upstream(tmp_path, programs, fail_every=2) as failing:
        (window,) = await measure_windows(
            [direct(failing)], [Case(False, 1)], rounds=1, seconds=0.1, random=Random(0)
        )

    assert window.sent == window.completed + window.failed
    assert window.failed == pytest.approx(window.completed, abs=1)
    assert window.statuses == {200: window.completed, 500: window.failed}


@pytest.mark.parametrize("name", ["reference", "tutelage", "direct"])
async def test_nothing_is_compared_with_a_reference_that_is_gone(
    closed_port: int, name: str
) -> None:
    gone = Running(name, "1", closed_port, None)

    with pytest.raises(BenchmarkError, match=f"{name} is gone in the middle of the run"):
        await measure_windows([gone], cases((1,)), rounds=1, seconds=0.1, random=Random(0))


async def test_a_gateway_of_others_that_is_gone_does_not_end_the_run(closed_port: int) -> None:
    (window,) = await measure_windows(
        [Running("portkey", "1", closed_port, None)],
        [Case(False, 1)],
        rounds=1,
        seconds=0.1,
        random=Random(0),
    )

    assert (window.sent, window.completed, window.cpu_us) == (0, 0, None)
