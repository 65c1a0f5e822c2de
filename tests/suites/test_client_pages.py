"""The code on the pages about clients does what the pages say, a loop with a tool included."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.suites.conftest import GATEWAYS
from tests.suites.gateways import RunningGateway
from tests.suites.pages import GATEWAY, INDEX, page, pages

pytestmark = pytest.mark.suites

ROOT = INDEX.parents[2]
EPISODES = {
    "anthropic-sdk": "task-18",
    "instructor": "task-22",
    "langchain": "task-20",
    "openai-agents": "task-19",
    "openai-sdk": "task-17",
    "pydantic-ai": "task-21",
}
"""The session that the code of each page names first."""
PRINTS = dict.fromkeys(EPISODES, "I heard: 18 degrees in Paris") | {
    "instructor": r"^city='Paris' degrees=1$"
}
"""What it prints at last."""
STEPS = {"instructor": 1}
"""Answers that it needs, where it is not two: a call of a tool, and what is said of its result."""
ELSEWHERE = ("claude-code", "codex", "litellm-behind", "litellm-in-front")
"""Pages without Python, which other tests run."""
SERVED = {
    "passthrough": "teacher passthrough",
    "student": "student agreed",
    "refused": "teacher disagreed",
    "spooled": "student agreed",
}


def test_every_page_is_run_and_every_page_is_listed() -> None:
    listed = re.findall(r"\(clients/([\w-]+)\.md\)", INDEX.read_text("utf-8"))

    assert sorted(listed) == pages() == sorted([*EPISODES, *ELSEWHERE])
    assert [name for name in pages() if page(name).blocks("py")] == list(EPISODES)


def test_the_versions_that_the_pages_name_are_those_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = set(project["optional-dependencies"]["suites"])
    index = INDEX.read_text("utf-8")
    told = {one for name in pages() for one in re.findall(r"`(\S+==[\d.]+)`", page(name).text)}

    assert {one for one in told if not one.startswith("langgraph")} <= pinned
    for name in pages():
        row = next(line for line in index.splitlines() if f"(clients/{name}.md)" in line)
        version = row.split("|")[4].split(",")[0].strip()
        assert re.search(rf"\b{re.escape(version)}\b", page(name).text), row


def run(
    code: str, gateway: RunningGateway, model: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    script = folder / "page.py"
    addressed = code.replace(GATEWAY, gateway.url).replace('"agent"', f'"{model}"')
    script.write_text(addressed, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env={**kept, "TUTELAGE_KEY": "unused", "LANGSMITH_TRACING": "false"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("mode", SERVED)
@pytest.mark.parametrize("name", EPISODES)
def test_the_code_of_a_page_runs_its_tool_and_gets_its_answer(
    name: str, mode: str, gateways: dict[str, RunningGateway], tmp_path: Path
) -> None:
    gateway = gateways[GATEWAYS.get(mode, "agrees")]
    after = gateway.log_characters

    ran = run(page(name).blocks("py")[0], gateway, mode, tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert re.search(PRINTS[name], ran.stdout, re.MULTILINE), ran.stdout
    steps = STEPS.get(name, 2)
    assert gateway.steps(EPISODES[name], steps, after=after) == [SERVED[mode]] * steps
    assert len(gateway.logged("route=feedback end=ok", 1, after=after)) == 1


@pytest.mark.parametrize("mode", ["student", "refused"])
def test_a_conversation_that_the_gateway_keeps_is_streamed_through(
    mode: str, gateways: dict[str, RunningGateway], tmp_path: Path
) -> None:
    gateway = gateways[GATEWAYS.get(mode, "agrees")]
    after = gateway.log_characters

    ran = run("\n\n".join(page("openai-sdk").blocks("py")), gateway, mode, tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "I heard: 18 degrees in Paris"
    assert gateway.steps("task-17-again", 2, after=after) == [SERVED[mode]] * 2


def test_a_graph_of_langgraph_is_one_episode(
    gateways: dict[str, RunningGateway], tmp_path: Path
) -> None:
    if importlib.util.find_spec("langgraph") is None:
        pytest.skip("LangGraph is not installed: pip install langgraph")
    gateway = gateways["agrees"]

    ran = run("\n\n".join(page("langchain").blocks("py")), gateway, "student", tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "I heard: 18 degrees in Paris"
    assert gateway.steps("task-20-graph", 2) == [SERVED["student"]] * 2
