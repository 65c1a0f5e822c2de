"""The house stands as it was drawn: floors, sizes, links, and a light door."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tutelage"
ROOMS = ("retrieval", "cascade", "training", "benchmarks")
LINKS = ("runtime", *ROOMS, "cli")
DOOR = (
    "acting",
    "chaining",
    "draw_study",
    "assembly",
    "rehearsal",
    "policies",
    "calibrating",
    "staged_play",
    "labelling",
    "savings",
    "costs",
    "recorded",
    "recorded_bank",
    "recorded_student",
    "policy_study",
    "lazy",
    "checkup",
    "gathering",
    "generations",
    "endpoints",
    "caught_up",
    "curating",
    "demonstrating",
    "trace_writing",
    "released",
    "releasing",
    "evaluating",
    "learning",
    "loop",
    "parallel_agent",
    "overhead",
    "cli",
)
HEAVY = (
    "torch",
    "faiss",
    "litellm",
    "onnxruntime",
    "transformers",
    "vllm",
    "openai",
    "sqlalchemy",
    "aiohttp",
    "pydantic",
    "numpy",
)
LONGEST_FILE = 500


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_import_stays_on_its_floor() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]

    ran = subprocess.run(
        [*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 broken" in ran.stdout


@pytest.mark.parametrize("floor", ["runtime", *ROOMS])
def test_nothing_below_knows_the_door(floor: str) -> None:
    banned = {"tutelage", *(f"tutelage.{name}" for name in DOOR)}
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in (PACKAGE / floor).rglob("*.py")
        for name in imported(path)
        if name in banned or name.startswith(tuple(f"tutelage.{door}." for door in DOOR))
    }

    assert not found


def test_rooms_do_not_know_one_another() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for room in ROOMS
        for path in (PACKAGE / room).rglob("*.py")
        for name in imported(path)
        for other in ROOMS
        if other != room and f"{name}.".startswith(f"tutelage.{other}.")
    }

    assert not found


def test_no_file_is_too_long() -> None:
    files = [*modules(), *(ROOT / "tests").rglob("*.py")]
    lengths = {
        str(path.relative_to(ROOT)): path.read_bytes().count(b"\n")
        for path in files
        if "__pycache__" not in path.parts
    }

    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in modules()}

    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()


def test_mypy_checks_every_module() -> None:
    from mypy.config_parser import parse_config_file
    from mypy.find_sources import create_source_list
    from mypy.options import Options

    options = Options()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        parse_config_file(options, lambda: None, "pyproject.toml")
        assert options.files == ["src", "tests"]
        options.mypy_path = ["src"]
        sources = create_source_list(["src"], options)
        checked = {Path(str(source.path)).resolve() for source in sources}

    assert checked == set(modules())
    assert all(source.module.startswith("tutelage") for source in sources)


def test_ruff_checks_every_module() -> None:
    ruff = Path(sys.executable).with_name("ruff")

    ran = subprocess.run(
        [ruff, "check", ".", "--show-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    checked = {Path(line) for line in ran.stdout.splitlines()}
    assert set(modules()) <= checked
    assert set((ROOT / "tests").rglob("*.py")) <= checked


@pytest.mark.parametrize("name", LINKS)
def test_the_top_level_shows_the_house(name: str) -> None:
    link = ROOT / name

    assert link.is_symlink()
    assert os.readlink(link) == f"src/tutelage/{name}"
    assert link.resolve() == PACKAGE / name
    assert (link / "__init__.py").is_file()


def measured(code: str, *flags: str) -> dict[str, Any]:
    """Runs code in a fresh interpreter; CPU seconds are over those of an empty one."""
    tail = (
        "\nimport json, sys, time\n"
        "print(json.dumps([time.process_time(), sorted(sys.modules)]), file=sys.stderr)"
    )

    def run(program: str) -> tuple[float, list[str]]:
        ran = subprocess.run(
            [sys.executable, *flags, "-c", program + tail],
            capture_output=True,
            text=True,
            check=True,
        )
        cpu_s, loaded = json.loads(ran.stderr.splitlines()[-1])
        return cpu_s, loaded

    runs = [run(code) for _ in range(3)]
    return {
        "cpu_s": min(cpu_s for cpu_s, _ in runs),
        "empty_cpu_s": min(run("pass")[0] for _ in range(3)),
        "modules": runs[0][1],
    }


def heavy(names: list[str]) -> set[str]:
    return {name for name in HEAVY if any(f"{one}.".startswith(f"{name}.") for one in names)}


Report = Callable[[str, object], None]


def test_importing_tutelage_loads_nothing_heavy(record_property: Report) -> None:
    found = measured("import tutelage; dir(tutelage)")

    record_property("import_tutelage_cpu_s", found["cpu_s"])
    print(f"import tutelage: {found['cpu_s']:.3f} s CPU, {found['empty_cpu_s']:.3f} s an empty one")
    assert "tutelage" in found["modules"]
    assert heavy(found["modules"]) == set()


def test_help_loads_nothing_heavy(record_property: Report) -> None:
    code = (
        "import sys; sys.argv = ['tutelage', '--help']\n"
        "from tutelage.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )

    found = measured(code)

    record_property("help_cpu_s", found["cpu_s"])
    print(f"tutelage --help: {found['cpu_s']:.3f} s CPU, {found['empty_cpu_s']:.3f} s an empty one")
    assert heavy(found["modules"]) == set()
    assert "tutelage.assembly" not in found["modules"]


def test_the_package_is_the_one_of_this_tree() -> None:
    spec = importlib.util.find_spec("tutelage")

    assert spec is not None
    assert spec.origin == str(PACKAGE / "__init__.py")
