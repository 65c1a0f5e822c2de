from __future__ import annotations

import sys
from pathlib import Path

import pytest

FAKE = Path(__file__).with_name("fake_appworld.py")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, with a stand-in for the package that can be imported."""
    package = tmp_path / "packages" / "appworld"
    (package / "apps").mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE.read_text())
    (package / "apps" / "__init__.py").write_text("")
    (package / "apps" / "supervisor.py").write_text("")
    for name in [name for name in sys.modules if name.partition(".")[0] == "appworld"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("APPWORLD_ROOT", "")
    data = tmp_path / "root" / "data"
    (data / "datasets").mkdir(parents=True)
    (data / "datasets" / "train.txt").write_text("bell_1\nbell_2\n")
    for id in ("bell_1", "bell_2", "bare_1"):
        (data / "tasks" / id).mkdir(parents=True)
    return data.parent


@pytest.fixture(autouse=True)
def forget_the_stand_in() -> object:
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "appworld"]:
        del sys.modules[name]
