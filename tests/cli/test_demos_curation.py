from __future__ import annotations

from typing import Any

import pytest

HASH = ("--set", "retrieval.embedder=hash")


@pytest.fixture
def collected(tutelage: Any) -> list[dict[str, Any]]:
    tutelage("collect", "household", "--split", "train:2", *HASH)
    rows: list[dict[str, Any]] = tutelage("demos", "ls", "--json", *HASH).json
    return rows


def test_versions_are_listed_and_rolled_back(
    tutelage: Any, collected: list[dict[str, Any]]
) -> None:
    gone = collected[0]["id"]
    tutelage("demos", "retire", gone, *HASH)

    rows = tutelage("demos", "versions", "--json", *HASH).json
    table = tutelage("demos", "versions", "--limit", "1", *HASH).out
    back = tutelage("demos", "rollback", "1", "--yes", *HASH)

    assert [(row["number"], row["cause"], row["trajectories"]) for row in rows] == [
        (2, f"retired {gone}", 1),
        (1, "added", 2),
    ]
    assert table.endswith("1 more: --limit 2\n")
    assert back.out == "rolled back to version 1: 1 trajectories changed\n"
    assert len(tutelage("demos", "ls", "--json", *HASH).json) == 2
    again = tutelage("demos", "rollback", "2", "--yes", "--json", *HASH)
    assert again.json == {"version": 2, "changed": 1}


def test_an_unknown_version_says_where_to_look(tutelage: Any) -> None:
    ran = tutelage("demos", "rollback", "7", "--yes", *HASH)

    assert ran.code == 1
    assert ran.line == (
        "error: the bank of tenant 'default' has no version 7: `tutelage demos versions` lists them"
    )
    assert tutelage("demos", "versions", *HASH).out.startswith("no versions yet")


def test_a_key_is_revoked(tutelage: Any, collected: list[dict[str, Any]]) -> None:
    ran = tutelage("demos", "revoke", "k1", "--yes", *HASH)
    machine = tutelage("demos", "revoke", "k1", "--yes", "--json", *HASH).json

    assert ran.out == (
        "revoked k1: 0 trajectories retired, 0 answers rejected; "
        "nothing of it is taken from now on\n"
    )
    assert machine == {"key_id": "k1", "retired": 0, "rejected": 0}
    assert len(tutelage("demos", "ls", "--json", *HASH).json) == len(collected)


@pytest.mark.parametrize("command", [("rollback", "0"), ("revoke", "k1")])
def test_what_takes_demonstrations_away_asks_first(
    tutelage: Any, command: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    unasked = tutelage("demos", *command, *HASH)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    refused = tutelage("demos", *command, *HASH)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    agreed = tutelage("demos", *command, *HASH)

    assert unasked.code == 2
    assert unasked.line.startswith("error: to r")
    assert unasked.line.endswith("say --yes")
    assert (refused.code, agreed.code) == (1, 0)


def test_nothing_is_quarantined_and_nothing_known_at_first(tutelage: Any) -> None:
    assert tutelage("demos", "quarantined", *HASH).out == "no trajectory is in quarantine\n"
    assert tutelage("demos", "quarantined", "--json", *HASH).json == {
        "trajectories": [],
        "answers": [],
    }
    assert tutelage("demos", "utility", *HASH).out.startswith("nothing is known yet")
    assert tutelage("demos", "utility", "--json", *HASH).json == []
    assert tutelage("demos", "curate", *HASH).out == (
        "0 new answers of a teacher: 0 promoted, 0 held back, 0 rejected\n"
    )


def test_what_is_held_back_and_what_it_is_worth_is_shown(tutelage: Any) -> None:
    import asyncio

    asyncio.run(fill())

    done = tutelage("demos", "curate", "--json", *HASH).json
    held = tutelage("demos", "quarantined", "--limit", "1", *HASH).out
    worth = tutelage("demos", "utility", "--limit", "1", *HASH).out
    retired = tutelage("demos", "curate", *HASH).out

    assert (done["candidates"], done["waiting"], done["harmful"]) == (1, 0, 0)
    assert "2 trajectories in quarantine" in held
    assert "suspicious" in held
    assert "1 more: --limit 2" in held
    assert held.endswith("1 answers quarantined: its episode has no outcome yet\n")
    assert "of 4" in worth
    assert worth.endswith("1 more: --limit 2\n")
    assert retired.splitlines()[0].startswith("0 new answers")


async def fill() -> None:
    """Two trajectories in quarantine, what chance left out of four episodes, an open episode."""
    from tutelage.assembly import open_assembly
    from tutelage.retrieval.exposures import Exposure, SqlExposureLog
    from tutelage.retrieval.origins import Origin
    from tutelage.runtime.config import load_config
    from tutelage.runtime.types import (
        Decision,
        EpisodeRecord,
        Reason,
        Trace,
        Trajectory,
        Turn,
    )

    free = {"input": 0.0, "output": 0.0}
    values = {"retrieval.embedder": "hash", "teacher.price": free, "student.price": free}
    async with open_assembly(load_config(environment={}, overrides=values)) as assembly:
        log = SqlExposureLog(assembly.engine)
        made = [
            Trajectory(
                id=f"t{number}",
                tenant="default",
                goal=f"find {'key' * number}",
                turns=(Turn("a room", "look", "teacher"),),
                success=True,
                source="big",
            )
            for number in (1, 2)
        ]
        held = {one.id: Origin("quarantined", "suspicious", frozenset({"k"})) for one in made}
        await assembly.bank.add(made, origins=held)
        for number in range(4):
            record = EpisodeRecord(
                id=f"e{number}", tenant="default", success=True, created_at_s=1.0
            )
            await assembly.traces.record_episode(record)
            now_s = 4e9
            log.post(Exposure("default", record.id, 0, "step", now_s, 0.1, ("t1",), ("t2",)))
        trace = Trace(
            id="x",
            tenant="default",
            episode_id="open",
            step_index=0,
            created_at_s=1.0,
            model="m",
            goal="g",
            observation="o",
            answer="go",
            decision=Decision(served="teacher", reason=Reason.ALWAYS),
        )
        await assembly.traces.append(trace)
        await log.aclose()
