from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from tutelage.benchmarks.household.goals import WORDINGS, read_goal
from tutelage.benchmarks.household.rules import State, achieved
from tutelage.benchmarks.household.tasks import SPLITS, Game, game, tasks
from tutelage.runtime.errors import WorldMissing

DIGEST = "cbd8c0b873d85f58d150c2236b715a94418cf18af8406bcafe495a49b92f2449"
DIGEST_SCRIPT = """
import hashlib
from tutelage.benchmarks.household.tasks import game
ids = [f"{split}-{index:05d}" for split in ("train", "test") for index in range(24)]
print(hashlib.sha256("".join(repr(game(i)) for i in ids).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def games() -> dict[str, list[Game]]:
    return {split: [game(task.id) for task in tasks(f"{split}:500")] for split in SPLITS}


def test_splits_have_their_sizes_and_stable_ids() -> None:
    assert {split: len(tasks(split)) for split in SPLITS} == {"train": 200, "test": 60}
    assert [task.id for task in tasks("test:3")] == ["test-00000", "test-00001", "test-00002"]
    assert tasks("train:500")[:200] == tasks("train")
    assert {task.split for task in tasks("test:40")} == {"test"}


@pytest.mark.parametrize("split", ["train:100", "test:7"])
def test_categories_take_turns(split: str) -> None:
    categories = [task.category for task in tasks(split)]
    assert categories[:6] == list(WORDINGS)[: len(categories)]
    counts = [categories.count(category) for category in WORDINGS]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    "split", ["", "dev", "train:", "train:0", "train:-3", "test:many", "Train", "train:99999999"]
)
def test_an_unknown_split_is_refused_with_the_known_ones(split: str) -> None:
    with pytest.raises(WorldMissing, match=rf"no split '{split}': use train or test"):
        tasks(split)


@pytest.mark.parametrize("task_id", ["", "train-1", "dev-00001", "train-000001", "train-00001x"])
def test_an_unknown_task_is_refused_with_the_form_of_an_id(task_id: str) -> None:
    with pytest.raises(WorldMissing, match="ids look like train-00012"):
        game(task_id)


def test_the_game_behind_an_id_has_the_category_of_its_task() -> None:
    for task in tasks("train:60"):
        assert read_goal(game(task.id).wording) == game(task.id).goal
        assert game(task.id).goal.category == task.category


def test_no_game_is_won_before_it_starts(games: dict[str, list[Game]]) -> None:
    for split in SPLITS:
        for played in games[split]:
            assert not achieved(played.goal, State(played.room.contents))


def test_train_and_test_share_no_room_and_no_goal_in_a_room(games: dict[str, list[Game]]) -> None:
    rooms = {split: {g.room.floor_plan for g in games[split]} for split in SPLITS}
    pairs = {split: {(g.goal, g.room.floor_plan) for g in games[split]} for split in SPLITS}
    assert rooms["train"].isdisjoint(rooms["test"])
    assert pairs["train"].isdisjoint(pairs["test"])
    assert len({repr(g) for split in SPLITS for g in games[split]}) == 1000


def test_some_test_goals_pair_a_thing_with_a_place_that_training_never_does(
    games: dict[str, list[Game]],
) -> None:
    trained = {(g.goal.thing, g.goal.place) for g in games["train"]}
    unseen = [g for g in games["test"] if (g.goal.thing, g.goal.place) not in trained]
    assert 0.05 < len(unseen) / len(games["test"]) < 0.5


def test_rooms_and_goals_are_varied(games: dict[str, list[Game]]) -> None:
    for split in SPLITS:
        assert {g.room.kind for g in games[split]} == {
            "kitchen",
            "bathroom",
            "bedroom",
            "livingroom",
        }
        assert len({g.wording for g in games[split]}) > 150


def test_an_id_means_the_same_game_in_every_release() -> None:
    ids = [f"{split}-{index:05d}" for split in ("train", "test") for index in range(24)]
    assert hashlib.sha256("".join(repr(game(i)) for i in ids).encode()).hexdigest() == DIGEST


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_an_id_means_the_same_game_in_another_process(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", DIGEST_SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == DIGEST
