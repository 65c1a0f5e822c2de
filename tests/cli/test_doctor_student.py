"""``tutelage doctor --student`` and ``tutelage bench drafting`` without a real vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.overhead.drafting_server import Servers

from tutelage.overhead import recorded_steps

HASH = ("--set", "retrieval.embedder=hash")


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    made = Servers()
    monkeypatch.setattr(recorded_steps, "student_servers", lambda config: made)
    return made


@pytest.fixture
def played(tutelage: Any, endpoint: Any) -> None:
    """Steps in which a student was asked."""
    ran = tutelage(
        *("replay", "household", "--split", "test:1", "--arms", "cascade", "--jobs", "1"),
        *("--max-steps", "4", *HASH, "--json", *endpoint.settings("student")),
    )
    assert ran.code == 0, ran.err


def test_an_empty_store_is_named_in_one_line(tutelage: Any, servers: Servers) -> None:
    ran = tutelage("doctor", "--student")

    assert ran.code != 0
    assert "no step of tenant 'default' in which the student was asked" in ran.line
    assert servers.made == []


def test_people_get_a_table_and_what_to_set(tutelage: Any, servers: Servers, played: None) -> None:
    ran = tutelage("doctor", "--student", "--steps", "3")

    assert ran.code == 0, ran.err
    assert "3 recorded steps of default" in ran.out
    assert "not run: Arctic Inference is required" in ran.out
    assert "plain against itself differs by" in ran.out
    assert "n-gram: starting vLLM" in ran.err
    sampled = [body for body in servers.made[0].bodies if (body.get("n") or 1) > 1]
    assert len(sampled) == 3


def test_machines_get_every_figure(tutelage: Any, servers: Servers, played: None) -> None:
    ran = tutelage("doctor", "--student", "--steps", "2", "--json")

    assert (ran.code, ran.err) == (0, "")
    assert ran.json["steps"] == 2
    by_name = {one["name"]: one for one in ran.json["drafters"]}
    assert by_name["n-gram"]["greedy"]["tokens_a_forward"] == 2.0
    assert by_name["plain"]["greedy"]["acceptance"] is None
    assert by_name["suffix"]["refused"].startswith("Arctic Inference")
    assert by_name["n-gram"]["settings"] == [
        "student.speculation.method=ngram",
        "student.speculation.tokens=4",
    ]
    assert ran.json["advice"]["text"]


def test_the_layouts_are_measured_by_a_command(
    tutelage: Any, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage.overhead import setting
    from tutelage.retrieval.embedding import HashEmbedder

    opened = setting.open_setting
    monkeypatch.setattr(
        setting,
        "open_setting",
        lambda folder, **more: opened(folder, make_embedder=HashEmbedder, **more),
    )
    out = tmp_path / "bench"
    given = ("--demonstrations", "40", "--steps", "2", "--out", str(out))

    shown = tutelage("bench", "drafting", *given)
    machine = tutelage("bench", "drafting", *given, "--json")

    assert shown.code == 0, shown.err
    assert "no demonstrations" in shown.out
    assert "n-gram: starting vLLM" in shown.err
    assert (out / "drafting.json").exists()
    assert len(machine.json["rows"]) == 6
