"""The documentation says what is true: links, commands, settings, code and generated pages."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from tests.scripted_endpoint import ScriptedEndpoint

from tutelage.cli.main import app
from tutelage.cli.options import settings
from tutelage.runtime.config import load_config
from tutelage.runtime.types import Reason

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")
INLINE = re.compile(r"`((?:tutelage|make) [^`\n]+)`")
COMMENT = re.compile(r"\s{2,}#.*$")
PRINTED = {
    "quickstart.md": (
        r"open drawer 1\n\{'served': 'student', 'reason': 'agreed', 'trace_id': '[0-9a-f]+'\}\n"
        r"open drawer 1 student agreed\n"
    ),
    "how-to/own-agent.md": r"student agreed open drawer 1\n",
    "how-to/world.md": (
        r"Opening\(goal='deliver the parcel to floor 1', observation='The lift is on floor 0\.'\)\n"
        r"Outcome\(observation='The lift is on floor 1\.', done=False, success=False\)\n"
    ),
}
"""What the code of a page prints with a student that always says the same."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [code for found, code in FENCE.findall(text) if found == language]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every ``tutelage`` and ``make`` command of a page, without what sets them up."""
    lines = [COMMENT.sub("", line) for code in blocks(page, "sh") for line in code.splitlines()]
    for line in [*lines, *INLINE.findall(page.read_text(encoding="utf-8"))]:
        words = shlex.split(line)
        while words and "=" in words[0]:
            words.pop(0)
        if words and words[0] in ("tutelage", "make"):
            yield words


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says(generate: ModuleType) -> None:
    stored = {page.name: page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md")}

    assert stored == generate.pages(), "out of date: run `make docs`"


def test_a_stale_page_is_named_and_written_anew(
    generate: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(generate, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    generate.main()
    (tmp_path / "reference" / "cli.md").write_text("old", encoding="utf-8")

    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    with pytest.raises(SystemExit, match=r"^out of date: cli\.md; run `make docs`$"):
        generate.main()
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    capsys.readouterr()
    generate.main()

    assert capsys.readouterr().out == f"wrote {tmp_path}/reference/cli.md\n"
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        generate.main()
    assert ended.value.code == 0


def test_the_reference_names_every_command_and_key(generate: ModuleType) -> None:
    pages = generate.pages()

    for key in ("tenant", "teacher.price.cache_read", "student.threads", "cascade.guards"):
        assert f"| `{key}` |" in pages["config.md"]
    for verb in ("init", "collect", "demos harvest", "traces show", "student start"):
        assert f"## tutelage {verb}\n" in pages["cli.md"]
    assert "130 interrupted" in pages["errors.md"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    missing = [
        link for link in links if "://" not in link and not (page.parent / link).resolve().exists()
    ]

    assert missing == []


def test_every_page_is_reachable_from_the_first() -> None:
    seen: set[Path] = set()
    queue = [DOCS / "README.md"]
    while queue:
        page = queue.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = LINK.findall(page.read_text(encoding="utf-8"))
        queue += [(page.parent / link).resolve() for link in links if "://" not in link]

    assert {page for page in DOCS.rglob("*.md") if page not in seen} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        if words[0] == "make":
            verbs = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
            assert set(words[1:]) <= set(verbs), words
            continue
        command: Any = typer.main.get_command(app)
        rest = words[1:]
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        if getattr(command, "commands", None):
            assert rest == [], f"{' '.join(words)}: there is no such command"
            continue
        if page.parent.name != "reference" and any(word.startswith("-") for word in rest):
            context = command.make_context(words[-1], rest)
            load_config(environment={}, overrides=settings(context.params.get("setting")))


@pytest.mark.parametrize("page", pages_with("toml"), ids=name_of)
def test_configurations_are_valid(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, text in enumerate(blocks(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")

        assert load_config(file, environment={}) != load_config(environment={})


@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    """The code of a page is one script; models are scripted, the rest is real."""
    configured = blocks(page, "toml")
    if configured:
        (tmp_path / "tutelage.toml").write_text(configured[0], encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks(page, "python")), encoding="utf-8")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("TUTELAGE_")
    }
    with ScriptedEndpoint("open drawer 1") as endpoint:
        scripted = {
            "OPENAI_BASE_URL": endpoint.base_url,
            "OPENAI_API_KEY": "none",
            "TUTELAGE_CACHE": str(tmp_path / "cache"),
            "TUTELAGE_RETRIEVAL__EMBEDDER": "hash",
            "TUTELAGE_STUDENT__BASE_URL": endpoint.base_url,
            "TUTELAGE_STUDENT__MODEL": "small",
            "TUTELAGE_STUDENT__PRICED_AS": "gpt-4.1-mini",
            "TUTELAGE_TEACHER__BASE_URL": endpoint.base_url,
            "TUTELAGE_TEACHER__MODEL": "gpt-4.1",
        }
        ran = subprocess.run(
            [sys.executable, "-W", "error", script],
            cwd=tmp_path,
            env={**environment, **scripted},
            capture_output=True,
            text=True,
            check=False,
        )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.fullmatch(PRINTED[page.relative_to(DOCS).as_posix()], ran.stdout), ran.stdout


def test_every_reason_of_a_decision_is_explained() -> None:
    page = (DOCS / "how-to" / "own-agent.md").read_text(encoding="utf-8")

    assert [reason for reason in Reason if f"`{reason.value}`" not in page] == []
