"""Codex, not interactive, with the file and the commands of its page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.suites.coding_agents import COMMAND, WRITTEN, Program, Ran, run
from tests.suites.pages import page

pytestmark = pytest.mark.suites

CODEX = Program("codex", "@openai/codex", "0.169.0")
PAGE = page("codex")
SERVED = {
    "passthrough": ("passthrough", "coder", {"teacher passthrough": 2}),
    "student": ("cascade", "coder", {"student agreed": 2}),
    "refused": ("cascade", "wavering-coder", {"teacher disagreed": 2}),
    "spooled": ("cascade", "coder", {"student agreed": 2}),
}


def home(settings: str) -> dict[str, str]:
    """Its settings, without its sandbox, which needs rights that a container may lack."""
    return {".codex/config.toml": f'sandbox_mode = "danger-full-access"\n{settings}'}


def events(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.printed.splitlines()]


def items(ran: Ran, kind: str) -> list[dict[str, Any]]:
    """Items of a kind that are complete."""
    done = [one["item"] for one in events(ran) if one["type"] == "item.completed"]
    return [item for item in done if item["type"] == kind]


@pytest.mark.parametrize("mode", SERVED)
def test_a_command_is_run_and_its_output_is_answered(mode: str, tmp_path: Path) -> None:
    alias, student, served = SERVED[mode]
    (settings,) = PAGE.blocks("text")

    ran = run(
        CODEX,
        PAGE,
        tmp_path,
        mode=alias,
        student=student,
        home=home(settings),
        database=mode != "spooled",
    )

    (command,) = items(ran, "command_execution")
    assert COMMAND in command["command"]
    assert (command["exit_code"], command["aggregated_output"].strip()) == (0, WRITTEN)
    (message,) = items(ran, "agent_message")
    assert message["text"].startswith("It says: ")
    assert message["text"].endswith(WRITTEN)
    assert WRITTEN in ran.results[-1]
    assert ran.served == served
    episode = events(ran)[0]["thread_id"]
    assert ran.episodes == ({} if mode == "spooled" else {episode: True})
    assert ran.complaints == []


def test_with_its_own_tools_the_teacher_takes_every_step(tmp_path: Path) -> None:
    (settings,) = PAGE.blocks("text")
    usual = re.sub(r"^web_search.*\n|^\[agents\]\n^enabled.*\n", "", settings, flags=re.MULTILINE)
    assert "agents" not in usual
    assert "web_search" not in usual

    ran = run(CODEX, PAGE, tmp_path, home=home(usual))

    assert ran.served == {"teacher unsupported": 2}


def test_a_thread_that_is_resumed_stays_one_episode(tmp_path: Path) -> None:
    (settings,) = PAGE.blocks("text")
    commands = PAGE.blocks("bash")[0]
    again = 'codex exec resume --json --skip-git-repo-check "$thread" "And now?" | jq -r .type\n'

    ran = run(CODEX, PAGE, tmp_path, script=commands + again, home=home(settings))

    assert len({one["thread_id"] for one in events(ran) if "thread_id" in one}) == 1
    assert sum(ran.served.values()) == 4
    assert list(ran.episodes.values()) == [True]
