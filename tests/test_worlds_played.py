"""Every world, played by its oracle and by a cascade whose student never says the same twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.alfworld_games import unpacked_games
from tests.scripted_endpoint import ScriptedEndpoint

from tutelage.assembly import open_assembly
from tutelage.benchmarks.arms import find_arms
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import read_results
from tutelage.cli.playing import defaults
from tutelage.rehearsal import Play, replay
from tutelage.runtime.config import load_config

pytestmark = pytest.mark.slow

WORLDS = [
    pytest.param("household", "test:20", 20, id="household"),
    pytest.param("office", "test:20", 20, id="office"),
    pytest.param("office-tools", "test:20", 20, id="office-tools"),
    # The hand-coded expert loses games.
    pytest.param("alfworld", "valid_unseen:12", 10, id="alfworld", marks=pytest.mark.alfworld),
    pytest.param("scienceworld", "dev:6", 6, id="scienceworld"),
    pytest.param("bfcl", "test:40", 40, id="bfcl"),
    pytest.param("textworld", "test:3", 3, id="textworld", marks=pytest.mark.alfworld),
]


def _never_the_same(body: dict[str, Any], index: int) -> str:
    return f"look around {body.get('seed')} {index}"


@pytest.mark.parametrize(("world", "split", "solved"), WORLDS)
async def test_oracle_and_cascade_solve_what_a_student_that_rambles_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: str, split: str, solved: int
) -> None:
    if world == "alfworld":
        # The package sets this variable where it is imported; the worlds' processes inherit it.
        monkeypatch.setenv("ALFWORLD_DATA", str(unpacked_games()))
    with ScriptedEndpoint(_never_the_same) as endpoint:
        given = {
            "store.url": f"sqlite:///{tmp_path / 'store.sqlite'}",
            "student.base_url": endpoint.base_url,
            "student.model": endpoint.model,
            "retrieval.enabled": False,
            "retrieval.embedder": "hash",
        }
        config = load_config(environment={}, overrides=given)
        config = load_config(environment={}, overrides={**defaults(config, world), **given})
        play = Play(world=world, split=split, out=tmp_path / "out", jobs=2, max_steps=100)
        async with open_assembly(config) as assembly:
            arms = find_arms(["teacher", "student", "cascade"])
            await replay(assembly, play, arms, Unwatched())
    results = read_results(tmp_path / "out")
    count = {arm.name: sum(one.success for one in results if one.arm == arm.name) for arm in arms}
    assert len(results) == 3 * int(split.partition(":")[2])
    assert count["teacher"] >= solved
    assert count["student"] == 0
    assert count["cascade"] == count["teacher"]
