"""Solutions as code agents would write them, step by step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CALL = re.compile(r"apis\.(\w+)\.(\w+)")
_VALUE = re.compile(r"\$(\w+)")
_PAGES = re.compile(r"@pages (\w+) = (apis\.\w+\.\w+)\((.*)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """One step of a solution."""

    thought: str
    code: str

    @property
    def text(self) -> str:
        """What the agent says."""
        return f"{self.thought}\n```python\n{self.code}\n```"


def blocks_of(solution: str, values: Mapping[str, object], *, answers: bool) -> list[Block]:
    """All steps of a solution: reading the documentation, logging in, acting, completing.

    Args:
        solution: Blocks, each a line ``> thought`` and Python below it. ``$name`` stands for a
            value; ``@pages x = apis.app.api(...)`` for a loop over all pages.
        values: The values by name.
        answers: Whether the task ends with the variable ``answer``.
    """
    written = [_written(block, values) for block in re.split(r"^> ", solution, flags=re.M)[1:]]
    used: dict[str, list[str]] = {}
    for block in written:
        for app, api in _CALL.findall(block.code):
            apis = used.setdefault(app, [])
            if api not in apis:
                apis.append(api)
    end = (
        "apis.supervisor.complete_task(answer=answer)"
        if answers
        else ("apis.supervisor.complete_task()")
    )
    last = Block("Everything is done, so I complete the task.", end)
    return [*_reading(used), *_logging_in(used), *written, last]


def _written(block: str, values: Mapping[str, object]) -> Block:
    thought, _, code = block.partition("\n")
    code = _VALUE.sub(lambda found: repr(values[found[1]]), code.strip())
    lines: list[str] = []
    for line in code.splitlines():
        found = _PAGES.fullmatch(line)
        lines += _loop(*found.groups()) if found else [line]
    return Block(thought.strip(), "\n".join(lines))


def _loop(name: str, api: str, arguments: str) -> list[str]:
    return [
        f"{name} = []",
        "for page in range(20):",
        f"    found = {api}({arguments}, page=page)",
        f"    {name} += found",
        "    if len(found) < 10:",
        "        break",
    ]


def _reading(used: Mapping[str, list[str]]) -> list[Block]:
    show = "apis.api_docs.show_app_descriptions()"
    blocks = [Block("I look which apps there are.", f"print({show})")]
    for app, apis in used.items():
        if app == "supervisor":
            continue
        blocks.append(
            Block(
                f"I look what {app} can do.",
                f"print(apis.api_docs.show_api_descriptions(app_name={app!r}))",
            )
        )
        docs = "\n".join(
            f"print(apis.api_docs.show_api_doc(app_name={app!r}, api_name={api!r}))"
            for api in ("login", *apis)
        )
        blocks.append(Block("I read how these APIs are called.", docs))
    return blocks


def _logging_in(used: Mapping[str, list[str]]) -> list[Block]:
    apps = [app for app in used if app != "supervisor"]
    logins = "\n".join(
        f"{app}_token = apis.{app}.login(**accounts[{app!r}])['access_token']" for app in apps
    )
    return [
        Block(
            "I get the accounts.",
            "accounts = {}\n"
            "for account in apis.supervisor.show_account_passwords():\n"
            "    accounts[account.pop('app_name')] = account\n"
            "print(accounts)",
        ),
        Block(f"I log in to {' and '.join(apps)}.", logins),
    ]
