"""The command line in this process, and a household that was played with it once."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from tests.isolation import isolate  # noqa: E402
from tests.scripted_endpoint import ScriptedEndpoint  # noqa: E402

HASH = ("--set", "retrieval.embedder=hash")


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


Run = Callable[..., Ran]


def run(*arguments: object) -> Ran:
    """Runs ``tutelage`` with these arguments through its entry point."""
    from tutelage.cli.main import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["tutelage", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    texts = []
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
        texts.append(stream.read())
    code = ended.value.code
    assert code is None or isinstance(code, int), code
    return Ran(code or 0, *texts)


@dataclass(frozen=True)
class Played:
    """A household that was collected, replayed and scored."""

    folder: Path
    endpoint: ScriptedEndpoint
    collected: Ran
    replayed: Ran
    scored: Ran

    @property
    def store(self) -> tuple[str, ...]:
        return (*HASH, "--set", f"store.url=sqlite:///{self.folder}/played.sqlite")

    @property
    def results(self) -> Path:
        return self.folder / "results"


@pytest.fixture(name="tutelage")
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command line in an empty folder."""
    isolate(monkeypatch, tmp_path)
    return run


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as made:
        yield made


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("played")
    store = (*HASH, "--set", f"store.url=sqlite:///{folder}/played.sqlite")
    with ScriptedEndpoint() as made:
        student = made.settings("student")
        bank = ("--split", "train:3", "--out", folder / "bank")
        arms = ("--arms", "teacher,student,demos-cascade", "--split", "test:2", "--max-steps", "20")
        out = ("--out", folder / "results")
        steps = ("--steps", "6")
        with pytest.MonkeyPatch.context() as patch:
            isolate(patch, folder)
            collected = run("collect", "household", *bank, "--json", *store)
            replayed = run("replay", "household", *arms, *out, "--json", *store, *student)
            scored = run("accuracy", folder / "results", *steps, "--json", *store, *student)
        yield Played(folder, made, collected, replayed, scored)
