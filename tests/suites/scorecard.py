"""Writes docs/scorecard.md: ``python -m tests.suites.scorecard FILE.xml [FILE.xml ...]``."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

MODES = ("passthrough", "teacher", "translated", "student", "refused")
NAMES = {
    "langchain_suite": "langchain-tests, ChatOpenAI over Chat Completions and Responses",
    "test_openai_sdk": "openai SDK: create, stream, parse, stored responses, models, embeddings",
    "test_anthropic_sdk": "anthropic SDK: create, stream, tools, token counting, errors",
    "test_agents_sdk": "OpenAI Agents SDK: tool loop, handoff, typed answer, streaming",
    "test_pydantic_ai": "Pydantic AI: tool loop, typed answer, streaming",
    "test_instructor": "Instructor: tools and JSON schema",
    "test_schemathesis": "schemathesis over our OpenAPI description",
}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "scorecard.md"
HEAD = """\
# Client scorecard

Third-party suites and SDKs against a real gateway on a socket, in continuous integration. The model
behind it is scripted, so this is about the protocol, not about quality. `passthrough`: bytes
relayed; `teacher`: through the runtime in the client's API; `translated`: the teacher speaks Chat
Completions alone; `student`: its samples agree; `refused`: they do not, the teacher serves. Cells
are passed / failed / skipped by the suite itself; `any` counts cases that no mode applies to.

"""
FOOT = """
Made by `python -m pytest tests/suites --junitxml=suites.xml`, the same for
`tests/suites/langchain_suite.py` with `-W ignore`, then `python -m tests.suites.scorecard` with
both files. Claude Code and Codex CLI themselves were not run.
"""


def counts(paths: list[Path]) -> dict[tuple[str, str], Counter[str]]:
    """Outcomes by suite and mode."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for path in paths:
        for case in ElementTree.parse(path).iter("testcase"):
            modules = re.findall(r"\w+", case.get("classname", ""))
            suite = next((one for one in modules if one in NAMES), None)
            if suite is None:
                continue
            words = set(re.findall(r"\w+", case.get("name", "").partition("[")[2]))
            mode = next((one for one in MODES if one in words), "any")
            outcome = next(
                (one.tag for one in case if one.tag in ("failure", "error", "skipped")), "passed"
            )
            found.setdefault((suite, mode), Counter())[outcome] += 1
    return found


def page(found: dict[tuple[str, str], Counter[str]]) -> str:
    """The page with its table."""
    columns = (*MODES, "any")
    rows = [f"| suite | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for suite, name in NAMES.items():
        cells = []
        for mode in columns:
            seen = found.get((suite, mode))
            broken = seen["failure"] + seen["error"] if seen else 0
            cells.append(f"{seen['passed']} / {broken} / {seen['skipped']}" if seen else "-")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return HEAD + "\n".join(rows) + "\n" + FOOT


if __name__ == "__main__":
    PAGE.write_text(page(counts([Path(one) for one in sys.argv[1:]])), encoding="utf-8")
