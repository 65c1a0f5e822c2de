"""Writes docs/scorecard.md: ``python -m tests.suites.scorecard FILE.xml [FILE.xml ...]``."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

MODES = ("passthrough", "teacher", "translated", "student", "refused")
NAMES = {
    "langchain_suite": "langchain-tests: ChatOpenAI over Chat Completions and Responses",
    "langchain_anthropic_suite": "langchain-tests: ChatAnthropic",
    "test_openai_sdk": "openai SDK: create, stream, parse, stored responses, models, embeddings",
    "test_anthropic_sdk": "anthropic SDK: create, stream, tools, token counting, errors",
    "test_agents_sdk": "OpenAI Agents SDK: tool loop, handoff, typed answer, streaming",
    "test_pydantic_ai": "Pydantic AI: tool loop, typed answer, streaming",
    "test_instructor": "Instructor: tools, JSON schema, JSON; Responses and Messages",
    "test_schemathesis": "schemathesis over our OpenAPI description",
}
SESSION_MODES = ("passthrough", "route", "cascade", "shadow")
SESSIONS = {
    "test_household_sessions": "agent loops of the SDKs play household games and solve them",
    "test_recorded_sessions": "recorded sessions of the SDKs, sent again",
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
SESSION_HEAD = """
## Agent sessions

Loops of the openai SDK (Chat Completions, Responses with the conversation kept by either side), the
anthropic SDK and, recorded, the OpenAI Agents SDK; unary and streamed; with a session header and
without one; before a student that agrees with itself and one that does not. `route` lets a coin
decide. `any`: two games that are alike, and demonstrations made of what was played.

"""
FOOT = """
Made by `python -m pytest tests/suites --junitxml=suites.xml`, the same for
`tests/suites/langchain_*suite.py` with `-W ignore -o asyncio_default_test_loop_scope=session`, then
`python -m tests.suites.scorecard` with both files. langchain-tests skips what needs the internet
(images, PDF), audio, and recorded cassettes. A response that is relayed is kept by its upstream,
not here, hence five skipped cases. Pydantic AI's model of Messages does not run with the installed
SDK of Anthropic. Claude Code and Codex CLI are no suites: how they were tried stands in
[clients](how-to/clients.md).
"""


def counts(paths: list[Path]) -> dict[tuple[str, str], Counter[str]]:
    """Outcomes by suite and mode."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for path in paths:
        for case in ElementTree.parse(path).iter("testcase"):
            modules = re.findall(r"\w+", case.get("classname", ""))
            suite = next((one for one in modules if one in NAMES or one in SESSIONS), None)
            if suite is None:
                continue
            words = set(re.findall(r"\w+", case.get("name", "").partition("[")[2]))
            modes = SESSION_MODES if suite in SESSIONS else MODES
            mode = next((one for one in modes if one in words), "any")
            outcome = next(
                (one.tag for one in case if one.tag in ("failure", "error", "skipped")), "passed"
            )
            found.setdefault((suite, mode), Counter())[outcome] += 1
    return found


def table(
    found: Mapping[tuple[str, str], Counter[str]], names: Mapping[str, str], modes: Sequence[str]
) -> str:
    """A row for each suite, a column for each mode."""
    columns = (*modes, "any")
    rows = [f"| suite | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for suite, name in names.items():
        cells = []
        for mode in columns:
            seen = found.get((suite, mode))
            broken = seen["failure"] + seen["error"] if seen else 0
            cells.append(f"{seen['passed']} / {broken} / {seen['skipped']}" if seen else "-")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def page(found: Mapping[tuple[str, str], Counter[str]]) -> str:
    """The page with its tables."""
    sessions = table(found, SESSIONS, SESSION_MODES)
    return HEAD + table(found, NAMES, MODES) + SESSION_HEAD + sessions + FOOT


if __name__ == "__main__":
    PAGE.write_text(page(counts([Path(one) for one in sys.argv[1:]])), encoding="utf-8")
