from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tutelage.overhead.gateway.programs import compiled
from tutelage.overhead.gateway.upstream import open_upstream
from tutelage.runtime.errors import BenchmarkError


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_a_program_is_compiled_once(tmp_path: Path) -> None:
    program = compiled("upstream", tmp_path)
    assert program is not None
    made_at = program.stat().st_mtime_ns

    assert compiled("upstream", tmp_path) == program
    assert program.stat().st_mtime_ns == made_at


def test_without_a_compiler_there_is_no_program_and_the_upstream_is_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert compiled("upstream", tmp_path) is None
    with open_upstream(tmp_path / "upstream", tmp_path) as made:
        assert not made.is_compiled


def test_a_compiler_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")

    with pytest.raises(BenchmarkError, match=r"false -O2 .* ended with 1: no message"):
        compiled("upstream", tmp_path)
