"""The code on the page about clients does what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.suites.gateways import RunningGateway

pytestmark = pytest.mark.suites

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "clients.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCRIPTS = {
    name: "\n\n".join(CODE.findall(text))
    for name, text in SECTION.findall(PAGE.read_text("utf-8"))
    if CODE.search(text)
}
EPISODES = {
    "OpenAI SDK": "task-17",
    "Anthropic SDK": "task-18",
    "OpenAI Agents SDK": "task-19",
    "LangChain and LangGraph": "task-20",
    "Pydantic AI": "task-21",
    "Instructor": None,
}
"""The session that each section names."""


def test_every_section_with_code_is_run() -> None:
    assert list(SCRIPTS) == list(EPISODES)


@pytest.mark.parametrize("name", EPISODES)
def test_the_code_of_the_page_gets_an_answer(
    name: str, gateways: dict[str, RunningGateway], tmp_path: Path
) -> None:
    gateway = gateways["agrees"]
    script = tmp_path / "page.py"
    script.write_text(
        SCRIPTS[name].replace("http://127.0.0.1:8080", gateway.url).replace('"agent"', '"student"'),
        encoding="utf-8",
    )
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    ran = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**kept, "TUTELAGE_KEY": "unused", "LANGSMITH_TRACING": "false"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    episode = EPISODES[name]
    assert episode is None or f"episode={episode} " in gateway.log.read_text("utf-8")
