from __future__ import annotations

from typing import Any

import pytest


def test_the_latest_steps_are_listed(tutelage: Any, played: Any) -> None:
    rows = tutelage("traces", "ls", "--limit", "5", "--json", *played.store).json
    table = tutelage("traces", "ls", "--limit", "5", *played.store)

    assert len(rows) == 5
    assert "prompt" not in rows[0]
    assert table.out.startswith("5 steps")
    assert all(row["id"] in table.out for row in rows)


def test_steps_are_picked_by_episode_and_by_who_served(tutelage: Any, played: Any) -> None:
    every = ("traces", "ls", "--limit", "1000", "--json", *played.store)
    rows = tutelage(*every).json
    mixed = next(r["episode_id"] for r in rows if r["episode_id"].startswith("demos-cascade-"))

    picked = tutelage(*every, "--episode", mixed, "--served", "teacher").json

    wanted = [r for r in rows if r["episode_id"] == mixed and r["decision"]["served"] == "teacher"]
    assert picked == wanted
    assert 0 < len(wanted) < len(rows)


def test_a_step_is_shown_in_full(tutelage: Any, played: Any) -> None:
    rows = tutelage("traces", "ls", "--limit", "1000", "--json", *played.store).json
    agreed = next(row for row in rows if row["decision"]["reason"] == "agreed")

    ran = tutelage("traces", "show", agreed["id"], *played.store)
    machine = tutelage("traces", "show", agreed["id"], "--json", *played.store).json

    assert machine["prompt"][0]["role"] == "system"
    assert "prompt of the student:\n  system: You play a text household game." in ran.out
    assert ran.out.count("sample: 'look' -> look") == 3
    assert "decision: student (agreed), agreement 1.00" in ran.out
    assert "answer: look" in ran.out
    assert f"demonstrations: {', '.join(agreed['demonstrations'])}" in ran.out
    assert "student: 100 prompt tokens (0 cached), 3 generated, $0.000045" in ran.out
    assert "teacher alone, uncached: $" in ran.out
    assert "latency: retrieve" in ran.out


def test_a_step_of_the_teacher_has_no_samples(tutelage: Any, played: Any) -> None:
    rows = tutelage("traces", "ls", "--limit", "1000", "--json", *played.store).json
    taught = next(row for row in rows if row["episode_id"].startswith("teacher-"))

    ran = tutelage("traces", "show", taught["id"], *played.store)

    assert "prompt of the teacher:" in ran.out
    assert "demonstrations: none" in ran.out
    assert "decision: teacher (always)\n" in ran.out


def test_an_empty_store_says_how_to_fill_it(tutelage: Any) -> None:
    ran = tutelage("traces", "ls")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "no traces yet: `tutelage collect household` makes some\n"
    assert tutelage("traces", "ls", "--json").json == []


def test_traces_can_be_read_whatever_the_bank_was_built_with(tutelage: Any, played: Any) -> None:
    ran = tutelage("traces", "ls", *played.store, "--set", "retrieval.embedder=minilm", "--json")

    assert (ran.code, len(ran.json)) == (0, 20)


@pytest.mark.parametrize("id", ["nope", ""])
def test_an_unknown_trace_says_where_to_look(tutelage: Any, played: Any, id: str) -> None:
    ran = tutelage("traces", "show", id, *played.store)

    assert ran.code == 1
    assert ran.line == f"error: tenant default has no trace {id!r}: `tutelage traces ls`"


def test_only_student_and_teacher_serve(tutelage: Any) -> None:
    ran = tutelage("traces", "ls", "--served", "oracle")

    assert ran.code == 2
    assert ran.line == "error: --served 'oracle' is unknown: student or teacher"


def test_a_failure_that_was_survived_is_shown(tutelage: Any, endpoint: Any) -> None:
    hash = ("--set", "retrieval.embedder=hash")
    arms = ("--arms", "cascade", "--split", "test:1", "--max-steps", "1")
    short = ("--set", "prompt.max_prompt_tokens=64", *endpoint.settings("student"))
    played = tutelage("replay", "household", *arms, *short, *hash)
    (row,) = tutelage("traces", "ls", "--json", *hash).json

    ran = tutelage("traces", "show", row["id"], *hash)

    assert (played.code, played.err) == (0, "")
    assert "decision: teacher (student_failed)" in ran.out
    assert "survived: ContextTooLong: the step needs" in ran.out
    assert "prompt.max_prompt_tokens = 64: raise it" in ran.out
