from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tutelage.version import __version__

VERBS = [
    "init",
    "doctor",
    "collect",
    "replay",
    "report",
    "accuracy",
    "bench",
    "demos",
    "traces",
    "student",
]


def test_the_version_is_printed(tutelage: Any) -> None:
    ran = tutelage("--version")

    assert (ran.code, ran.out, ran.err) == (0, f"{__version__}\n", "")


def test_help_lists_every_verb_and_every_exit_code(tutelage: Any) -> None:
    ran = tutelage("--help")

    assert (ran.code, ran.err) == (0, "")
    for verb in VERBS:
        assert f" {verb} " in ran.out
    for code in ("0 done", "1 an error", "2 wrong usage", "3 doctor", "4 stopped", "130"):
        assert code in " ".join(ran.out.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(tutelage: Any, verb: str) -> None:
    ran = tutelage(verb, "--help")

    assert (ran.code, ran.err) == (0, "")
    assert f"tutelage {verb}" in ran.out


@pytest.mark.parametrize("arguments", [(), ("demos",), ("traces",), ("student",)])
def test_a_command_without_its_verb_shows_what_there_is(
    tutelage: Any, arguments: tuple[str, ...]
) -> None:
    ran = tutelage(*arguments)

    assert (ran.code, ran.err) == (2, "")
    assert ran.out.count("Usage: tutelage") == 1
    assert "Commands" in ran.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("replya",), "No such command 'replya'"),
        (("demos", "ls", "--wrong"), "No such option: --wrong"),
        (("replay",), "Invalid value: name a world, for example household"),
        (("collect", "household", "--max-steps", "0"), "Invalid value for '--max-steps'"),
        (("collect", "household", "--jobs", "many"), "Invalid value for '--jobs'"),
        (("collect", "household", "--detours", "1"), "Invalid value for '--detours'"),
        (("report",), "Missing argument 'FOLDER'"),
        (("traces", "show", "a", "b"), "Got unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(
    tutelage: Any, arguments: tuple[str, ...], line: str
) -> None:
    ran = tutelage(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert ran.line.startswith(f"error: {line}")
    assert "; see tutelage" in ran.line
    assert ran.line.endswith(" --help")


def test_json_is_all_that_is_printed_to_stdout_by_every_verb_that_offers_it(
    tutelage: Any, played: Any, endpoint: Any
) -> None:
    student = endpoint.settings("student")
    play = ("household", "--split", "test:1", "--max-steps", "1", *played.store, *student, "--json")
    demonstration = tutelage("demos", "ls", "--json", *played.store).json[0]["id"]
    trace = tutelage("traces", "ls", "--json", *played.store).json[0]["id"]
    commands: list[tuple[Any, ...]] = [
        ("doctor", *played.store, *student, "--json"),
        ("collect", *play),
        ("replay", *play, "--arms", "student"),
        ("report", played.results, "--json"),
        ("accuracy", played.results, "--steps", "1", "--json", *played.store, *student),
        ("demos", "show", demonstration, "--json", *played.store),
        ("traces", "show", trace, "--json", *played.store),
        ("student", "status", "--json"),
    ]

    for command in commands:
        ran = tutelage(*command)

        assert isinstance(ran.json, list | dict), command
        assert ran.err == "", command


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("--version",), 0, None),
        (("report", "nowhere"), 1, "nowhere holds no finished episode yet"),
        (("doctor", "--config", "none.toml"), 2, "none.toml does not exist: run `tutelage init`"),
        (("demos", "ls", "--wrong"), 2, "No such option: --wrong"),
    ],
)
def test_the_exit_code_of_the_process_says_how_it_ended(
    tmp_path: Path, arguments: tuple[str, ...], code: int, line: str | None
) -> None:
    command = Path(sys.executable).with_name("tutelage")
    environment = {**os.environ, "TUTELAGE_CACHE": str(tmp_path)}

    ran = subprocess.run(
        [command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )

    assert ran.returncode == code
    if line is None:
        assert ran.stderr == ""
    else:
        assert ran.stderr.startswith(f"error: {line}")
        assert ran.stderr.count("\n") == 1
