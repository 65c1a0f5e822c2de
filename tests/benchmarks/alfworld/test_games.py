from __future__ import annotations

from pathlib import Path

import pytest
from tests.benchmarks.alfworld.made_up_games import trial_files

from tutelage.benchmarks.alfworld.games import TASK_TYPES, Games, find_data
from tutelage.benchmarks.environment import Task
from tutelage.runtime.errors import WorldMissing


def put(data: Path, trial: str, **changes: bool) -> None:
    for name, text in trial_files(trial, **changes).items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for kind in TASK_TYPES:
        for number in range(5):
            put(tmp_path, f"valid_unseen/{kind}-Mug-None-Desk-{number}/trial_{number}")
    return tmp_path


def test_task_types_take_turns(data: Path) -> None:
    tasks = Games(data).tasks("valid_unseen")
    assert [task.category for task in tasks] == list(TASK_TYPES) * 5
    assert len({task.id for task in tasks}) == 30


def test_a_type_that_runs_out_leaves_the_others_in_turn(data: Path) -> None:
    for number in range(5, 8):
        put(data, f"valid_unseen/{TASK_TYPES[1]}-Mug-None-Desk-{number}/trial")
    categories = [task.category for task in Games(data).tasks("valid_unseen")]
    assert categories[-4:] == [TASK_TYPES[5], *[TASK_TYPES[1]] * 3]


def test_a_task_is_named_by_split_task_and_trial(data: Path) -> None:
    task = Games(data).tasks("valid_unseen")[0]
    assert task.split == "valid_unseen"
    split, place, trial = task.id.split("/")
    assert split == "valid_unseen"
    assert place.startswith("pick_and_place_simple-Mug-None-Desk-")
    assert trial == f"trial_{place[-1]}"
    assert Games(data).file(task) == data / "json_2.1.1" / task.id / "game.tw-pddl"


def test_the_order_does_not_depend_on_what_else_is_there(data: Path) -> None:
    before = Games(data).tasks("valid_unseen")
    put(data, "valid_seen/pick_and_place_simple-Mug-None-Desk-1/trial_1")
    assert Games(data).tasks("valid_unseen") == before


def test_a_number_asks_for_the_first_tasks(data: Path) -> None:
    games = Games(data)
    assert games.tasks("valid_unseen:8") == games.tasks("valid_unseen")[:8]
    assert len(games.tasks("valid_unseen:400")) == 30


@pytest.mark.parametrize(
    "trial",
    [
        "valid_unseen/pick_and_place_simple-AppleSliced-None-Desk-1/trial",
        "valid_unseen/pick_and_place_with_movable_recep-Mug-Box-Desk-1/trial",
        "valid_unseen/dance-Mug-None-Desk-1/trial",
    ],
)
def test_games_that_alfworld_leaves_out_are_left_out(data: Path, trial: str) -> None:
    put(data, trial)
    assert len(Games(data).tasks("valid_unseen")) == 30


def test_games_without_a_solution_or_a_goal_for_the_expert_are_left_out(data: Path) -> None:
    put(data, "valid_unseen/pick_and_place_simple-Cup-None-Desk-1/trial", solvable=False)
    put(data, "valid_unseen/pick_and_place_simple-Cup-None-Desk-2/trial")
    (data / "json_2.1.1/valid_unseen/pick_and_place_simple-Cup-None-Desk-2/trial").joinpath(
        "traj_data.json"
    ).unlink()
    assert len(Games(data).tasks("valid_unseen")) == 30


@pytest.mark.parametrize("split", ["test", "", "valid", "../valid_unseen"])
def test_an_unknown_split_names_the_known_ones(data: Path, split: str) -> None:
    with pytest.raises(WorldMissing, match=r"unknown split .*train, valid_seen, valid_unseen"):
        Games(data).tasks(split)


@pytest.mark.parametrize("split", ["train:", "train:x", "train:0", "train:-3", "train:1:2"])
def test_a_number_of_tasks_must_be_one(data: Path, split: str) -> None:
    with pytest.raises(WorldMissing, match=f"split '{split}' of alfworld: write it like 'train:4"):
        Games(data).tasks(split)


def test_a_split_that_is_not_there_says_what_to_do(data: Path) -> None:
    with pytest.raises(WorldMissing, match=r"split 'train' of alfworld is not in .*make alfworld"):
        Games(data).tasks("train")


@pytest.mark.parametrize("name", ["valid_unseen/x/y", "valid_unseen/../../secret", "x", ""])
def test_a_game_that_is_not_there_says_what_to_do(data: Path, name: str) -> None:
    with pytest.raises(WorldMissing, match=f"game '{name}' is not in .*alfworld-download"):
        Games(data).file(Task(name, "valid_unseen", TASK_TYPES[0]))


def test_the_named_folder_goes_before_the_environment_and_the_cache(tmp_path: Path) -> None:
    given, named, cache = (tmp_path / name for name in ("given", "named", "cache"))
    for folder in (given, named, cache / "alfworld"):
        (folder / "json_2.1.1").mkdir(parents=True)
    environ = {"ALFWORLD_DATA": str(named)}
    assert find_data(given, environ, cache) == given
    assert find_data(None, environ, cache) == named
    assert find_data(None, {}, cache) == cache / "alfworld"
    assert find_data(None, {"ALFWORLD_DATA": ""}, cache) == cache / "alfworld"


def test_a_folder_without_games_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorldMissing, match=f"no ALFWorld games in {tmp_path / 'x'}.*--data"):
        find_data(None, {"ALFWORLD_DATA": str(tmp_path / "x")}, tmp_path)
