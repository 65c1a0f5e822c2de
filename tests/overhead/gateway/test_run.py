from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.overhead.gateway import contenders
from tutelage.overhead.gateway import run as running
from tutelage.overhead.gateway.contenders import Contender, Missing
from tutelage.overhead.gateway.ratios import cell_of
from tutelage.overhead.gateway.run import Plan, measure_gateway
from tutelage.overhead.gateway.windows import Case
from tutelage.runtime.errors import BenchmarkError

ALONE = Plan(
    parts=("pass-through",),
    contenders=("direct", "reference"),
    connections=(2,),
    rounds=1,
    seconds=0.2,
    install=False,
)


async def test_the_reference_is_measured_beside_the_direct_way(
    programs: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    measured = await measure_gateway(ALONE, tmp_path, programs, progress=said.append)

    assert said == ["starting direct", "starting reference", "round 1 of 1"]
    assert list(measured.versions) == ["direct", "reference"]
    assert measured.missing == ()
    assert len(measured.windows) == 4
    assert measured.duration_s > 0
    cell = cell_of(measured.cells, "reference", Case(True, 2))
    assert cell is not None
    assert cell.rps_over_direct is not None
    assert {bar.is_met for bar in measured.bars} == {None}


async def test_gateways_of_others_are_left_out_with_a_reason(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Contender:
        return Contender("portkey", "1", ("false",), 9, "/")

    monkeypatch.setattr(running, "portkey_environment", lambda *_, **__: tmp_path)
    monkeypatch.setattr(contenders, "portkey", broken)
    plan = Plan(
        parts=("pass-through",),
        contenders=("direct", "litellm", "portkey"),
        connections=(1,),
        rounds=1,
        seconds=0.05,
        install=False,
    )

    measured = await measure_gateway(plan, tmp_path, programs)

    assert [one.name for one in measured.missing] == ["litellm", "portkey"]
    assert measured.missing[0].reason.startswith("skipped: not installed in ")
    assert measured.missing[1].reason == "skipped: false ended with 1: no output"
    assert {window.contender for window in measured.windows} == {"direct"}


async def test_a_portkey_that_cannot_be_had_is_left_out(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Missing("portkey", "skipped: node and npm are not installed")
    monkeypatch.setattr(running, "portkey_environment", lambda *_, **__: missing)
    plan = Plan(
        parts=("pass-through",), contenders=("portkey",), connections=(1,), rounds=1, seconds=0.05
    )

    measured = await measure_gateway(plan, tmp_path, programs)

    assert measured.missing == (missing,)
    assert measured.windows == ()


async def test_a_reference_that_does_not_start_ends_the_run(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Contender("reference", "1", ("false",), 9, "/")
    monkeypatch.setattr(contenders, "reference", lambda _: broken)

    with pytest.raises(BenchmarkError, match="false ended with 1"):
        await measure_gateway(ALONE, tmp_path, programs)


def test_a_plan_names_what_there_is() -> None:
    with pytest.raises(BenchmarkError, match=r"no part 'streams': choose from pass-through, casc"):
        Plan(parts=("streams",))
    with pytest.raises(BenchmarkError, match=r"no contender 'nginx': choose from direct, refere"):
        Plan(contenders=("direct", "nginx"))
