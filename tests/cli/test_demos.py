from __future__ import annotations

from typing import Any

HASH = ("--set", "retrieval.embedder=hash")


def test_trajectories_are_listed(tutelage: Any, played: Any) -> None:
    rows = tutelage("demos", "ls", "--json", *played.store).json
    table = tutelage("demos", "ls", "--limit", "2", *played.store)

    assert len(rows) == 3
    assert {row["source"] for row in rows} == {"oracle:household"}
    assert rows[0]["demonstrations"] == rows[0]["turns"]
    assert f"3 trajectories, {sum(row['turns'] for row in rows)} demonstrations" in table.out
    assert rows[0]["id"] in table.out
    assert rows[2]["id"] not in table.out
    assert table.out.endswith("1 more: --limit 3\n")


def test_a_trajectory_or_one_step_of_it_is_shown(tutelage: Any, played: Any) -> None:
    row = tutelage("demos", "ls", "--json", *played.store).json[0]

    whole = tutelage("demos", "show", row["id"], *played.store)
    step = tutelage("demos", "show", f"{row['id']}:1", *played.store)
    machine = tutelage("demos", "show", f"{row['id']}:1", "--json", *played.store).json

    assert f"goal: {row['goal']}" in whole.out
    assert whole.out.count("\n> ") == row["turns"]
    assert step.out.count("\n> ") == 2
    assert f"> {machine['window'][1]['action']}  (teacher)" in step.out


def test_a_retired_trajectory_is_gone(tutelage: Any) -> None:
    tutelage("collect", "household", "--split", "train:1", *HASH)
    (row,) = tutelage("demos", "ls", "--json", *HASH).json

    retired = tutelage("demos", "retire", row["id"], *HASH)
    again = tutelage("demos", "retire", row["id"], *HASH)

    assert (retired.code, retired.out) == (0, f"retired {row['id']}\n")
    assert again.code == 1
    assert again.line == f"error: no active trajectory '{row['id']}': `tutelage demos ls`"
    assert tutelage("demos", "ls", "--json", *HASH).json == []


def test_an_empty_bank_says_how_to_fill_it(tutelage: Any) -> None:
    ran = tutelage("demos", "ls", *HASH)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "no demonstrations yet: `tutelage collect household` plays some\n"
    assert tutelage("demos", "ls", "--json", *HASH).out == "[]\n"
    assert tutelage("demos", "reindex", *HASH).out == "indexed 0 trajectories\n"


def test_tenants_do_not_see_each_other(tutelage: Any, played: Any) -> None:
    rows = tutelage("demos", "ls", "--tenant", "other", "--json", *played.store).json

    assert rows == []


def test_an_unknown_demonstration_says_where_to_look(tutelage: Any, played: Any) -> None:
    for id in ("nope", "nope:1", "nope:x", ":", ""):
        ran = tutelage("demos", "show", id, *played.store)

        assert ran.code == 1
        assert ran.line == (
            f"error: tenant default has no demonstration {id!r}: `tutelage demos ls`"
        )
