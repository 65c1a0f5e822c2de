"""Writes docs/scorecard.md: ``python -m tests.suites.scorecard FILE.xml [FILE.xml ...]``."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

MODES = ("passthrough", "teacher", "translated", "student", "refused", "spooled")
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
PROGRAMS = {
    "test_claude_code": "Claude Code 2.1.197: a command is run; thinking; a session resumed",
    "test_codex": "Codex CLI 0.169.0: a command is run; its own tools; a thread resumed",
    "test_litellm": "LiteLLM 1.106.2 in front of us and behind us: tool loop, streaming, usage",
    "test_client_pages": "the code of the pages about clients",
    "test_database_down": "answers with a database and without one; the spool",
}
SESSION_MODES = ("passthrough", "route", "cascade", "shadow")
SESSIONS = {
    "test_household_sessions": "agent loops of the SDKs play household games and solve them",
    "test_recorded_sessions": "recorded sessions of the SDKs, sent again",
}
_OUTCOMES = ("failure", "error", "skipped")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "scorecard.md"
HEAD = """\
# Client scorecard

Third-party suites and SDKs against a real gateway on a socket, in continuous integration. The model
behind it is scripted, so this is about the protocol, not about quality. `passthrough`: bytes
relayed; `teacher`: through the runtime in the client's API; `translated`: the teacher speaks Chat
Completions alone; `student`: its samples agree; `refused`: they do not, the teacher serves;
`spooled`: as `student`, while the database is gone. Cells are passed / failed / skipped by the
suite itself; `any` counts cases that no mode applies to.

"""
PROGRAM_HEAD = """
## Programs, proxies, pages

Claude Code and Codex CLI run as programs, not interactively, each with a tool that they execute;
LiteLLM's proxy runs as a process. They are skipped where they are not installed: they are not part
of the extra `suites`. What each does is told on [its page](how-to/clients.md).

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
not here, and without a database none is kept, hence five skipped cases in each of the two. Pydantic
AI's model of Messages does not run with the installed SDK of Anthropic. What fails is known, and
told on the page of the client.
"""


def counts(paths: list[Path]) -> dict[tuple[str, str], Counter[str]]:
    """Outcomes by suite and mode."""
    found: dict[tuple[str, str], Counter[str]] = {}
    known = {**NAMES, **PROGRAMS, **SESSIONS}
    for path in paths:
        for case in ElementTree.parse(path).iter("testcase"):
            modules = re.findall(r"\w+", case.get("classname", ""))
            suite = next((one for one in modules if one in known), None)
            if suite is None:
                continue
            words = set(re.findall(r"\w+", case.get("name", "").partition("[")[2]))
            modes = SESSION_MODES if suite in SESSIONS else MODES
            mode = next((one for one in modes if one in words), "any")
            outcome = next((_outcome(one) for one in case if one.tag in _OUTCOMES), "passed")
            found.setdefault((suite, mode), Counter())[outcome] += 1
    return found


def _outcome(told: ElementTree.Element) -> str:
    """A case that is known to fail is one that fails."""
    return "failure" if told.get("type") == "pytest.xfail" else told.tag


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
    programs = table(found, PROGRAMS, MODES)
    suites = table(found, NAMES, MODES)
    return HEAD + suites + PROGRAM_HEAD + programs + SESSION_HEAD + sessions + FOOT


if __name__ == "__main__":
    PAGE.write_text(page(counts([Path(one) for one in sys.argv[1:]])), encoding="utf-8")
