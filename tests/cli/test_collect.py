from __future__ import annotations

from pathlib import Path
from typing import Any

HASH = ("--set", "retrieval.embedder=hash")


def test_collected_episodes_become_demonstrations(played: Any) -> None:
    ran = played.collected

    assert (ran.code, ran.err) == (0, "")
    assert ran.json["stopped"] == "finished"
    assert ran.json["episodes"] == ran.json["added"] == 3
    assert ran.json["demonstrations"] >= 9
    assert ran.json["spent_usd"] > 0


def test_collecting_again_plays_and_adds_nothing(tutelage: Any, tmp_path: Path) -> None:
    command = ("collect", "household", "--split", "train:1", *HASH)

    first, again = tutelage(*command), tutelage(*command)

    assert (first.code, again.code) == (0, 0)
    assert first.err == again.err == ""
    assert first.out.splitlines()[0].startswith("finished: 1 of 1 episodes done, $")
    assert "bank: 1 trajectories added, 0 already there; " in first.out
    assert "bank: 0 trajectories added, 1 already there; " in again.out
    assert again.out.splitlines()[0] == first.out.splitlines()[0]
    assert (tmp_path / "out/household-bank/results.jsonl").read_text().count("\n") == 1


def test_detours_show_how_to_recover(tutelage: Any, endpoint: Any) -> None:
    endpoint.say = "examine the ceiling"
    student = endpoint.settings("student")
    command = ("collect", "household", "--split", "train:5", "--detours", "0.5", *HASH, *student)

    ran = tutelage(*command, "--json")
    rows = tutelage("demos", "ls", "--json", *HASH).json
    shown = [tutelage("demos", "show", row["id"], "--json", *HASH).json for row in rows]

    assert ran.json["added"] == 5
    assert endpoint.bodies
    # Which steps are detours is drawn anew each time; one episode alone may have none.
    served = {turn["served"] for one in shown for turn in one["turns"]}
    assert served == {"student", "teacher"}
    assert sum(row["demonstrations"] for row in rows) == ran.json["demonstrations"]
    assert sum(row["turns"] for row in rows) > ran.json["demonstrations"]


def test_a_configured_model_can_be_the_teacher(tutelage: Any, endpoint: Any) -> None:
    command = ("collect", "household", "--split", "train:1", "--teacher", "model")
    limits = ("--max-steps", "2", *HASH, *endpoint.settings("teacher"))

    ran = tutelage(*command, *limits, "--json")

    assert ran.code == 0
    assert (ran.json["episodes"], ran.json["added"]) == (1, 0)
    assert [body["model"] for body in endpoint.bodies] == ["scripted", "scripted"]


def test_a_spent_cap_ends_with_4_and_can_be_raised(tutelage: Any) -> None:
    command = ("collect", "household", "--split", "train:2", *HASH)

    capped = tutelage(*command, "--max-usd", "0.001")
    raised = tutelage(*command, "--max-usd", "5", "--json")

    assert capped.code == 4
    assert capped.out.startswith("the cap of $0.001 is reached: 0 of 2 episodes done")
    assert "raise it to go on" in capped.out
    assert (raised.code, raised.json["episodes"]) == (0, 2)


def test_a_store_that_lacks_the_episodes_of_the_folder_is_noticed(tutelage: Any) -> None:
    command = ("collect", "household", "--split", "train:1", *HASH)
    tutelage(*command)

    ran = tutelage(*command, "--set", "store.url=sqlite:///other.sqlite")

    assert ran.code == 1
    assert "which is not in sqlite:///other.sqlite" in ran.line
    assert "use the store it was played with, or another folder" in ran.line
