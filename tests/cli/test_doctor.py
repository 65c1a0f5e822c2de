from __future__ import annotations

import socket
from typing import Any

import pytest

HASH = ("--set", "retrieval.embedder=hash")
PARTS = ["versions", "prices", "store", "embedder", "student", "teacher"]


def by_part(ran: Any) -> dict[str, dict[str, Any]]:
    return {finding["part"]: finding for finding in ran.json}


@pytest.fixture
def dead_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def test_all_is_well_where_both_endpoints_answer(tutelage: Any, endpoint: Any) -> None:
    roles = (*endpoint.settings("student"), *endpoint.settings("teacher"))

    ran = tutelage("doctor", *HASH, *roles, "--json")

    found = by_part(ran)
    assert (ran.code, ran.err) == (0, "")
    assert [finding["part"] for finding in ran.json] == PARTS
    assert all(finding["ok"] for finding in ran.json)
    assert "tutelage 0" in found["versions"]["text"]
    assert found["store"]["text"] == "sqlite:///tutelage.sqlite is empty"
    assert "hash-256, 256 dimensions" in found["embedder"]["text"]
    assert "bank of default: 0 demonstrations" in found["embedder"]["text"]
    assert found["teacher"]["text"].startswith(f"scripted at {endpoint.base_url}: 0.")
    assert endpoint.bodies[-1]["max_tokens"] == 1


def test_people_get_one_line_a_part(tutelage: Any, endpoint: Any) -> None:
    ran = tutelage("doctor", *HASH, *endpoint.settings("student"))

    lines = ran.out.splitlines()
    assert ran.code == 3
    assert [line.split()[1] for line in lines] == PARTS
    assert lines[4].startswith("ok   student")
    assert lines[5].startswith("FAIL teacher    teacher.base_url is not set")
    assert "tutelage init" in lines[5]


def test_a_dead_endpoint_is_named(tutelage: Any, dead_url: str) -> None:
    for role in ("student", "teacher"):
        dead = ("--set", f"{role}.base_url={dead_url}", "--set", f"{role}.model=m")
        given = (*dead, "--set", f"{role}.priced_as=gpt-4.1", "--set", f"{role}.attempts=1")

        ran = tutelage("doctor", *HASH, *given, "--json")

        finding = by_part(ran)[role]
        assert ran.code == 3
        assert not finding["ok"]
        assert f"cannot connect to {dead_url}" in finding["text"]
        assert "start the endpoint" in finding["text"]


def test_an_endpoint_that_fails_is_quoted(tutelage: Any, endpoint: Any) -> None:
    endpoint.status = 404

    found = by_part(tutelage("doctor", *HASH, *endpoint.settings("student"), "--json"))

    assert "answered 404: out of order" in found["student"]["text"]
    assert "check base_url and the name of the model" in found["student"]["text"]


def test_a_missing_key_is_named_with_its_variable(
    tutelage: Any, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (*endpoint.settings("teacher"), "--set", "teacher.api_key_env=MY_KEY", "--json")

    missing = by_part(tutelage("doctor", *HASH, *given))["teacher"]
    monkeypatch.setenv("MY_KEY", "sk-secret-1")
    there = by_part(tutelage("doctor", *HASH, *given))["teacher"]

    assert not missing["ok"]
    assert missing["text"].endswith("export MY_KEY=…")
    assert there["ok"]
    assert endpoint.headers[-1]["authorization"] == "Bearer sk-secret-1"


def test_a_student_without_a_checkpoint_names_the_command_that_fetches_it(tutelage: Any) -> None:
    finding = by_part(tutelage("doctor", *HASH, "--json"))["student"]

    assert not finding["ok"]
    assert finding["text"].endswith("`tutelage student checkpoint` fetches it")


def test_an_unknown_price_hides_nothing_else(tutelage: Any, endpoint: Any) -> None:
    given = (*endpoint.settings("student"), "--set", "student.priced_as=no-such-model")

    found = by_part(tutelage("doctor", *HASH, *given, "--json"))

    assert "no-such-model" in found["prices"]["text"]
    assert {part for part, finding in found.items() if not finding["ok"]} == {"prices", "teacher"}


def test_a_configuration_that_cannot_be_read_is_said_in_one_line(
    tutelage: Any, tmp_path: Any
) -> None:
    (tmp_path / "tutelage.toml").write_text("[cascade\n")

    ran = tutelage("doctor")

    assert (ran.code, ran.out) == (2, "")
    assert ran.line.startswith("error: tutelage.toml is not valid TOML: ")


def test_a_bank_of_another_embedder_names_the_command_that_mends_it(
    tutelage: Any, played: Any
) -> None:
    store = (*played.store, "--set", "retrieval.embedder=minilm")

    found = by_part(tutelage("doctor", *store, "--json"))

    assert not found["embedder"]["ok"]
    assert "built with embedder 'hash-256'" in found["embedder"]["text"]
    assert "`tutelage demos reindex`" in found["embedder"]["text"]
    assert found["store"]["ok"]
