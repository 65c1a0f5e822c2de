from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def copied(played: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "copied"
    shutil.copytree(played.results, folder)
    (folder / "steps.jsonl").unlink()
    return folder


def test_every_arm_is_scored_on_the_drawn_steps(played: Any) -> None:
    ran = played.scored

    rows = {row["arm"]: row for row in ran.json}
    assert (ran.code, ran.err) == (0, "")
    assert list(rows) == ["student", "demos", "recall"]
    assert {row["steps"] for row in rows.values()} == {6}
    assert rows["student"]["agreed_share"] == 1
    assert rows["recall"]["agreed_share"] is None
    assert (played.results / "steps.jsonl").read_text().count("\n") == 18


def test_a_student_that_answers_as_the_teacher_did_is_exact(
    tutelage: Any, played: Any, endpoint: Any, copied: Path
) -> None:
    taught = tutelage("traces", "ls", "--limit", "100", "--json", *played.store).json
    answers = {
        trace["observation"]: trace["answer"]
        for trace in taught
        if trace["episode_id"].startswith("teacher-")
    }
    endpoint.say = lambda body, index: next(
        answer
        for observation, answer in answers.items()
        if body["messages"][-1]["content"].endswith(observation)
    )
    command = ("accuracy", copied, "--arms", "student", *played.store)

    ran = tutelage(*command, *endpoint.settings("student"), "--steps", "5")

    assert (ran.code, ran.err) == (0, "")
    assert "1.00 (0.57-1.00)" in ran.out
    assert "5/5" in ran.out


def test_scored_steps_are_not_asked_again(
    tutelage: Any, played: Any, endpoint: Any, copied: Path
) -> None:
    command = ("accuracy", copied, "--arms", "student", *played.store)
    student = endpoint.settings("student")
    tutelage(*command, *student, "--steps", "2")
    asked = len(endpoint.bodies)

    more = tutelage(*command, *student, "--steps", "3", "--json")

    assert (asked, len(endpoint.bodies)) == (4, 6)
    assert more.json[0]["steps"] == 3


def test_a_dead_student_is_no_score(
    tutelage: Any, played: Any, endpoint: Any, copied: Path
) -> None:
    endpoint.status = 404
    command = ("accuracy", copied, "--arms", "student", "--steps", "3", *played.store)

    ran = tutelage(*command, *endpoint.settings("student"))

    assert ran.code == 1
    assert ran.line.startswith("error: arm student, task test-0000")
    assert "answered 404: out of order" in ran.line
    assert "run again to go on" in ran.line
    assert not (copied / "steps.jsonl").exists()


def test_the_bank_does_not_answer_its_own_episode(tutelage: Any, played: Any) -> None:
    command = ("accuracy", played.folder / "bank", "--arms", "recall", *played.store)

    ran = tutelage(*command, "--name", "own.jsonl", "--json")

    assert ran.json[0]["exact"] < 0.5


def test_an_unknown_arm_and_a_folder_without_a_teacher_are_refused(
    tutelage: Any, played: Any, copied: Path
) -> None:
    unknown = tutelage("accuracy", copied, "--arms", "studnt", *played.store)
    empty = tutelage("accuracy", copied.parent, *played.store)

    assert unknown.code == 2
    assert unknown.line.endswith("'studnt' is unknown; known: student, demos, recall")
    assert empty.code == 1
    assert "play some first, tutelage replay --arms teacher" in empty.line
