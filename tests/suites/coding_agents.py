"""Coding agents that are programs of npm, run as their pages say before a scripted model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.suites.clever_upstream import CleverUpstream, served
from tests.suites.gateways import RunningGateway, lose_database, serving, write_config
from tests.suites.heard import Heard, heard_on
from tests.suites.pages import GATEWAY, Page
from tests.upstream_answers import Said

from tutelage.runtime.cache_dir import cache_dir

FILE, WRITTEN = "note.txt", "the cup is on desk 7"
COMMAND = f"cat {FILE}"
TOOLS = {
    "Bash": {"command": COMMAND, "description": "Shows the note"},
    "exec_command": {"cmd": COMMAND},
}
"""Tools that run a command, and what they are called with."""
ENDS_WITHIN_S = 120.0


def coder(heard: Heard) -> Said:
    """Looks into the file that is asked for, then repeats what it says."""
    if heard.results:
        return Said(f"It says: {heard.results[-1].strip()}")
    names = {tool.name for tool in heard.tools}
    for name, arguments in TOOLS.items():
        if name in names:
            return Said(calls=((f"call_{len(heard.transcript)}", name, json.dumps(arguments)),))
    return Said("There is no tool that runs a command.")


@dataclass(frozen=True)
class Program:
    """A program of npm."""

    name: str
    package: str
    version: str
    """The one that its page was tried with."""

    def path(self) -> Path:
        """Where it is; the test is skipped if it is not installed."""
        folder = cache_dir() / "clients" / "node_modules" / ".bin"
        found = shutil.which(self.name, path=f"{folder}{os.pathsep}{os.environ['PATH']}")
        if found is None or shutil.which("jq") is None:
            # Not ``absent``: a program of another vendor, hundreds of megabytes large.
            pytest.skip(
                f"{self.name} and jq are not both installed: npm install --prefix "
                f"{cache_dir() / 'clients'} {self.package}@{self.version}"
            )
        return Path(found)


@dataclass(frozen=True)
class Ran:
    """What came of a run."""

    printed: str
    """All that the program printed."""
    served: dict[str, int]
    """Steps by who served them and why."""
    episodes: dict[str, bool | None]
    """Episodes in the database, and whether they are known to have succeeded."""
    results: list[str]
    """Results of tools, as the model got them last."""
    complaints: list[str]


def configured(folder: Path, page: Page, url: str, mode: str, student: str) -> Path:
    """The configuration that a page shows, with scripted models in the place of real ones."""
    (shown,) = page.blocks("toml")
    shown = shown.replace('mode = "cascade"', f'mode = "{mode}"')
    shown = shown.replace("https://api.anthropic.com/v1", url)
    shown = shown.replace('api_key_env = "ANTHROPIC_API_KEY"\n', "")
    endpoint = {"base_url": url, "attempts": 1}
    return write_config(
        folder,
        {
            "teacher": {**endpoint, "model": "gpt-4.1", "wires": ["responses"]},
            "student": {**endpoint, "model": student, "price": {"input": 0.1, "output": 0.2}},
            "retrieval": {"embedder": "hash"},
        },
        written=shown,
    )


def run(
    program: Program,
    page: Page,
    folder: Path,
    *,
    mode: str = "cascade",
    student: str = "coder",
    script: str | None = None,
    home: dict[str, str] | None = None,
    database: bool = True,
) -> Ran:
    """Runs what a page tells to run, in a folder with the file.

    Args:
        program: Skips the test if it is missing.
        page: Its page.
        folder: Where all is written.
        mode: Of the alias.
        student: Its model.
        script: Absent: all shell lines of the page but those that install.
        home: Files of its home folder, by path; the gateway's address in them is replaced.
        database: Whether there is one; else it is lost before the program starts.
    """
    path = program.path()
    model = {name: coder for name in ("coder", "gpt-4.1", "claude-sonnet-4-5")}
    upstream = CleverUpstream(model)
    lines = [one for one in page.blocks("bash") if "npm install" not in one]
    with served(upstream) as url:
        config = configured(folder / "gateway", page, url, mode, student)
        with serving({"one": config}) as gateways:
            gateway = gateways["one"]
            if not database:
                lose_database(gateway, "agent")
            after = gateway.log_characters
            printed = _printed(gateway, path, folder, script or "\n".join(lines), home or {})
    # It has stopped, so its log is complete.
    steps = Counter(gateway.steps(r"\S+", 0, after=after))
    asked = [(where, body) for where, body in upstream.requests if body["model"] != student]
    last = (asked or upstream.requests)[-1]
    results = list(heard_on(*last).results)
    episodes = gateway.episodes() if database else {}
    return Ran(printed, dict(steps), episodes, results, upstream.complaints)


def _printed(
    gateway: RunningGateway, program: Path, folder: Path, script: str, home: dict[str, str]
) -> str:
    work = folder / "work"
    work.mkdir()
    (work / FILE).write_text(f"{WRITTEN}\n", encoding="utf-8")
    for name, text in home.items():
        file = folder / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace(GATEWAY, gateway.url), encoding="utf-8")
    # What the program prints goes to a file on its way to jq.
    kept = script.replace("| jq", "| tee -a printed | jq").replace(GATEWAY, gateway.url)
    environment = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "TUTELAGE_KEY": "unused",
    }
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", kept],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            said, _ = shell.communicate(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            # The program too, not only the shell.
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    assert shell.returncode == 0, said
    return (work / "printed").read_text("utf-8")
