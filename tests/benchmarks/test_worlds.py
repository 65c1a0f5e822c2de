from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from tests.benchmarks.worker_worlds import Room

from tutelage.benchmarks import worlds
from tutelage.benchmarks.manner import Manner
from tutelage.benchmarks.worlds import WORLDS, create_world, manner_of, world_names
from tutelage.runtime.errors import BenchmarkError, WorldMissing


def test_the_household_comes_with_tutelage() -> None:
    assert create_world("household").name == "household"
    assert set(WORLDS) <= set(world_names())


def test_alfworld_without_its_games_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorldMissing, match=f"no ALFWorld games in {tmp_path}.*make alfworld"):
        create_world("alfworld", tmp_path)


def test_an_attribute_of_a_module_is_a_world(tmp_path: Path) -> None:
    world = create_world("tests.benchmarks.worker_worlds:Room", tmp_path)
    assert isinstance(world, Room)
    assert world.data == tmp_path


def test_a_package_can_bring_a_world(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = EntryPoint("room", "tests.benchmarks.worker_worlds:Room", "tutelage.worlds")

    def found(*, group: str, name: str = "room") -> EntryPoints:
        return EntryPoints([brought]).select(group=group, name=name)

    monkeypatch.setattr(worlds, "entry_points", found)
    assert world_names() == tuple(sorted({*WORLDS, "room"}))
    assert isinstance(create_world("room"), Room)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "chess",
            f"unknown world 'chess': use one of {', '.join(world_names())}, or",
        ),
        ("no_such_module:World", "world 'no_such_module:World' cannot be imported: No module"),
        ("tests.benchmarks.worker_worlds:Hall", "cannot be imported: .*no attribute 'Hall'"),
        (":World", "world ':World' cannot be imported: Empty module name"),
    ],
)
def test_an_unknown_world_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        create_world(name)
    assert "\n" not in str(caught.value)


def test_a_world_of_ones_own_says_how_it_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    assert manner_of("household") == manner_of("tests.benchmarks.worker_worlds:Room") == Manner()

    monkeypatch.setattr(Room, "manner", Manner("code", max_tokens=99), raising=False)

    assert manner_of("tests.benchmarks.worker_worlds:Room").max_tokens == 99
    with pytest.raises(BenchmarkError, match="unknown world 'chess'"):
        manner_of("chess")
