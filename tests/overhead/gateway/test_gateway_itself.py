"""The real command, measured for a moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from tutelage.cli.bench import app
from tutelage.overhead.gateway import cascade as cascading
from tutelage.overhead.gateway.cascade import CascadePlan, measure_cascade
from tutelage.overhead.gateway.filled_bank import filled_bank
from tutelage.overhead.gateway.processes import tree
from tutelage.runtime.errors import BenchmarkError

pytestmark = pytest.mark.slow
TINY = CascadePlan(demonstrations=60, requests=20, rounds=2, hash_embedder=True)


async def test_cascade_mode_is_measured(programs: Path, tmp_path: Path) -> None:
    said: list[str] = []

    found = await measure_cascade(tmp_path / "run", programs, TINY, Random(1), said.append)

    assert found.demonstrations >= 60
    assert len(said) == 3
    names = [one.name for one in found.windows]
    assert names[0] == "c1"
    assert sorted(names[1:3]) == ["off 0", "on 0"]
    assert sorted(names[3:]) == ["off 1", "on 1"]
    for one in found.windows:
        assert (one.sent, one.failed) == (20, 0)
        assert 0 < one.overhead_p50_ms <= one.overhead_p99_ms
        assert one.overhead_p50_ms < one.p50_ms <= one.p99_ms
    assert set(found.stalls) == {"c1", "c16"}
    for stalls in found.stalls.values():
        assert stalls is not None
        assert stalls.ticks > 0
        assert 0 <= stalls.p99_ms <= stalls.most_ms
    assert 0 < found.health_p50_ms <= found.health_most_ms
    assert found.rps_on_over_off is not None


async def test_what_is_no_cascade_is_not_measured(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cascading, "PROOFS", ("x-tutelage-nothing",))

    with pytest.raises(BenchmarkError, match="not at work: x-tutelage-nothing is 0 or missing"):
        await measure_cascade(tmp_path / "run", programs, TINY, Random(1))


async def test_a_bank_is_filled_once(tmp_path: Path) -> None:
    cache, folders = tmp_path / "cache", [tmp_path / "first", tmp_path / "second"]
    sizes = []
    for folder in folders:
        folder.mkdir()
        sizes.append(await filled_bank(folder, cache, 30, hash_embedder=True))

    assert sizes[0] == sizes[1] >= 30
    first, second = ((folder / "overhead.sqlite").read_bytes() for folder in folders)
    assert first == second
    assert [one.name for one in (cache / "overhead").glob("bank-*/*.sqlite")] == ["overhead.sqlite"]


def test_one_command_measures_and_writes_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "deep" / "bench"
    contenders = ("direct", "reference", "tutelage", "tutelage, tracing off", "litellm")
    arguments = [
        *("gateway", "--rounds", "1", "--seconds", "0.1", "--connections", "1"),
        *("--connections", "16", "--demonstrations", "30", "--steps", "20", "--hash-embedder"),
        *("--soak-requests", "200", "--no-install", "--out", str(out)),
        *(part for name in contenders for part in ("--contender", name)),
    ]

    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert ran.exit_code == 0
    document = json.loads((out / "gateway.json").read_text())
    measured = {bar["name"]: bar["value"] for bar in document["bars"]}
    unmeasured = [name for name, value in measured.items() if value is None]
    assert unmeasured == [
        "CPU a request of LiteLLM over ours, unary c16",
        "CPU a request of LiteLLM over ours, stream c16",
    ]
    assert document["missing"][0]["reason"].startswith("skipped: not installed")
    assert document["soak"]["completed"] == document["soak"]["failed"] == 100
    ours = [one for one in document["windows"] if one["contender"].startswith("tutelage")]
    assert len(ours) == 8
    assert all(one["failed"] == 0 < one["completed"] for one in ours)
    assert "growth of memory" in ran.output
    assert "litellm: skipped: not installed" in ran.output
    assert (out / "gateway.md").read_text().startswith("`tutelage ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_nothing_running(
    tmp_path: Path,
    programs: Path,
    number: signal.Signals,
    still_running: Callable[[Iterable[int]], list[int]],
) -> None:
    arguments = ("bench", "gateway", "--part", "pass-through", "--seconds", "30")
    contenders = ("--contender", "direct", "--contender", "reference")
    with subprocess.Popen(
        [sys.executable, "-m", "tutelage.cli.main", *arguments, *contenders],
        cwd=tmp_path,
        env={**os.environ, "TUTELAGE_CACHE": str(programs), "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "round 1" not in process.stderr.readline():
            assert process.poll() is None
        started = tree(process.pid)[1:]
        process.send_signal(number)
        process.stderr.read()

    assert process.wait() == 128 + number
    assert len(started) >= 2
    assert still_running(started) == []
    assert not list(tmp_path.glob("tutelage-bench-*"))


def test_an_unknown_part_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no part 'all'"):
        CliRunner().invoke(app, ["gateway", "--part", "all"], catch_exceptions=False)
