from __future__ import annotations

from collections import Counter

import pytest

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.office.changes import state_of
from tutelage.benchmarks.office.solution import blocks_of
from tutelage.benchmarks.office.tasks import SCENARIOS, game, tasks
from tutelage.runtime.errors import WorldMissing

SPLITS = ("train", "dev", "test")


def _scenarios(split: str) -> set[str]:
    return {task.id.rpartition("-")[0] for task in tasks(split)}


def test_there_are_at_least_sixty_scenarios_of_three_levels_in_three_variants() -> None:
    assert len(SCENARIOS) >= 60
    counts = Counter(task.id.rpartition("-")[0] for split in SPLITS for task in tasks(split))
    assert counts == dict.fromkeys(SCENARIOS, 3)
    for split in SPLITS:
        assert Counter(task.category for task in tasks(split)).keys() == {"easy", "medium", "hard"}
    assert len(tasks("test")) >= 60


def test_no_scenario_is_in_two_splits() -> None:
    train, dev, test = map(_scenarios, SPLITS)
    assert not train & dev | train & test | dev & test
    assert train | dev | test == set(SCENARIOS)


def test_a_part_of_a_split_is_its_beginning_and_levels_take_turns() -> None:
    assert tasks("test:20") == tasks("test")[:20]
    assert [task.category for task in tasks("test:9")] == ["easy"] * 3 + ["medium"] * 3 + [
        "hard"
    ] * 3


def test_more_tasks_than_a_split_has_are_further_variants() -> None:
    more = tasks("train:400")
    assert len({task.id for task in more}) == 400
    assert more[: len(tasks("train"))] == tasks("train")
    assert {task.id.rpartition("-")[0] for task in more} == _scenarios("train")


def test_an_id_is_enough_to_know_the_task() -> None:
    for task in tasks("test")[::5]:
        first, second = game(task.id), game(task.id)
        assert first.assignment == second.assignment
        assert first.before == second.before == state_of(second.desk.connection)


def test_variants_differ() -> None:
    for name in SCENARIOS:
        offices = [game(f"{name}-{variant}") for variant in range(3)]
        seen = {(one.assignment.goal, str(one.assignment.answer)) for one in offices}
        people = {one.desk.profile["email"] for one in offices}
        assert len(seen) > 1 or len(people) == 3


def test_every_task_asks_for_something_and_its_values_stand_in_the_goal() -> None:
    for split in SPLITS:
        for task in tasks(split):
            playing = game(task.id)
            assignment = playing.assignment
            assert assignment.wanted or assignment.answer is not None, task.id
            verdict = playing.judge()
            assert not verdict.success
            playing.desk.completed = True
            assert not playing.judge().success, task.id


def test_a_solution_reads_the_documentation_of_all_it_uses() -> None:
    for name, scenario in SCENARIOS.items():
        assignment = game(f"{name}-0").assignment
        blocks = blocks_of(scenario.solution, assignment.values, answers=True)
        text = "\n".join(block.code for block in blocks)
        assert "$" not in "".join(block.thought for block in blocks)
        assert blocks[0].code == "print(apis.api_docs.show_app_descriptions())"
        assert blocks[-1].code == "apis.supervisor.complete_task(answer=answer)"
        assert "show_account_passwords" in text
        assert all(block.thought and block.code for block in blocks), name


@pytest.mark.parametrize("split", ["valid", "test:0", "test:x", "", "train:9999999"])
def test_an_unknown_split_is_refused(split: str) -> None:
    with pytest.raises(WorldMissing, match="use train, dev or test"):
        tasks(split)


@pytest.mark.parametrize("task_id", ["pin_note", "pin_note-x", "nothing-0", "pin_note-00", ""])
def test_an_unknown_task_is_refused(task_id: str) -> None:
    with pytest.raises(WorldMissing, match="ids look like star_mail-0"):
        game(Task(task_id, "test", "easy").id)
