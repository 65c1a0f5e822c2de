from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.randomised_traffic import configured, serve_randomised, store_in, truth
from tests.small_household import household

from tutelage.assembly import open_assembly
from tutelage.costs import Training, cost_report, lines, to_json
from tutelage.runtime.errors import BenchmarkError, ConfigError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


async def test_traffic_of_known_costs_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(store_in(tmp_path))
    await serve_randomised(config, 100, monkeypatch)
    real = truth(100)

    async with open_assembly(config) as assembly:
        found = await cost_report(assembly, "default", Training(gpu_hours=2, gpu_usd_per_hour=3))

    for figures in (found.cached, found.uncached):
        for name, value in (
            ("teacher", real.teacher_usd),
            ("cascade", real.cascade_usd),
            ("saved", real.teacher_usd - real.cascade_usd),
        ):
            interval = figures[name].interval
            assert interval is not None
            assert interval.low <= value <= interval.high
    held, kept = (found.cached[name].rows["episodes"] for name in ("teacher", "cascade"))
    assert len(held) + len(kept) == 100
    assert found.cached["holdout share"].value == pytest.approx(len(held) / 100)
    audits = found.cached["audits"]
    assert audits.value == pytest.approx(0.0103 * len(audits.rows["audits"]))
    assert found.cached["training"].value == 6.0
    told = lines(found)
    assert told[0] == "with prompt caches, 1,000,000 episodes projected:"
    assert any("--gpu-hours" not in line and "2 options" in line for line in told)
    plain: Any = json.loads(json.dumps(to_json(found)))
    assert plain["cached"]["training"]["rows"]["options"] == [
        "--gpu-hours 2",
        "--gpu-usd-per-hour 3",
    ]


async def test_traffic_without_holdouts_says_what_to_set(tmp_path: Path) -> None:
    async with open_assembly(household(store__url=store_in(tmp_path))) as assembly:
        with pytest.raises(BenchmarkError, match=r"set evidence\.holdout"):
            await cost_report(assembly, "default", Training())


def test_training_costs_dollars_and_hours_together() -> None:
    assert Training(usd=1.0, gpu_hours=2.0, gpu_usd_per_hour=3.0).cost()[0] == 7.0
    assert Training().cost() == (0.0, ())


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (Training(gpu_hours=1.0), "give hours and price together"),
        (Training(gpu_usd_per_hour=1.0), "give hours and price together"),
        (Training(usd=-1.0), "training usd = -1.0"),
        (Training(usd=float("nan")), "training usd = nan"),
    ],
)
def test_costs_that_are_none_are_refused(training: Training, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        training.cost()
