"""Claude Code, not interactive, with the settings and commands of its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.suites.coding_agents import WRITTEN, Program, run
from tests.suites.pages import page

pytestmark = pytest.mark.suites

CLAUDE = Program("claude", "@anthropic-ai/claude-code", "2.1.197")
PAGE = page("claude-code")
SERVED = {
    "passthrough": ("passthrough", "coder", {"teacher passthrough": 2}),
    "student": ("cascade", "coder", {"student agreed": 2}),
    "refused": ("cascade", "wavering-coder", {"teacher disagreed": 2}),
    "spooled": ("cascade", "coder", {"student agreed": 2}),
}


@pytest.mark.parametrize("mode", SERVED)
def test_a_command_is_run_and_its_output_is_answered(mode: str, tmp_path: Path) -> None:
    alias, student, served = SERVED[mode]

    ran = run(CLAUDE, PAGE, tmp_path, mode=alias, student=student, database=mode != "spooled")

    told = json.loads(ran.printed)
    assert (told["is_error"], told["result"]) == (False, f"It says: {WRITTEN}")
    assert ran.results == [WRITTEN]
    assert ran.served == served
    assert ran.episodes == ({} if mode == "spooled" else {told["session_id"]: True})
    assert ran.complaints == []


def test_with_thinking_the_teacher_takes_every_step(tmp_path: Path) -> None:
    exports, commands, _ = PAGE.blocks("bash")
    lines = [line for line in exports.splitlines() if "MAX_THINKING_TOKENS" not in line]
    assert len(lines) == len(exports.splitlines()) - 1

    ran = run(CLAUDE, PAGE, tmp_path, script="\n".join([*lines, commands]))

    assert json.loads(ran.printed)["result"] == f"It says: {WRITTEN}"
    assert ran.served == {"teacher unsupported": 2}


def test_a_session_that_is_resumed_stays_one_episode(tmp_path: Path) -> None:
    exports, commands, _ = PAGE.blocks("bash")
    again = 'claude -p "And now?" --resume "$session" --output-format json | jq -r .result\n'

    ran = run(CLAUDE, PAGE, tmp_path, script=f"{exports}{commands}{again}")

    first, second = map(json.loads, ran.printed.splitlines())
    assert first["session_id"] == second["session_id"]
    assert sum(ran.served.values()) == 4
    assert ran.episodes == {first["session_id"]: True}
