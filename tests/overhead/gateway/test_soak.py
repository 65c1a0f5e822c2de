from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tutelage.overhead.gateway import soak as soaking
from tutelage.overhead.gateway.contenders import reference, running
from tutelage.overhead.gateway.soak import Soak, measure_soak
from tutelage.overhead.gateway.upstream import open_upstream


async def test_half_of_the_requests_fail_and_memory_is_read_along_the_way(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soaking, "SETTLE_S", 0.0)
    said: list[str] = []
    with (
        open_upstream(tmp_path / "upstream", programs, fail_every=2) as failing,
        running(reference(failing), tmp_path) as proxy,
    ):
        soak = await measure_soak(proxy, requests=405, random=Random(0), progress=said.append)

    assert soak.completed + soak.failed == 405
    assert soak.failed == pytest.approx(soak.completed, abs=1)
    assert soak.warm_up == 40
    assert soak.requests == (*range(0, 401, 40), 405)
    assert len(soak.rss_mb) == len(soak.requests)
    assert min(soak.rss_mb) > 5
    assert said == ["405 requests, half of them failing"]


def test_growth_is_from_the_first_reading_to_the_last() -> None:
    soak = Soak(1, 1, 1, (0, 1, 2), (100.0, 180.0, 104.0))

    assert soak.growth == pytest.approx(0.04)
    assert replace(soak, rss_mb=(100.0, 90.0)).growth == pytest.approx(-0.1)
